from bpf2py.lang import *


class Big(Struct):
    data: array[u8, 300]


big = PerCpuArray[u32, Big](max_entries=1)


def sum_up(p: Ptr[u8], n: u32) -> u32:
    s: u32 = 0
    for i in range(min(n, 100)):
        s += p[i]
    return s


@syscall
def f(ctx: Context) -> int:
    b = big.get(0)
    if b is None:
        return 1
    for i in range(300):
        b.data[i] = u8(i)
    h: u32 = 2166136261
    for c in b.data:
        h = (h ^ c) * 16777619
    return s32(sum_up(b.data, 50)) + s32(h % 1000)
