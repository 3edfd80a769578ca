"""The processes a command starts, directly or not: those of the first child that calls exec, and all they fork."""

from bpf2py.lang import *
from bpf2py.lang.kernel import linux_binprm, task_struct

followed = Hash[u32, u8](max_entries=65536)
tool: Const[u32] = 0  # the process whose children are followed
unseen: u64 = 0  # processes that found no room


@tp_btf("sched_process_exec")
def on_exec(task: Ptr[task_struct], old_pid: s32, bprm: Ptr[linux_binprm]) -> int:
    if task.real_parent.tgid == tool:
        followed[u32(task.tgid)] = 1
    return 0


@tp_btf("sched_process_fork")
def on_fork(parent: Ptr[task_struct], child: Ptr[task_struct]) -> int:
    if parent.tgid == child.tgid or u32(parent.tgid) not in followed:
        return 0
    if followed.put(u32(child.tgid), 1) < 0:
        atomic_add(addr(unseen), 1)
    return 0


@tp_btf("sched_process_exit")
def on_exit(task: Ptr[task_struct]) -> int:
    if task.signal.live.counter == 0:
        followed.delete(u32(task.tgid))
    return 0
