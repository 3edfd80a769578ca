from bpf2py.lang import *


class Inner(Struct):
    a: u16
    b: array[u8, 6]


class Big(Struct, packed=True):
    t: u8
    inner: Inner
    many: array[Inner, 3]
    grid: array[array[u32, 3], 2]


big: Big = Big()
m = Hash[u32, Big](max_entries=3)
table: array[u32, 4] = [1, 2, 3]


def fill(p: Ptr[Inner], n: u32) -> u32:
    p.a = u16(n)
    for i in range(6):
        p.b[i] = u8(n + i)
    return n * 2


def first(p: Ptr[Big]) -> Ptr[Inner]:
    return addr(p.many[0])


@syscall
def f(ctx: Context) -> int:
    b = Big(t=4, inner=Inner(a=3))
    x = fill(addr(b.inner), 9)
    b.many[1] = b.inner
    b.grid[1][2] = table[2] + x
    inner = b.many[1]
    inner.b[0] += 1
    m[0] = b
    big.many[2].b[5] = 77
    p = m.get(0)
    if not p:
        return 1
    q = first(p)
    q.a = 5
    total = 0
    for row in b.grid:
        for cell in row:
            total += cell
    for e in p.many:
        total += e.b[0]
    return total + p.grid[1][2] + p.t
