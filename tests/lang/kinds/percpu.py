from bpf2py.lang import *


class Ev(Struct):
    x: array[u8, 400]


hits: PerCpu[u64] = 0
names: array[char[8], 3] = ["ab", "cd", "ef"]
scratch = PerCpuArray[u32, Ev](max_entries=1)
comm: char[16] = "x"


@tracepoint("syscalls/sys_enter_getpid")
def f(ctx: TracepointContext) -> int:
    global hits
    hits += 2
    e = scratch.get(0)
    if not e:
        return 0
    e.x[3] = 4
    current_comm(comm)
    if comm == "python" or comm != b"abc":
        hits += 1
    if names[1][0] == ord("c"):
        hits *= 2
    return 0
