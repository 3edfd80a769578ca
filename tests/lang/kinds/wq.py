from bpf2py.lang import *

from bpf2py.lang.kernel import bpf_wq, bpf_map


class V(Struct):
    w: bpf_wq
    n: u64


m = Array[u32, V](max_entries=1)


def cb(map: Ptr[bpf_map], key: Ptr[u32], v: Ptr[V]) -> int:
    v.n += 1
    return 0


@syscall
def f(ctx: Context) -> int:
    v = m.get(0)
    if v is None:
        return 1
    if v.w.init(m, 0):
        return 2
    if v.w.set_callback(cb, 0):
        return 3
    return s32(v.w.start(0))
