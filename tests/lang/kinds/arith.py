from bpf2py.lang import *

r = Array[u32, s64](max_entries=32)


@syscall
def f(ctx: Context) -> int:
    a: s64 = -7
    b: s64 = 2
    r[0] = a // b
    r[1] = a % b
    c: u32 = 5
    r[2] = c - 6
    d: u8 = 250
    d += 10
    r[3] = d
    r[4] = a >> 1
    z: u64 = 0
    r[5] = 100 // z
    r[6] = min(a, b, 3) + max(c, 9) + abs(a)
    e = a or b
    r[7] = e if a < b < 3 else 4
    r[8] = 1 << (c & 7)
    x, y = a, b
    x, y = y, x
    r[9] = x * 10 + y
    return 0
