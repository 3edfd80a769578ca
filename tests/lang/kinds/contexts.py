from bpf2py.lang import *
from bpf2py.lang.kernel import ethhdr, iphdr


def protocol(ctx: XdpContext) -> u32:
    ip = ctx.packet(iphdr, sizeof(ethhdr))
    if ip is None:
        return 0
    return ip.protocol


@subprogram
def parse(ctx: XdpContext, offset: u32) -> u32:
    byte = ctx.packet(u8, offset)
    if byte is None:
        return 0
    return byte.value


@global_function
def length(ctx: SkbContext) -> int:
    return s32(ctx.len)


@xdp
def f(ctx: XdpContext) -> int:
    if parse(ctx, 3) == 9 or protocol(ctx) == 17:
        return XDP_DROP
    return XDP_PASS


@tc
def g(ctx: SkbContext) -> int:
    return length(ctx)


def record(ctx: KprobeContext) -> u64:
    return PT_REGS_PARM1(ctx)


@kprobe("do_exit")
def h(ctx: KprobeContext) -> int:
    return s32(record(ctx))
