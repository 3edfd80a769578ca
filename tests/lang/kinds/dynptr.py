from bpf2py.lang import *

rb = RingBuf[u64](size=4096)


@syscall
def f(ctx: Context) -> int:
    d = bpf_dynptr()
    if rb.reserve_dynptr(8, d) != 0:
        d.discard()
        return 1
    x: u64 = 77
    d.write(0, addr(x), 8)
    d.submit()
    return 0
