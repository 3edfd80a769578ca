// SPDX-License-Identifier: MIT
/*
 * How long a system call takes, as a histogram of powers of two.
 *
 *     bpf2py run examples/latency.bpf.c --variable wanted=1
 *
 * `wanted` is the number of the system call: 0 is read on x86-64, 1 write. A call whose thread ends within it is never counted.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10240);
    __type(key, __u32); /* thread */
    __type(value, __u64); /* when the call began, ns */
} begun SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 40);
    __type(key, __u32); /* slot: 2**slot ns and more */
    __type(value, __u64);
} hist_ns SEC(".maps");

/* The contexts of the tracepoints: events/raw_syscalls/sys_enter/format and sys_exit/format of tracefs. */
struct syscall_args {
    __u64 common;
    __s64 number;
};

const volatile __s64 wanted = 0;

SEC("tracepoint/raw_syscalls/sys_enter")
int call_begins(struct syscall_args *ctx)
{
    __u32 thread = bpf_get_current_pid_tgid();
    __u64 now = bpf_ktime_get_ns();

    if (ctx->number == wanted)
        bpf_map_update_elem(&begun, &thread, &now, BPF_ANY);
    return 0;
}

static __u32 log2_of(__u64 value)
{
    __u32 result = 0;

    for (int shift = 32; shift; shift >>= 1) {
        if (value >> shift) {
            value >>= shift;
            result += shift;
        }
    }
    return result;
}

SEC("tracepoint/raw_syscalls/sys_exit")
int call_ends(struct syscall_args *ctx)
{
    __u32 thread = bpf_get_current_pid_tgid(), slot;
    __u64 *since = bpf_map_lookup_elem(&begun, &thread), *count;

    if (!since || ctx->number != wanted)
        return 0;
    slot = log2_of(bpf_ktime_get_ns() - *since);
    count = bpf_map_lookup_elem(&hist_ns, &slot);
    if (count)
        *count += 1;
    bpf_map_delete_elem(&begun, &thread);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
