// SPDX-License-Identifier: MIT
/*
 * Every file that is opened, as an event: by whom, and which.
 *
 *     bpf2py run examples/opens.bpf.c
 *
 * An open there is no room for is counted in `lost`.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct open_event {
    __u32 pid;
    char comm[16];
    char path[64]; /* its beginning */
};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 18); /* bytes */
    __type(value, struct open_event);
} opens SEC(".maps");

/* The context of the tracepoint: /sys/kernel/tracing/events/syscalls/sys_enter_openat/format */
struct openat_args {
    __u64 common;
    __s64 number;
    __u64 directory;
    const char *path;
    __u64 flags;
    __u64 mode;
};

__u64 lost;

SEC("tracepoint/syscalls/sys_enter_openat")
int report_open(struct openat_args *ctx)
{
    struct open_event *event = bpf_ringbuf_reserve(&opens, sizeof(*event), 0);

    if (!event) {
        __sync_fetch_and_add(&lost, 1);
        return 0;
    }
    event->pid = bpf_get_current_pid_tgid() >> 32;
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    bpf_probe_read_user_str(event->path, sizeof(event->path), ctx->path);
    bpf_ringbuf_submit(event, 0);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
