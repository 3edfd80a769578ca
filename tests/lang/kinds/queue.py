from bpf2py.lang import *

q = Queue[u32](max_entries=4)
b = BloomFilter[u32](max_entries=100)


@syscall
def f(ctx: Context) -> int:
    q.push(7)
    v: u32 = 0
    if q.pop(addr(v)) != 0:
        return 1
    b.push(v)
    if 7 in b:
        return s32(v)
    return 0
