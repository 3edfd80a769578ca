from bpf2py.lang import *


class Msg(Struct):
    n: u64


urb = UserRingBuf[Msg](size=4096)
total: u64 = 0


def got(d: Ptr[bpf_dynptr], ctx: Ptr[u32]) -> int:
    global total
    m = Msg()
    if dynptr_read(m, sizeof(Msg), d, 0, 0) == 0:
        total += m.n
    return 0


@syscall
def f(ctx: Context) -> int:
    return s32(urb.drain(got))
