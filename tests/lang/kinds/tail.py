from bpf2py.lang import *


@xdp
def a(ctx: XdpContext) -> int:
    jumps.tail_call(ctx, 1)
    return 1


@xdp
def b(ctx: XdpContext) -> int:
    return 2


jumps = ProgArray(max_entries=2, values=[a, b])
