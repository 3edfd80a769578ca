from bpf2py.lang import *


def find(n: u32) -> s32:
    i: u32 = 0
    while True:
        if i * i >= n:
            return s32(i)
        i += 1
        if i > 20:
            break
    return -1


def nested(a: u32) -> u32:
    count = 0
    for i in range(5):
        for j in range(5):
            if j == a:
                break
            if (i + j) % 2:
                continue
            count += 1
        if i == 3:
            return count + 100
    return count


flag: bool = False


@syscall
def f(ctx: Context) -> int:
    global flag
    flag = not flag
    big = 0xFFFF_FFFF_0000_0000
    y = big >> 40
    ok = y == 0xFFFFFF and flag
    z = u32(ok) + u32(nested(3))
    r = find(50)
    k: s32 = -5
    k //= 2
    k -= r
    if not ok or (r := find(3)) < 0:
        return 99
    c = 3 if z > 100 else 4 if z > 50 else 5
    return k * 1000 + s32(z) + c + r
