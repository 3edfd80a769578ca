"""Every file that is opened, as an event: by all processes, or by the one in `only`."""

from bpf2py.lang import *


class Open(Struct):
    pid: u32
    comm: char[16]
    path: char[128]


counts = Hash[u32, u64](max_entries=10_240)
events = RingBuf[Open](size=1 << 20)
only: Const[u32] = 0  # set before loading
lost: u64 = 0


@tracepoint("syscalls/sys_enter_openat")
def on_open(ctx: TracepointContext) -> int:
    global lost
    pid = current_tgid()
    if only and pid != only:
        return 0
    counts[pid] += 1
    event = events.reserve()
    if event is None:
        lost += 1
        return 0
    event.pid = pid
    current_comm(event.comm)
    read_user_str(event.path, ctx.args[1])
    events.submit(event)
    return 0
