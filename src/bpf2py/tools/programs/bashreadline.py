"""Lines that people type into bash, or another program that uses readline."""

from bpf2py.lang import *

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

# Whom to watch: the same lines in every tool, set before it is loaded.
only_pid: Const[u32] = 0
only_comm: Const[char[16]] = ""
only_cgroup: Const[u64] = 0
only_followed: Const[u32] = 0
followed = Hash[u32, u32](max_entries=1)  # processes of the command that is run, shared with tree.py


def comm_is_wanted() -> bool:
    comm = char[16]()
    current_comm(comm)
    for i in range(16):
        if comm[i] != only_comm[i]:
            return False
        if comm[i] == 0:
            break
    return True


def in_cgroup() -> bool:
    for level in range(16):
        if get_current_ancestor_cgroup_id(level) == only_cgroup:
            return True
    return False


def is_wanted() -> bool:
    if only_pid and current_tgid() != only_pid:
        return False
    if only_followed and current_tgid() not in followed:
        return False
    if only_comm[0] and not comm_is_wanted():
        return False
    return not only_cgroup or in_cgroup()


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
