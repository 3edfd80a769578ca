"""Files that are opened, and attempts that fail: open, openat and openat2."""

from bpf2py.lang import *

from .whom import *

PATH = 4096


class Open(Struct):
    time_ns: u64
    cgroup: u64
    took_ns: u64
    pid: u32
    tid: u32
    uid: u32
    result: s32  # a descriptor, or a negative errno
    flags: u32
    mode: u32
    directory: s32
    length: s32  # of the path with its NUL; negative where it could not be read
    comm: char[16]
    path: array[u8, PATH]


class Attempt(Struct):
    begin_ns: u64
    path: u64
    flags: u32
    mode: u32
    directory: s32


class OpenHow(Struct):  # struct open_how
    flags: u64
    mode: u64


events = RingBuf[Open](size=1 << 23)
attempts = LruHash[u32, Attempt](max_entries=10_240)
only_failed: Const[u32] = 0
lost: u64 = 0


def remember(directory: u64, path: u64, flags: u64, mode: u64) -> int:
    if is_wanted():
        attempts[current_pid()] = Attempt(
            begin_ns=ktime_get_ns(), path=path, flags=u32(flags), mode=u32(mode), directory=s32(directory)
        )
    return 0


@tracepoint("syscalls/sys_enter_open")
def enter_open(ctx: TracepointContext) -> int:
    return remember(u64(-100), ctx.args[0], ctx.args[1], ctx.args[2])


@tracepoint("syscalls/sys_enter_openat")
def enter_openat(ctx: TracepointContext) -> int:
    return remember(ctx.args[0], ctx.args[1], ctx.args[2], ctx.args[3])


@tracepoint("syscalls/sys_enter_openat2")
def enter_openat2(ctx: TracepointContext) -> int:
    how = OpenHow()
    read_user(how, ctx.args[2])
    return remember(ctx.args[0], ctx.args[1], how.flags, how.mode)


def finished(result: s64) -> int:
    attempt = attempts.get(current_pid())
    if attempt is None:
        return 0
    if only_failed and result >= 0:
        del attempts[current_pid()]
        return 0
    event = events.reserve()
    if event is None:
        atomic_add(addr(lost), 1)
        del attempts[current_pid()]
        return 0
    event.time_ns = ktime_get_ns()
    event.cgroup = get_current_cgroup_id()
    event.took_ns = event.time_ns - attempt.begin_ns
    event.pid = current_tgid()
    event.tid = current_pid()
    event.uid = current_uid()
    event.result = s32(result)
    event.flags = attempt.flags
    event.mode = attempt.mode
    event.directory = attempt.directory
    current_comm(event.comm)
    event.length = s32(probe_read_user_str(event.path, PATH, attempt.path))
    del attempts[current_pid()]
    events.submit(event)
    return 0


@tracepoint("syscalls/sys_exit_open")
def exit_open(ctx: TracepointContext) -> int:
    return finished(ctx.ret)


@tracepoint("syscalls/sys_exit_openat")
def exit_openat(ctx: TracepointContext) -> int:
    return finished(ctx.ret)


@tracepoint("syscalls/sys_exit_openat2")
def exit_openat2(ctx: TracepointContext) -> int:
    return finished(ctx.ret)
