from bpf2py.lang import *

m = Hash[u32, u64](max_entries=4)


class Node(Struct):
    v: u32
    w: u16


def bump(p: Ptr[u64]) -> u64:
    p.value += 1
    p[0] += 1
    return p.value


@global_function
def gsum(p: Ptr[Node], n: u32) -> int:
    return s32(p.v + n)


@subprogram
def swp(a: Ptr[u32], b: Ptr[u32]) -> None:
    t = a.value
    a.value = b.value
    b.value = t


@syscall
def f(ctx: Context) -> int:
    m[1] = 5
    p = m.get(1)
    if p is None:
        return -1
    x = bump(p)
    n = Node(v=3, w=4)
    q = addr(n)
    q.v += 2
    a: u32 = 1
    b: u32 = 2
    swp(addr(a), addr(b))
    return gsum(addr(n), 10) * 1000 + s32(x) * 10 + s32(a)
