from bpf2py.lang import *

Pid = u32


class E(Struct):
    """A record."""

    n: u32
    arr: array[u32, 8]


m = Hash[Pid, E](max_entries=8)
q = Hash[u32, u64](max_entries=8)


def helper(e: Ptr[E], i: u32) -> bool:
    """Says whether."""
    return e.arr[i & 7] == 5


@syscall
def f(ctx: Context) -> int:
    """A program."""
    e = E(n=1)
    e.arr[3] = 5
    m[1] = e
    if p := m.get(1):
        p.n += 4
    r = 0
    i = 0
    while i < 8 and e.arr[i] != 5:
        i += 1
    r += i
    if (x := m.get(1)) is not None and x.n == 5:
        r += 10
    y = m.get(2)
    if not y:
        r += 100
    if helper(addr(e), 3) and not helper(addr(e), 2):
        r += 1000
    print("text")
    t = get_current_task_btf().tgid if False else 3
    z = m.get(1)
    if z is None or z.n == 0:
        return -1
    r += z.n
    q[1] = 1
    q[2] = 2
    total: u64 = 0
    found: u32 = 0
    for k, v in q.items():
        if v.value == 2:
            found = k
            continue
        for k2, v2 in q.items():
            total += v2.value
            if k2 == 77:
                return 5
        e.n += 1
    r += s32(total) * 10000 + s32(found) * 100000 + s32(e.n)
    return r
