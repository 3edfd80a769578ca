from bpf2py.lang import *


@tc
def f(ctx: SkbContext) -> int:
    if ctx.len > 5:
        bpf_throw(3)
    return 0
