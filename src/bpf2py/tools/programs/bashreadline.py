"""Lines that people type into bash, or another program that uses readline."""

from bpf2py.lang import *

from .whom import *

LINE = 4096


class Line(Struct):
    time_ns: u64
    cgroup: u64
    pid: u32
    uid: u32
    size: s32  # with its NUL; negative where it could not be read
    comm: char[16]
    line: array[u8, LINE]


events = RingBuf[Line](size=1 << 20)
lost: u64 = 0


@uretprobe
def on_return(ctx: KprobeContext) -> int:
    address = u64(PT_REGS_RC(ctx))
    if address == 0 or not is_wanted():
        return 0  # the end of the input
    event = events.reserve()
    if event is None:
        atomic_add(addr(lost), 1)
        return 0
    event.time_ns = ktime_get_ns()
    event.cgroup = get_current_cgroup_id()
    event.pid = current_tgid()
    event.uid = current_uid()
    current_comm(event.comm)
    event.size = s32(probe_read_user_str(event.line, LINE, address))
    events.submit(event)
    return 0
