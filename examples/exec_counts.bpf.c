// SPDX-License-Identifier: MIT
/*
 * Which programs are executed, how often, and when last: a hash map whose keys and values are structs.
 *
 *     bpf2py run examples/exec_counts.bpf.c -- make
 *
 * The tracepoint fires when execve() has succeeded, so comm is the name of the new program.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct command {
    char comm[16];
};

struct executions {
    __u64 count;
    __u64 last_ns; /* nanoseconds since boot, not counting suspend */
    __u32 last_pid;
    __u32 last_uid;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, struct command);
    __type(value, struct executions);
} exec_counts SEC(".maps");

SEC("tracepoint/sched/sched_process_exec")
int count_exec(void *ctx)
{
    struct command command = {};
    struct executions fresh = {};
    struct executions *found;

    bpf_get_current_comm(command.comm, sizeof(command.comm));
    found = bpf_map_lookup_elem(&exec_counts, &command);
    if (!found) {
        /* Another CPU may be faster; whoever is second finds the entry of the first. */
        bpf_map_update_elem(&exec_counts, &command, &fresh, BPF_NOEXIST);
        found = bpf_map_lookup_elem(&exec_counts, &command);
        if (!found)
            return 0; /* the map is full */
    }
    __sync_fetch_and_add(&found->count, 1);
    found->last_ns = bpf_ktime_get_ns();
    found->last_pid = bpf_get_current_pid_tgid() >> 32;
    found->last_uid = bpf_get_current_uid_gid();
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
