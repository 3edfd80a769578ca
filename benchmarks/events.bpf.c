// SPDX-License-Identifier: MIT
/* Producers for bench_events.py: 32-byte records into a ring buffer or a perf buffer. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct event {
    u64 sequence;
    u64 time_ns;
    u32 pid;
    u32 cpu;
    u64 bytes;
};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 24);
    __type(value, struct event);
} ring SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, 4);
    __type(value, struct event);
} perf SEC(".maps");

u64 sequence, failed;
volatile u32 running;

SEC("syscall") int fill_ring(u32 *count)
{
    u32 n = *count;
    int i;

    bpf_for(i, 0, n) {
        struct event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);

        if (!event) {
            failed++;
            continue;
        }
        event->sequence = sequence++;
        event->time_ns = i;
        event->pid = 1;
        event->cpu = 2;
        event->bytes = 3;
        bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
    }
    return 0;
}

SEC("syscall") int stream_ring(u32 *count)
{
    u32 n = *count;
    int i;

    bpf_for(i, 0, n) {
        struct event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);

        if (!event) {
            failed++;
            continue;
        }
        event->sequence = sequence++;
        bpf_ringbuf_submit(event, 0);
    }
    return 0;
}

SEC("raw_tp/sys_enter") int fill_perf(u64 *ctx)
{
    struct event event = {.pid = 1, .cpu = 2, .bytes = 3};
    u32 n = ctx[0];
    int i;

    bpf_for(i, 0, n) {
        event.sequence = sequence++;
        if (bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event)))
            failed++;
    }
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
