"""Signals that processes send with kill, tkill, tgkill and pidfd_send_signal, and whether they could."""

from bpf2py.lang import *

from .whom import *


class Kill(Struct):
    time_ns: u64
    cgroup: u64
    pid: u32
    tid: u32
    uid: u32
    target: s32  # as it was given: a process, a thread, minus a group; of a pidfd the descriptor
    signal: s32
    result: s32
    call: u32  # 0 kill, 1 tkill, 2 tgkill, 3 pidfd_send_signal
    comm: char[16]


class Attempt(Struct):
    target: s32
    signal: s32
    call: u32


events = RingBuf[Kill](size=1 << 20)
attempts = LruHash[u32, Attempt](max_entries=10_240)
only_failed: Const[u32] = 0
only_signal: Const[s32] = -1
lost: u64 = 0


def remember(call: u32, target: u64, signal: u64) -> int:
    if (only_signal < 0 or s32(signal) == only_signal) and is_wanted():
        attempts[current_pid()] = Attempt(target=s32(target), signal=s32(signal), call=call)
    return 0


@tracepoint("syscalls/sys_enter_kill")
def enter_kill(ctx: TracepointContext) -> int:
    return remember(0, ctx.args[0], ctx.args[1])


@tracepoint("syscalls/sys_enter_tkill")
def enter_tkill(ctx: TracepointContext) -> int:
    return remember(1, ctx.args[0], ctx.args[1])


@tracepoint("syscalls/sys_enter_tgkill")
def enter_tgkill(ctx: TracepointContext) -> int:
    return remember(2, ctx.args[1], ctx.args[2])


@tracepoint("syscalls/sys_enter_pidfd_send_signal")
def enter_pidfd(ctx: TracepointContext) -> int:
    return remember(3, ctx.args[0], ctx.args[1])


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
    event.pid = current_tgid()
    event.tid = current_pid()
    event.uid = current_uid()
    event.target = attempt.target
    event.signal = attempt.signal
    event.call = attempt.call
    event.result = s32(result)
    current_comm(event.comm)
    del attempts[current_pid()]
    events.submit(event)
    return 0


@tracepoint("syscalls/sys_exit_kill")
def exit_kill(ctx: TracepointContext) -> int:
    return finished(ctx.ret)


@tracepoint("syscalls/sys_exit_tkill")
def exit_tkill(ctx: TracepointContext) -> int:
    return finished(ctx.ret)


@tracepoint("syscalls/sys_exit_tgkill")
def exit_tgkill(ctx: TracepointContext) -> int:
    return finished(ctx.ret)


@tracepoint("syscalls/sys_exit_pidfd_send_signal")
def exit_pidfd(ctx: TracepointContext) -> int:
    return finished(ctx.ret)
