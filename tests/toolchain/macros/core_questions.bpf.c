#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
char LICENSE[] SEC("license") = "GPL";

struct task_struct___old { int state; } __attribute__((preserve_access_index));
SEC("socket") int prog(struct task_struct *t) {
	struct task_struct___old *old = (void *)t;
	int sum = bpf_core_field_exists(t->pid) + bpf_core_field_exists(struct task_struct, mm) + bpf_core_field_exists(old->state);
	sum += bpf_core_field_size(t->comm) + bpf_core_field_size(struct task_struct, comm);
	sum += bpf_core_field_offset(t->comm) + bpf_core_field_offset(struct task_struct, comm);
	sum += bpf_core_type_exists(struct task_struct) + bpf_core_type_matches(struct task_struct) + bpf_core_type_size(struct task_struct);
	sum += bpf_core_type_id_local(struct task_struct) + bpf_core_type_id_kernel(struct task_struct);
	sum += bpf_core_enum_value_exists(enum bpf_map_type, BPF_MAP_TYPE_HASH) + bpf_core_enum_value(enum bpf_map_type, BPF_MAP_TYPE_HASH);
	return sum + bpf_core_cast(t, struct task_struct)->pid;
}
