// SPDX-License-Identifier: MIT
/*
 * A hash map and an array map, both u32 -> u32, filled whenever a program is executed.
 *
 *     bpf2py run examples/map_basics.bpf.c -- true
 *
 * my_hash_map counts executions per process id; its 1003 entries fill up in time, and updates then fail with E2BIG.
 * my_array_map has slots 0 to 15, which are there from the start: slot 0 counts all executions, slot 1 those that
 * found no room in the hash map, the others executions by CPU (modulo 14).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1003);
    __type(key, __u32);
    __type(value, __u32);
} my_hash_map SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 16);
    __type(key, __u32);
    __type(value, __u32);
} my_array_map SEC(".maps");

static __always_inline void count_slot(__u32 slot)
{
    __u32 *count = bpf_map_lookup_elem(&my_array_map, &slot);

    if (count)
        __sync_fetch_and_add(count, 1);
}

SEC("tracepoint/syscalls/sys_enter_execve")
int count_execve(void *ctx)
{
    __u32 pid = bpf_get_current_pid_tgid() >> 32;
    __u32 zero = 0;
    __u32 *count;

    count_slot(0);
    count_slot(2 + bpf_get_smp_processor_id() % 14);

    count = bpf_map_lookup_elem(&my_hash_map, &pid);
    if (!count) { /* another CPU may be faster */
        bpf_map_update_elem(&my_hash_map, &pid, &zero, BPF_NOEXIST);
        count = bpf_map_lookup_elem(&my_hash_map, &pid);
    }
    if (count)
        __sync_fetch_and_add(count, 1);
    else
        count_slot(1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
