"""Names that programs ask the C library to look up: getaddrinfo, gethostbyname and gethostbyname2."""

from bpf2py.lang import *

from .whom import *

NAME = 256


class Lookup(Struct):
    time_ns: u64
    cgroup: u64
    took_ns: u64
    pid: u32
    tid: u32
    result: s32  # of getaddrinfo 0 or EAI_...; of the others 0, or -1 where there was none
    call: u32
    comm: char[16]
    name: char[NAME]


class Call(Struct):
    stack: u64  # where its return address is: one calls another
    thread: u32
    unused: u32


class Begun(Struct):
    begin_ns: u64
    name: u64
    call: u32
    unused: u32


events = RingBuf[Lookup](size=1 << 20)
started = LruHash[Call, Begun](max_entries=16_384)
return_address: Const[u64] = 8
least_ns: Const[u64] = 0
only_failed: Const[u32] = 0
lost: u64 = 0


def begins(stack: u64, name: u64, call: u32) -> int:
    if name and is_wanted():
        started[Call(stack=stack, thread=current_pid())] = Begun(begin_ns=ktime_get_ns(), name=name, call=call)
    return 0


def ends(stack: u64, result: s32) -> int:
    key = Call(stack=stack - return_address, thread=current_pid())
    begun = started.get(key)
    if begun is None:
        return 0
    took = ktime_get_ns() - begun.begin_ns
    if took < least_ns or (only_failed and result == 0):
        started.delete(key)
        return 0
    event = events.reserve()
    if event is None:
        atomic_add(addr(lost), 1)
        started.delete(key)
        return 0
    event.time_ns = ktime_get_ns()
    event.cgroup = get_current_cgroup_id()
    event.took_ns = took
    event.pid = current_tgid()
    event.tid = current_pid()
    event.result = result
    event.call = begun.call
    current_comm(event.comm)
    probe_read_user_str(event.name, NAME, begun.name)
    started.delete(key)
    events.submit(event)
    return 0


@uprobe
def enter_getaddrinfo(ctx: KprobeContext) -> int:
    return begins(PT_REGS_SP(ctx), PT_REGS_PARM1(ctx), 0)


@uretprobe
def exit_getaddrinfo(ctx: KprobeContext) -> int:
    return ends(PT_REGS_SP(ctx), s32(PT_REGS_RC(ctx)))


@uprobe
def enter_gethostbyname(ctx: KprobeContext) -> int:
    return begins(PT_REGS_SP(ctx), PT_REGS_PARM1(ctx), 1)


@uretprobe
def exit_gethostbyname(ctx: KprobeContext) -> int:
    return ends(PT_REGS_SP(ctx), 0 if PT_REGS_RC(ctx) else -1)


@uprobe
def enter_gethostbyname2(ctx: KprobeContext) -> int:
    return begins(PT_REGS_SP(ctx), PT_REGS_PARM1(ctx), 2)


@uretprobe
def exit_gethostbyname2(ctx: KprobeContext) -> int:
    return ends(PT_REGS_SP(ctx), 0 if PT_REGS_RC(ctx) else -1)


@uprobe
def enter_gethostbyname_r(ctx: KprobeContext) -> int:
    return begins(PT_REGS_SP(ctx), PT_REGS_PARM1(ctx), 3)


@uretprobe
def exit_gethostbyname_r(ctx: KprobeContext) -> int:
    return ends(PT_REGS_SP(ctx), s32(PT_REGS_RC(ctx)))
