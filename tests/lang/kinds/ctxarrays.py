from bpf2py.lang import *


def mark(ctx: SkbContext, value: u32) -> None:
    ctx.mark = value
    ctx.tc_index = u32(ctx.mark) + 1


@tc
def f(ctx: SkbContext) -> int:
    for i in range(4):
        ctx.cb[i] = i * 3
        if ctx.mark == i:
            mark(ctx, i + 1)
    total = 0
    for i in range(4):
        total += ctx.cb[i]
    return s32(total + ctx.mark * 100)
