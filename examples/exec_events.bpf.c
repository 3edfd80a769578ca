// SPDX-License-Identifier: MIT
/*
 * Every program that is executed, as an event in a ring buffer: what a monitoring tool starts from.
 *
 *     with bpf2py.load("examples/exec_events.bpf.c") as obj, bpf2py.RingReader(obj.maps["events"]) as reader:
 *         obj.attach()
 *         for event in reader:
 *             print(event.pid, event.comm)
 *
 * The value type of the map is the type of its records. A record there is no room for is counted in `lost`: the ring buffer itself
 * keeps no count.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
    __u64 time_ns; /* nanoseconds since boot, not counting suspend */
    __u32 pid;
    __u32 uid;
    char comm[16];
};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 18); /* bytes */
    __type(value, struct event);
} events SEC(".maps");

__u64 lost;

SEC("tracepoint/sched/sched_process_exec")
int report_exec(void *ctx)
{
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

    if (!event) {
        __sync_fetch_and_add(&lost, 1);
        return 0;
    }
    event->time_ns = bpf_ktime_get_ns();
    event->pid = bpf_get_current_pid_tgid() >> 32;
    event->uid = bpf_get_current_uid_gid();
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    bpf_ringbuf_submit(event, 0);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
