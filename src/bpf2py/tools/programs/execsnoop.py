"""Programs that are executed, with their arguments; and attempts that fail."""

from bpf2py.lang import *
from bpf2py.lang.kernel import linux_binprm, task_struct

from .whom import *

ARGS = 4096


class Exec(Struct):
    time_ns: u64
    cgroup: u64
    pid: u32
    ppid: u32
    uid: u32
    result: s32
    size: u32  # of the arguments; may be more than fit
    kept: u32
    comm: char[16]
    parent: char[16]
    args: array[u8, ARGS]


class Attempt(Struct):
    path: u64


events = RingBuf[Exec](size=1 << 22)
attempts = LruHash[u32, Attempt](max_entries=10_240)
lost: u64 = 0


@tp_btf("sched_process_exec")
def on_exec(task: Ptr[task_struct], old_pid: s32, bprm: Ptr[linux_binprm]) -> int:
    if not is_wanted():
        return 0
    event = events.reserve()
    if event is None:
        atomic_add(addr(lost), 1)
        return 0
    event.time_ns = ktime_get_ns()
    event.cgroup = get_current_cgroup_id()
    event.pid = task.tgid
    event.ppid = task.real_parent.tgid
    event.uid = current_uid()
    event.result = 0
    current_comm(event.comm)
    read_kernel_str(event.parent, task.real_parent.comm)
    start = task.mm.arg_start
    event.size = u32(task.mm.arg_end - start)
    kept = min(event.size, ARGS)
    event.kept = kept
    if probe_read_user(event.args, kept, start) < 0:
        event.kept = 0
    events.submit(event)
    return 0


@tracepoint("syscalls/sys_enter_execve", autoload=False)
def enter_execve(ctx: TracepointContext) -> int:
    attempts[current_pid()] = Attempt(path=ctx.args[0])
    return 0


@tracepoint("syscalls/sys_enter_execveat", autoload=False)
def enter_execveat(ctx: TracepointContext) -> int:
    attempts[current_pid()] = Attempt(path=ctx.args[1])
    return 0


def failed(result: s64) -> int:
    attempt = attempts.get(current_pid())
    if attempt is None:
        return 0
    path = attempt.path
    del attempts[current_pid()]
    if result >= 0 or not is_wanted():
        return 0
    event = events.reserve()
    if event is None:
        atomic_add(addr(lost), 1)
        return 0
    task = get_current_task_btf()
    event.time_ns = ktime_get_ns()
    event.cgroup = get_current_cgroup_id()
    event.pid = current_tgid()
    event.ppid = task.real_parent.tgid
    event.uid = current_uid()
    event.result = s32(result)
    current_comm(event.comm)
    read_kernel_str(event.parent, task.real_parent.comm)
    length = probe_read_user_str(event.args, ARGS, path)
    event.kept = u32(length) if length > 0 else 0
    event.size = event.kept
    events.submit(event)
    return 0


@tracepoint("syscalls/sys_exit_execve", autoload=False)
def exit_execve(ctx: TracepointContext) -> int:
    return failed(ctx.ret)


@tracepoint("syscalls/sys_exit_execveat", autoload=False)
def exit_execveat(ctx: TracepointContext) -> int:
    return failed(ctx.ret)
