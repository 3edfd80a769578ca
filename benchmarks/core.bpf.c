// SPDX-License-Identifier: MIT
/* The map table.py reads first, in an object whose program needs the kernel's types. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 16);
    __type(key, u32);
    __type(value, u32);
} my_array_map SEC(".maps");

SEC("raw_tp/sched_process_exec") int record_parent(void *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task();
    u32 key = 1, value = BPF_CORE_READ(task, real_parent, tgid) + (u32)BPF_CORE_READ(task, mm, start_code);

    bpf_map_update_elem(&my_array_map, &key, &value, BPF_ANY);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
