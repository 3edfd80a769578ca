from bpf2py.lang import *

total: u64 = 0


def body(i: u64, ctx: Ptr[u64]) -> int:
    ctx.value += i
    return 0


@syscall
def f(ctx: Context) -> int:
    s: u64 = 0
    loop(10, body, addr(s))
    return s32(s)
