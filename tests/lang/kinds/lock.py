from bpf2py.lang import *


class V(Struct):
    lock: bpf_spin_lock
    a: u32
    b: u32


m = Array[u32, V](max_entries=1)


@tc
def f(ctx: SkbContext) -> int:
    v = m.get(0)
    if v is None:
        return 1
    with v.lock:
        v.a += 1
        if v.a > 5:
            return s32(v.b)
        v.b += v.a
    return 0
