from bpf2py.lang import *


class V(Struct):
    t: bpf_timer
    n: u64


m = Array[u32, V](max_entries=1)


def fired(map: Ptr[bpf_map], key: Ptr[u32], v: Ptr[V]) -> int:
    v.n += 1
    v.t.start(1000, fired)
    return 0


@tc
def f(ctx: SkbContext) -> int:
    v = m.get(0)
    if v is None:
        return 1
    return s32(v.t.start(1000, fired))
