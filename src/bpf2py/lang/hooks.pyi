# Written by tools/lang_stubs.py from bpf2py.uapi.sections; not to be changed by hand.
from bpf2py.lang.programs import Hook

__all__: list[str] = [
    "socket",
    "sk_reuseport_migrate",
    "sk_reuseport",
    "kprobe",
    "uprobe",
    "uprobe_s",
    "kretprobe",
    "uretprobe",
    "uretprobe_s",
    "kprobe_multi",
    "kretprobe_multi",
    "kprobe_session",
    "uprobe_multi",
    "uretprobe_multi",
    "uprobe_session",
    "uprobe_multi_s",
    "uretprobe_multi_s",
    "uprobe_session_s",
    "ksyscall",
    "kretsyscall",
    "usdt",
    "usdt_s",
    "tc_ingress",
    "tc_egress",
    "tcx_ingress",
    "tcx_egress",
    "tc",
    "classifier",
    "action",
    "netkit_primary",
    "netkit_peer",
    "tracepoint",
    "tp",
    "raw_tracepoint",
    "raw_tp",
    "raw_tracepoint_w",
    "raw_tp_w",
    "tp_btf",
    "fentry",
    "fmod_ret",
    "fexit",
    "fsession",
    "fentry_s",
    "fmod_ret_s",
    "fexit_s",
    "fsession_s",
    "fentry_multi",
    "fexit_multi",
    "fsession_multi",
    "fentry_multi_s",
    "fexit_multi_s",
    "fsession_multi_s",
    "freplace",
    "lsm",
    "lsm_s",
    "lsm_cgroup",
    "iter",
    "iter_s",
    "syscall",
    "xdp_frags_devmap",
    "xdp_devmap",
    "xdp_frags_cpumap",
    "xdp_cpumap",
    "xdp_frags",
    "xdp",
    "perf_event",
    "lwt_in",
    "lwt_out",
    "lwt_xmit",
    "lwt_seg6local",
    "sockops",
    "sk_skb_stream_parser",
    "sk_skb_stream_verdict",
    "sk_skb_verdict",
    "sk_skb",
    "sk_msg",
    "lirc_mode2",
    "flow_dissector",
    "cgroup_skb_ingress",
    "cgroup_skb_egress",
    "cgroup_skb",
    "cgroup_sock_create",
    "cgroup_sock_release",
    "cgroup_sock",
    "cgroup_post_bind4",
    "cgroup_post_bind6",
    "cgroup_bind4",
    "cgroup_bind6",
    "cgroup_connect4",
    "cgroup_connect6",
    "cgroup_connect_unix",
    "cgroup_sendmsg4",
    "cgroup_sendmsg6",
    "cgroup_sendmsg_unix",
    "cgroup_recvmsg4",
    "cgroup_recvmsg6",
    "cgroup_recvmsg_unix",
    "cgroup_getpeername4",
    "cgroup_getpeername6",
    "cgroup_getpeername_unix",
    "cgroup_getsockname4",
    "cgroup_getsockname6",
    "cgroup_getsockname_unix",
    "cgroup_sysctl",
    "cgroup_getsockopt",
    "cgroup_setsockopt",
    "cgroup_dev",
    "struct_ops",
    "struct_ops_s",
    "sk_lookup",
    "netfilter",
]

socket: Hook
sk_reuseport_migrate: Hook
sk_reuseport: Hook
kprobe: Hook
uprobe: Hook
uprobe_s: Hook
kretprobe: Hook
uretprobe: Hook
uretprobe_s: Hook
kprobe_multi: Hook
kretprobe_multi: Hook
kprobe_session: Hook
uprobe_multi: Hook
uretprobe_multi: Hook
uprobe_session: Hook
uprobe_multi_s: Hook
uretprobe_multi_s: Hook
uprobe_session_s: Hook
ksyscall: Hook
kretsyscall: Hook
usdt: Hook
usdt_s: Hook
tc_ingress: Hook
tc_egress: Hook
tcx_ingress: Hook
tcx_egress: Hook
tc: Hook
classifier: Hook
action: Hook
netkit_primary: Hook
netkit_peer: Hook
tracepoint: Hook
tp: Hook
raw_tracepoint: Hook
raw_tp: Hook
raw_tracepoint_w: Hook
raw_tp_w: Hook
tp_btf: Hook
fentry: Hook
fmod_ret: Hook
fexit: Hook
fsession: Hook
fentry_s: Hook
fmod_ret_s: Hook
fexit_s: Hook
fsession_s: Hook
fentry_multi: Hook
fexit_multi: Hook
fsession_multi: Hook
fentry_multi_s: Hook
fexit_multi_s: Hook
fsession_multi_s: Hook
freplace: Hook
lsm: Hook
lsm_s: Hook
lsm_cgroup: Hook
iter: Hook
iter_s: Hook
syscall: Hook
xdp_frags_devmap: Hook
xdp_devmap: Hook
xdp_frags_cpumap: Hook
xdp_cpumap: Hook
xdp_frags: Hook
xdp: Hook
perf_event: Hook
lwt_in: Hook
lwt_out: Hook
lwt_xmit: Hook
lwt_seg6local: Hook
sockops: Hook
sk_skb_stream_parser: Hook
sk_skb_stream_verdict: Hook
sk_skb_verdict: Hook
sk_skb: Hook
sk_msg: Hook
lirc_mode2: Hook
flow_dissector: Hook
cgroup_skb_ingress: Hook
cgroup_skb_egress: Hook
cgroup_skb: Hook
cgroup_sock_create: Hook
cgroup_sock_release: Hook
cgroup_sock: Hook
cgroup_post_bind4: Hook
cgroup_post_bind6: Hook
cgroup_bind4: Hook
cgroup_bind6: Hook
cgroup_connect4: Hook
cgroup_connect6: Hook
cgroup_connect_unix: Hook
cgroup_sendmsg4: Hook
cgroup_sendmsg6: Hook
cgroup_sendmsg_unix: Hook
cgroup_recvmsg4: Hook
cgroup_recvmsg6: Hook
cgroup_recvmsg_unix: Hook
cgroup_getpeername4: Hook
cgroup_getpeername6: Hook
cgroup_getpeername_unix: Hook
cgroup_getsockname4: Hook
cgroup_getsockname6: Hook
cgroup_getsockname_unix: Hook
cgroup_sysctl: Hook
cgroup_getsockopt: Hook
cgroup_setsockopt: Hook
cgroup_dev: Hook
struct_ops: Hook
struct_ops_s: Hook
sk_lookup: Hook
netfilter: Hook
