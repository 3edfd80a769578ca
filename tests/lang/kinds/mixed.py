from bpf2py.lang import *

r = Array[u32, s64](max_entries=16)


@syscall
def f(ctx: Context) -> int:
    a: u32 = 7
    b: s32 = -3
    r[0] = a + b
    r[1] = a * b
    r[2] = s64(a < b)
    c: u8 = 200
    d: s16 = -300
    r[3] = c + d
    e: u64 = 10
    e += b
    r[4] = s64(e)
    t = True
    r[5] = t + 1
    r[6] = (a == 7) + (b < 0)
    r[7] = a & 0x0F | 0x30
    r[8] = ~a & 0xFF
    n = 0
    for i in range(3):
        n += i * b
    r[9] = n
    r[10] = -a
    r[11] = len("abc") + ord("a") + sizeof(u64)
    r[12] = 7 // -2
    r[13] = b % 5
    return 0
