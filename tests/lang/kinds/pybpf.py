from bpf2py.lang import *

last = Hash[u64, u64](max_entries=3)


class data_t(Struct):
    pid: u64
    ts: u64
    comm: char[16]


events = PerfEventArray()


@tracepoint("syscalls/sys_enter_clone")
def hello(ctx: TracepointContext) -> int:
    d = data_t()
    d.pid = get_current_pid_tgid() >> 32
    d.ts = ktime_get_ns()
    get_current_comm(d.comm, 16)
    events.output(ctx, d)
    key = 0
    tsp = last.get(key)
    if tsp:
        delta = ktime_get_ns() - tsp.value
        if delta < 1000000000:
            ms = delta // 1000000
            print(f"execve called within last second, {ms} ms ago")
        last.delete(key)
    else:
        last.put(key, ktime_get_ns())
    return 0


@kprobe("vfs_read")
def kp(ctx: KprobeContext) -> int:
    return 0


@kretprobe("vfs_read")
def krp(ret: s64) -> int:
    h[u32(ret) if ret > 0 else 0] += 1
    return 0


h = Hash[u32, u64](max_entries=64)
