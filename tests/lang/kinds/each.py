from bpf2py.lang import *


class V(Struct):
    n: u64
    m: u32


h = Hash[u32, V](max_entries=16)


def helper(limit: u64) -> u64:
    best: u64 = 0
    for key, v in h.items():
        if v.n > best and v.n < limit:
            best = v.n
        if key == 7:
            break
    return best


@syscall
def f(ctx: Context) -> int:
    v = V(n=5, m=2)
    h[3] = v
    v.n = 9
    h[4] = v
    count = 0
    for k in h:
        count += 1
        if k > 100:
            return 3
    b = helper(100)
    p = h.get(3)
    if p is not None:
        p.m += 1
    return s32(b) + count
