from bpf2py.lang import *

inner1 = Hash[u32, u64](max_entries=4)
outer = ArrayOfMaps[u32, Hash[u32, u64]](max_entries=2, inner=Hash[u32, u64](max_entries=4), values=[inner1])


@syscall
def f(ctx: Context) -> int:
    m = outer.get(0)
    if m is None:
        return 1
    m[5] += 7
    m[6] = 1
    p = m.get(5)
    if p is None:
        return 2
    return s32(p.value)
