from bpf2py.lang import *


class K(Struct):
    ip: u32
    port: u32


sm = SockMap(max_entries=4)
sh = SockHash[K](max_entries=4)


@sockops
def a(ctx: SockOpsContext) -> int:
    if ctx.op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
        k = K(ip=ctx.remote_ip4, port=ctx.local_port)
        sh.put(k, ctx, BPF_NOEXIST)
        sm.put(0, ctx)
    return 0


@sk_msg
def b(ctx: SkMsgContext) -> int:
    k = K(ip=ctx.remote_ip4, port=ctx.local_port)
    return s32(sh.redirect(ctx, k, BPF_F_INGRESS))


@sk_skb_stream_verdict
def c(ctx: SkbContext) -> int:
    return s32(sm.redirect(ctx, 0))


@sk_skb_stream_parser
def d(ctx: SkbContext) -> int:
    return s32(ctx.len)
