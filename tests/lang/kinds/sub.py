from bpf2py.lang import *

counter: u64 = 0


@subprogram
def add(a: u64, b: u64) -> u64:
    return a + b


@global_function
def check(a: u32) -> int:
    global counter
    counter += a
    return 7


def inl(p: Ptr[u64]) -> None:
    p.value += 3


@syscall
def f(ctx: Context) -> int:
    x: u64 = 5
    inl(addr(x))
    y = add(x, 4)
    return check(3) + int(y)
