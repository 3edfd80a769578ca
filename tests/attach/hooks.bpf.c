// SPDX-License-Identifier: MIT
/* Programs that read their context, each with an array slot of its own for what it found. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

enum hook_slot {
    S_TRACEPOINT, S_RAW_TP, S_TP_BTF, S_XDP, S_UPROBE, S_KPROBE, S_KRETPROBE, S_KSYSCALL, S_FENTRY, S_FEXIT, S_ITER, S_COOKIE,
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 64);
    __type(key, u32);
    __type(value, u64);
} runs SEC(".maps");

static __always_inline void hit(u32 slot)
{
    u64 *count = bpf_map_lookup_elem(&runs, &slot);

    if (count)
        __sync_fetch_and_add(count, 1);
}

static __always_inline void put(u32 slot, u64 value)
{
    bpf_map_update_elem(&runs, &slot, &value, BPF_ANY);
}

SEC("tracepoint/syscalls/sys_enter_getppid") int on_tracepoint(void *ctx)
{
    hit(S_TRACEPOINT);
    return 0;
}

SEC("tracepoint/syscalls/sys_enter_getppid") int on_cookie(void *ctx)
{
    put(S_COOKIE, bpf_get_attach_cookie(ctx));
    return 0;
}

SEC("raw_tp/sched_process_exec") int on_raw_tp(void *ctx)
{
    hit(S_RAW_TP);
    return 0;
}

SEC("tp_btf/sched_process_exec") int BPF_PROG(on_tp_btf, struct task_struct *p)
{
    hit(S_TP_BTF);
    return 0;
}

SEC("perf_event") int on_perf_event(void *ctx)
{
    return 0;
}

SEC("xdp") int on_xdp(struct xdp_md *ctx)
{
    hit(S_XDP);
    return XDP_PASS;
}

SEC("uprobe") int on_uprobe(struct pt_regs *ctx)
{
    hit(S_UPROBE);
    return 0;
}

SEC("kprobe/do_getpgid") int BPF_KPROBE(on_kprobe, int pid)
{
    put(S_KPROBE, pid);
    return 0;
}

SEC("kretprobe/do_getpgid") int BPF_KRETPROBE(on_kretprobe, int ret)
{
    put(S_KRETPROBE, ret);
    return 0;
}

SEC("ksyscall/getpgid") int BPF_KSYSCALL(on_ksyscall, int pid)
{
    put(S_KSYSCALL, pid);
    return 0;
}

SEC("fentry/do_getpgid") int BPF_PROG(on_fentry, int pid)
{
    put(S_FENTRY, pid);
    return 0;
}

SEC("fexit/do_getpgid") int BPF_PROG(on_fexit, int pid, int ret)
{
    put(S_FEXIT, ret);
    return 0;
}

SEC("iter/task") int on_iter(struct bpf_iter__task *ctx)
{
    struct task_struct *task = ctx->task;

    if (!task)
        return 0;
    hit(S_ITER);
    BPF_SEQ_PRINTF(ctx->meta->seq, "%d %s\n", task->tgid, task->comm);
    return 0;
}

SEC("iter/bpf_map_elem") int on_map_elem(struct bpf_iter__bpf_map_elem *ctx)
{
    u64 *value = ctx->value;

    if (value)
        BPF_SEQ_PRINTF(ctx->meta->seq, "%llu\n", *value);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
