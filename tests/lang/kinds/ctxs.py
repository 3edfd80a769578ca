from bpf2py.lang import *


class Args(Struct):
    a: u32
    b: u64


out: u64 = 0


@syscall
def f(ctx: Ptr[Args]) -> int:
    global out
    out = ctx.b + ctx.a
    return 0


@tcx_ingress
def g(ctx: SkbContext) -> int:
    ctx.mark = 7
    ctx.cb[0] = 3
    if ctx.protocol == htons(ETH_P_IP):
        return TCX_PASS
    v = ctx.vlan_tci & 0xFFF
    return TCX_NEXT if v == 0 else TCX_DROP
