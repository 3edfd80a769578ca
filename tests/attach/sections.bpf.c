// SPDX-License-Identifier: MIT
/* A program for each SEC() name; each counts its runs in a variable of its own. Needs no vmlinux.h: compiled once for all kernels. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define COUNT(section, name, context, verdict) \
    __u64 runs_##name; \
    SEC(section) int on_##name(context *ctx) \
    { \
        __sync_fetch_and_add(&runs_##name, 1); \
        return verdict; \
    }

struct {
    __uint(type, BPF_MAP_TYPE_SOCKHASH);
    __uint(max_entries, 16);
    __type(key, __u32);
    __type(value, __u64);
} sockets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_DEVMAP);
    __uint(max_entries, 4);
    __type(key, __u32);
    __type(value, struct bpf_devmap_val);
} devices SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_CPUMAP);
    __uint(max_entries, 4);
    __type(key, __u32);
    __type(value, struct bpf_cpumap_val);
} cpus SEC(".maps");

/* Single sockets and socket maps */
COUNT("socket", socket_filter, struct __sk_buff, -1)
COUNT("sk_reuseport", reuseport, struct sk_reuseport_md, SK_PASS)
COUNT("sk_reuseport/migrate", reuseport_migrate, struct sk_reuseport_md, SK_PASS)
COUNT("sk_skb/stream_parser", stream_parser, struct __sk_buff, ctx->len)
COUNT("sk_skb/stream_verdict", stream_verdict, struct __sk_buff, SK_PASS)
COUNT("sk_skb/verdict", skb_verdict, struct __sk_buff, SK_PASS)
COUNT("sk_skb", skb_bare, struct __sk_buff, SK_PASS)
COUNT("sk_msg", sk_msg, struct sk_msg_md, SK_PASS)
COUNT("sk_lookup", sk_lookup, struct bpf_sk_lookup, SK_PASS)
COUNT("flow_dissector", dissector, struct __sk_buff, BPF_OK)
COUNT("netfilter", netfilter, void, 1 /* NF_ACCEPT */)

/* Traffic control; -1 is TCX_NEXT and TC_ACT_UNSPEC: go on with the next program. */
int tc_verdict = -1;
COUNT("tc", tc, struct __sk_buff, tc_verdict)
COUNT("classifier", classifier, struct __sk_buff, tc_verdict)
COUNT("tc/ingress", tc_ingress, struct __sk_buff, tc_verdict)
COUNT("tc/egress", tc_egress, struct __sk_buff, tc_verdict)
COUNT("tcx/ingress", tcx_ingress, struct __sk_buff, tc_verdict)
COUNT("tcx/egress", tcx_egress, struct __sk_buff, tc_verdict)
COUNT("netkit/primary", netkit_primary, struct __sk_buff, tc_verdict)
COUNT("netkit/peer", netkit_peer, struct __sk_buff, tc_verdict)
COUNT("action", action, struct __sk_buff, 0)
COUNT("lwt_in", lwt_in, struct __sk_buff, BPF_OK)
COUNT("lwt_out", lwt_out, struct __sk_buff, BPF_OK)
COUNT("lwt_xmit", lwt_xmit, struct __sk_buff, BPF_OK)
COUNT("lwt_seg6local", lwt_seg6local, struct __sk_buff, BPF_OK)

/* XDP */
COUNT("xdp", xdp, struct xdp_md, XDP_PASS)
COUNT("xdp.frags", xdp_frags, struct xdp_md, XDP_PASS)
COUNT("xdp/devmap", xdp_devmap, struct xdp_md, XDP_PASS)
COUNT("xdp.frags/devmap", xdp_frags_devmap, struct xdp_md, XDP_PASS)
COUNT("xdp/cpumap", xdp_cpumap, struct xdp_md, XDP_PASS)
COUNT("xdp.frags/cpumap", xdp_frags_cpumap, struct xdp_md, XDP_PASS)
COUNT("xdp", to_device, struct xdp_md, bpf_redirect_map(&devices, 1, XDP_DROP))
COUNT("xdp", to_cpu, struct xdp_md, bpf_redirect_map(&cpus, 0, XDP_DROP))
COUNT("xdp.frags", frags_to_device, struct xdp_md, bpf_redirect_map(&devices, 1, XDP_DROP))
COUNT("xdp.frags", frags_to_cpu, struct xdp_md, bpf_redirect_map(&cpus, 0, XDP_DROP))

