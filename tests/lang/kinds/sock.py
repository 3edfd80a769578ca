from bpf2py.lang import *


@cgroup_connect4
def f(ctx: SockAddrContext) -> int:
    if ctx.user_ip4 == htonl(0x7F000001) and ntohs(u16(ctx.user_port)) == 80:
        return 0
    ctx.user_port = htons(8080)
    return 1


@sockops
def g(ctx: SockOpsContext) -> int:
    if ctx.op == BPF_SOCK_OPS_TCP_CONNECT_CB:
        sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG)
    return 0


@cgroup_skb_egress
def h(ctx: SkbContext) -> int:
    sk = ctx.sk
    if not sk:
        return 1
    full = sk_fullsock(sk)
    if full is None:
        return 1
    return 1 if full.family == AF_INET else 0


@sk_lookup
def l(ctx: SkLookupContext) -> int:
    return SK_PASS
