// SPDX-License-Identifier: MIT
/* Buffers of events whose type a reader must know. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct event {
    u64 time;
    u32 pid;
    char comm[16];
};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
    __type(value, struct event);
} ring SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __type(key, int);
    __type(value, struct event);
} perf SEC(".maps");

SEC("raw_tp/sched_switch") int nothing(void *ctx)
{
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
