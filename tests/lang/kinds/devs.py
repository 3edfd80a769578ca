from bpf2py.lang import *

devs = DevMap[u32, u32](max_entries=4)
cpus = CpuMap[u32, u32](max_entries=4)
xsks = XskMap(max_entries=4)


@xdp
def a(ctx: XdpContext) -> int:
    if ctx.rx_queue_index == 3:
        return s32(xsks.redirect(ctx.rx_queue_index, XDP_PASS))
    if ctx.ingress_ifindex == 1:
        return s32(cpus.redirect(0, 0))
    return s32(devs.redirect(1, XDP_DROP))


@xdp_devmap
def b(ctx: XdpContext) -> int:
    return XDP_PASS


@netfilter
def c(ctx: NetfilterContext) -> int:
    return NF_ACCEPT


@flow_dissector
def d(ctx: SkbContext) -> int:
    return 0


@sk_reuseport
def e(ctx: ReuseportContext) -> int:
    return SK_PASS


@perf_event
def g(ctx: PerfEventContext) -> int:
    x = ctx.sample_period
    return 0


@lwt_in
def h(ctx: SkbContext) -> int:
    return 0


@socket
def i(ctx: SkbContext) -> int:
    b = u8(0)
    skb_load_bytes(ctx, 0, addr(b), 1)
    return s32(b)
