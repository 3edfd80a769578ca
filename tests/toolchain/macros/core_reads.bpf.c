#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
char LICENSE[] SEC("license") = "GPL";

SEC("socket") int prog(struct task_struct *t) {
	int pid, sum = BPF_CORE_READ(t, pid) + BPF_CORE_READ(t, mm, pgd) + BPF_CORE_READ(t, real_parent, real_parent, mm, pgd);
	sum += BPF_CORE_READ(t, real_parent, real_parent, real_parent, real_parent, real_parent, real_parent, real_parent, real_parent, real_parent, pid);
	char name[16]; unsigned long long pgd; const struct task_struct *constant = t;
	sum += BPF_CORE_READ_INTO(&pid, t, real_parent, pid) + BPF_CORE_READ_STR_INTO(&name, t, real_parent, comm);
	sum += BPF_CORE_READ_USER(t, mm, pgd) + BPF_CORE_READ_USER_INTO(&pgd, t, mm, pgd) + BPF_CORE_READ_USER_STR_INTO(&name, t, comm);
	sum += BPF_PROBE_READ(t, mm, pgd) + BPF_PROBE_READ_INTO(&pgd, t, mm, pgd) + BPF_PROBE_READ_STR_INTO(&name, t, comm);
	sum += BPF_PROBE_READ_USER(t, mm, pgd) + BPF_PROBE_READ_USER_INTO(&pgd, t, mm, pgd) + BPF_PROBE_READ_USER_STR_INTO(&name, t, comm);
	sum += bpf_core_read(&pid, sizeof(pid), &t->pid) + bpf_core_read_user(&pid, sizeof(pid), &t->pid);
	sum += bpf_core_read_str(name, sizeof(name), &t->comm) + bpf_core_read_user_str(name, sizeof(name), &t->comm);
	return sum + name[0] + pgd + pid + BPF_CORE_READ(constant, pid);
}
