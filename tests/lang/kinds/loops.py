from bpf2py.lang import *

out = Array[u32, u64](max_entries=16)


@syscall
def f(ctx: Context) -> int:
    total = 0
    for i in range(10):
        if i == 3:
            continue
        if i == 8:
            break
        total += i
    out[0] = total
    n = current_pid() & 63
    s: u64 = 0
    for j in range(n):
        s += j
    for k in range(10, 0, -2):
        s += k
    i2 = 0
    while i2 < 20:
        i2 += 3
    out[1] = s
    out[2] = i2
    arr = array[u32, 4]()
    for x in range(4):
        arr[x] = x * x
    for y in arr:
        s += y
    out[3] = s
    return 0
