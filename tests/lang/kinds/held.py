from bpf2py.lang import *


class Ev(Struct):
    n: u32


rb = RingBuf[Ev](size=4096)


def finish(event: Ptr[Ev], keep: bool) -> None:
    if keep:
        rb.submit(event)
    else:
        rb.discard(event)


@tc
def f(ctx: SkbContext) -> int:
    if not (first := rb.reserve()):
        return 1
    first.n = 1
    ringbuf_submit(first, 0)
    second: Ptr[Ev] | None = rb.reserve()
    if second is not None:
        second.n = 2
    if second is not None:
        finish(second, ctx.len > 5)
    for i in range(3):
        third = rb.reserve()
        if third is None:
            continue
        third.n = i
        rb.submit(third)
    rb.output(Ev(n=9))
    return s32(rb.query(BPF_RB_AVAIL_DATA)) // 16
