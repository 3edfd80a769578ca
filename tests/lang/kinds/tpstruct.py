from bpf2py.lang import *


class Args(Struct):
    pad: u64
    nr: s64
    fd: u64
    buf: Ptr[char]
    count: u64


x: u64 = 0


@tracepoint("syscalls/sys_enter_write")
def f(ctx: Ptr[Args]) -> int:
    global x
    x = ctx.count
    b = char[8]()
    read_user(b, ctx.buf)
    if b == "hello":
        return 1
    return 0


@tracepoint("sched/sched_process_exec")
def g(ctx: TracepointContext) -> int:
    name = char[64]()
    off = ctx.__data_loc_filename & 0xFFFF
    read_kernel_str(name, u64(ctx) + off)
    return 0