/* Control groups; 1 allows. */
COUNT("cgroup/skb", cgroup_skb, struct __sk_buff, 1)
COUNT("cgroup_skb/ingress", skb_ingress, struct __sk_buff, 1)
COUNT("cgroup_skb/egress", skb_egress, struct __sk_buff, 1)
COUNT("cgroup/sock", sock, struct bpf_sock, 1)
COUNT("cgroup/sock_create", sock_create, struct bpf_sock, 1)
COUNT("cgroup/sock_release", sock_release, struct bpf_sock, 1)
COUNT("cgroup/post_bind4", post_bind4, struct bpf_sock, 1)
COUNT("cgroup/post_bind6", post_bind6, struct bpf_sock, 1)
COUNT("cgroup/bind4", bind4, struct bpf_sock_addr, 1)
COUNT("cgroup/bind6", bind6, struct bpf_sock_addr, 1)
COUNT("cgroup/connect4", connect4, struct bpf_sock_addr, 1)
COUNT("cgroup/connect6", connect6, struct bpf_sock_addr, 1)
COUNT("cgroup/connect_unix", connect_unix, struct bpf_sock_addr, 1)
COUNT("cgroup/sendmsg4", sendmsg4, struct bpf_sock_addr, 1)
COUNT("cgroup/sendmsg6", sendmsg6, struct bpf_sock_addr, 1)
COUNT("cgroup/sendmsg_unix", sendmsg_unix, struct bpf_sock_addr, 1)
COUNT("cgroup/recvmsg4", recvmsg4, struct bpf_sock_addr, 1)
COUNT("cgroup/recvmsg6", recvmsg6, struct bpf_sock_addr, 1)
COUNT("cgroup/recvmsg_unix", recvmsg_unix, struct bpf_sock_addr, 1)
COUNT("cgroup/getpeername4", getpeername4, struct bpf_sock_addr, 1)
COUNT("cgroup/getpeername6", getpeername6, struct bpf_sock_addr, 1)
COUNT("cgroup/getpeername_unix", getpeername_unix, struct bpf_sock_addr, 1)
COUNT("cgroup/getsockname4", getsockname4, struct bpf_sock_addr, 1)
COUNT("cgroup/getsockname6", getsockname6, struct bpf_sock_addr, 1)
COUNT("cgroup/getsockname_unix", getsockname_unix, struct bpf_sock_addr, 1)
COUNT("cgroup/getsockopt", getsockopt, struct bpf_sockopt, 1)
COUNT("cgroup/setsockopt", setsockopt, struct bpf_sockopt, 1)
COUNT("cgroup/sysctl", sysctl, struct bpf_sysctl, 1)
COUNT("cgroup/dev", dev, struct bpf_cgroup_dev_ctx, 1)
COUNT("sockops", sockops, struct bpf_sock_ops, 1)
COUNT("lsm_cgroup/socket_bind", lsm_cgroup, void, 1)

/* Tracepoints, perf events */
COUNT("tracepoint/syscalls/sys_enter_getppid", tracepoint, void, 0)
COUNT("tp/syscalls/sys_enter_getppid", tp, void, 0)
COUNT("raw_tracepoint/sys_enter", raw_tracepoint, void, 0)
COUNT("raw_tp/sys_enter", raw_tp, void, 0)
COUNT("raw_tracepoint.w/bpf_test_finish", raw_tracepoint_w, void, 0)
COUNT("raw_tp.w/bpf_test_finish", raw_tp_w, void, 0)
COUNT("tp_btf/sys_enter", tp_btf, void, 0)
COUNT("perf_event", perf_event, void, 0)

/* User-space probes */
COUNT("uprobe/libc.so.6:getpgid", uprobe, void, 0)
COUNT("uprobe.s/libc.so.6:getpgid", uprobe_s, void, 0)
COUNT("uretprobe/libc.so.6:getpgid", uretprobe, void, 0)
COUNT("uretprobe.s/libc.so.6:getpgid", uretprobe_s, void, 0)
COUNT("uprobe.multi/libc.so.6:getpgid", uprobe_multi, void, 0)
COUNT("uprobe.multi.s/libc.so.6:getpgid", uprobe_multi_s, void, 0)
COUNT("uretprobe.multi/libc.so.6:getpgid", uretprobe_multi, void, 0)
COUNT("uretprobe.multi.s/libc.so.6:getpgid", uretprobe_multi_s, void, 0)
COUNT("uprobe.session/libc.so.6:getpgid", uprobe_session, void, 0)
COUNT("uprobe.session.s/libc.so.6:getpgid", uprobe_session_s, void, 0)

/* Kernel functions */
COUNT("kprobe/do_getpgid", kprobe, void, 0)
COUNT("kretprobe/do_getpgid", kretprobe, void, 0)
COUNT("ksyscall/getpgid", ksyscall, void, 0)
COUNT("kretsyscall/getpgid", kretsyscall, void, 0)
COUNT("kprobe.multi/do_getpgi?", kprobe_multi, void, 0)
COUNT("kretprobe.multi/do_getpgid", kretprobe_multi, void, 0)
COUNT("kprobe.session/do_getpgid", kprobe_session, void, 0)
COUNT("fentry/do_getpgid", fentry, void, 0)
COUNT("fexit/do_getpgid", fexit, void, 0)
COUNT("fsession/do_getpgid", fsession, void, 0)
COUNT("fentry.multi/do_getpgid", fentry_multi, void, 0)
COUNT("fexit.multi/do_getpgi?", fexit_multi, void, 0)
COUNT("fsession.multi/do_getpgid", fsession_multi, void, 0)
COUNT("fmod_ret/security_task_getpgid", fmod_ret, void, 0)
COUNT("fentry.s/bpf_fentry_test1", fentry_s, void, 0)
COUNT("fexit.s/bpf_fentry_test1", fexit_s, void, 0)
COUNT("fsession.s/bpf_fentry_test1", fsession_s, void, 0)
COUNT("fentry.multi.s/bpf_fentry_test1", fentry_multi_s, void, 0)
COUNT("fexit.multi.s/bpf_fentry_test1", fexit_multi_s, void, 0)
COUNT("fsession.multi.s/bpf_fentry_test1", fsession_multi_s, void, 0)
COUNT("fmod_ret.s/bpf_fentry_test1", fmod_ret_s, void, 0)
COUNT("lsm/task_getpgid", lsm, void, 0)
COUNT("lsm.s/file_open", lsm_s, void, 0)

/* Iterators, programs that are run by hand */
COUNT("iter/task", iter, void, 0)
COUNT("iter.s/task", iter_s, void, 0)
COUNT("iter/bpf_map_elem", iter_map_elem, void, 0)
COUNT("iter/cgroup", iter_cgroup, void, 0)
COUNT("iter/bpf_map", iter_map, void, 0)
COUNT("syscall", syscall_program, void, 0)
COUNT("lirc_mode2", lirc, void, 0)

char LICENSE[] SEC("license") = "GPL";
