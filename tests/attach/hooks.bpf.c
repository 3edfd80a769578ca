// SPDX-License-Identifier: MIT
/* One program for each hook; each counts its runs in an array slot of its own. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

enum hook_slot {
    S_TRACEPOINT, S_RAW_TP, S_TP_BTF, S_XDP, S_TCX_INGRESS, S_TCX_EGRESS, S_CGROUP_SKB, S_CONNECT4, S_BIND4, S_SOCK,
    S_SOCKOPS, S_SOCKOPT, S_SYSCTL, S_DEVICE, S_SK_LOOKUP, S_SK_MSG, S_SK_SKB, S_SOCKET, S_NETFILTER, S_PERF,
    S_UPROBE, S_URETPROBE, S_UPROBE_MULTI, S_KPROBE, S_KRETPROBE, S_KSYSCALL, S_KPROBE_MULTI, S_FENTRY, S_FEXIT, S_LSM,
    S_ITER, S_COOKIE, S_REUSEPORT, S_FLOW, S_MAX,
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 64);
    __type(key, u32);
    __type(value, u64);
} runs SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SOCKHASH);
    __uint(max_entries, 16);
    __type(key, u32);
    __type(value, u64);
} sockets SEC(".maps");

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

SEC("xdp") int on_xdp(struct xdp_md *ctx)
{
    hit(S_XDP);
    return XDP_PASS;
}

SEC("tcx/ingress") int on_tcx_ingress(struct __sk_buff *skb)
{
    hit(S_TCX_INGRESS);
    return -1; /* TCX_NEXT, which headers before Linux 6.6 lack */
}

SEC("tc") int on_tc(struct __sk_buff *skb)
{
    hit(S_TCX_EGRESS);
    return -1; /* TCX_NEXT, which headers before Linux 6.6 lack */
}

SEC("cgroup_skb/egress") int on_cgroup_skb(struct __sk_buff *skb)
{
    hit(S_CGROUP_SKB);
    return 1;
}

SEC("cgroup/connect4") int on_connect4(struct bpf_sock_addr *ctx)
{
    hit(S_CONNECT4);
    return 1;
}

SEC("cgroup/bind4") int on_bind4(struct bpf_sock_addr *ctx)
{
    hit(S_BIND4);
    return 1;
}

SEC("cgroup/sock_create") int on_sock_create(struct bpf_sock *ctx)
{
    hit(S_SOCK);
    return 1;
}

SEC("sockops") int on_sockops(struct bpf_sock_ops *ctx)
{
    hit(S_SOCKOPS);
    return 1;
}

SEC("cgroup/getsockopt") int on_getsockopt(struct bpf_sockopt *ctx)
{
    hit(S_SOCKOPT);
    return 1;
}

SEC("cgroup/sysctl") int on_sysctl(struct bpf_sysctl *ctx)
{
    hit(S_SYSCTL);
    return 1;
}

SEC("cgroup/dev") int on_device(struct bpf_cgroup_dev_ctx *ctx)
{
    hit(S_DEVICE);
    return 1;
}

SEC("sk_lookup") int on_sk_lookup(struct bpf_sk_lookup *ctx)
{
    hit(S_SK_LOOKUP);
    return SK_PASS;
}

SEC("sk_msg") int on_sk_msg(struct sk_msg_md *msg)
{
    hit(S_SK_MSG);
    return SK_PASS;
}

SEC("sk_skb/stream_verdict") int on_sk_skb(struct __sk_buff *skb)
{
    hit(S_SK_SKB);
    return SK_PASS;
}

SEC("socket") int on_socket(struct __sk_buff *skb)
{
    hit(S_SOCKET);
    return -1;
}

SEC("sk_reuseport") int on_reuseport(struct sk_reuseport_md *ctx)
{
    hit(S_REUSEPORT);
    return SK_PASS;
}

SEC("netfilter") int on_netfilter(void *ctx)
{
    hit(S_NETFILTER);
    return 1; /* NF_ACCEPT */
}

SEC("perf_event") int on_perf_event(void *ctx)
{
    hit(S_PERF);
    return 0;
}

SEC("uprobe") int on_uprobe(struct pt_regs *ctx)
{
    hit(S_UPROBE);
    return 0;
}

SEC("uretprobe/libc.so.6:getpgid") int on_uretprobe(struct pt_regs *ctx)
{
    hit(S_URETPROBE);
    return 0;
}

SEC("uprobe.multi/libc.so.6:getpgid") int on_uprobe_multi(struct pt_regs *ctx)
{
    hit(S_UPROBE_MULTI);
    return 0;
}

SEC("kprobe/do_getpgid") int BPF_KPROBE(on_kprobe, int pid)
{
    hit(S_KPROBE);
    return 0;
}

SEC("kretprobe/do_getpgid") int BPF_KRETPROBE(on_kretprobe, int ret)
{
    hit(S_KRETPROBE);
    return 0;
}

SEC("ksyscall/getpgid") int BPF_KSYSCALL(on_ksyscall, int pid)
{
    put(S_KSYSCALL, pid);
    return 0;
}

SEC("kprobe.multi/do_getpgi?") int on_kprobe_multi(struct pt_regs *ctx)
{
    hit(S_KPROBE_MULTI);
    return 0;
}

SEC("fentry/do_getpgid") int BPF_PROG(on_fentry, int pid)
{
    hit(S_FENTRY);
    return 0;
}

SEC("fexit/do_getpgid") int BPF_PROG(on_fexit, int pid, int ret)
{
    hit(S_FEXIT);
    return 0;
}

SEC("lsm/task_getpgid") int BPF_PROG(on_lsm, struct task_struct *p)
{
    hit(S_LSM);
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
