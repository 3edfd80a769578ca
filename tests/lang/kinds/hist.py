from bpf2py.lang import *


class Key(Struct):
    kind: u8
    slot: u32


h = PerCpuHash[Key, u64](max_entries=100)


def log2l(v: u64) -> u32:
    r: u32 = 0
    while v > 1 and r < 63:
        v >>= 1
        r += 1
    return r


@raw_tp("sys_enter")
def f(ctx: RawTracepointContext) -> int:
    k = Key(kind=1)
    k.slot = log2l(ktime_get_ns())
    h[k] += 1
    nr = ctx.args[1]
    if nr in (1, 2, 3) or nr in range(10, 20):
        h[Key(slot=u32(nr))] |= 4
    return 0
