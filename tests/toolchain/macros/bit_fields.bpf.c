#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
char LICENSE[] SEC("license") = "GPL";

SEC("socket") int prog(struct task_struct *t) {
	BPF_CORE_WRITE_BITFIELD(t, flag_b, 5);
	return BPF_CORE_READ_BITFIELD(t, flag_b) + BPF_CORE_READ_BITFIELD_PROBED(t, flag_a) + BPF_CORE_READ_BITFIELD(t, wide);
}
