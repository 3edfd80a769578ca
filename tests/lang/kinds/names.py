from bpf2py.lang import *


class event(Struct):
    int: u32
    register: u32


task_struct: u64 = 3


class sock(Struct):
    default: u64


m = Hash[u32, sock](max_entries=3)
sched_class = Hash[u32, event](max_entries=3)


@tracepoint("sched/sched_switch")
def tcp_sock(ctx: TracepointContext) -> int:
    long = 4
    e = event(int=long, register=3)
    sched_class[1] = e
    s = sock(default=3)
    m[2] = s
    return 0
