from bpf2py.lang import *

h = Hash[u32, u64](max_entries=16)


@raw_tp("sched_switch")
def f(preempt: bool, prev: Ptr["task_struct"], next: Ptr["task_struct"]) -> int:
    ppid = prev.real_parent.tgid
    h[u32(ppid)] += 1
    if exists(prev.__state):
        h[1] = prev.__state
    buf = char[16]()
    buf = prev.comm
    print(f"{prev.comm} {next.pid} {buf}")
    x = prev.mm.arg_start
    h[2] = x
    if prev.flags & 0x200000:
        return 1
    return 0


@tp_btf("sched_switch")
def g(preempt: bool, prev: Ptr["task_struct"], next: Ptr["task_struct"]) -> int:
    t = get_current_task_btf()
    h[3] = u64(t.pid) + u64(prev.real_parent.tgid)
    h[4] = u64(t.comm[0])
    return 0
