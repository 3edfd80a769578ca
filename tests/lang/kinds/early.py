from bpf2py.lang import *

q = Hash[u32, u64](max_entries=8)


def pick(limit: u64) -> u32:
    for k, v in q.items():
        if v.value > limit:
            return k
    return 99


@syscall
def f(ctx: Context) -> int:
    q[4] = 10
    q[5] = 3
    return s32(pick(5)) * 100 + s32(pick(50))
