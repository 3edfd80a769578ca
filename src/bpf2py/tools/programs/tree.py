"""The processes a command starts, directly or not: those of the first child that calls exec, and all they fork."""

from bpf2py.lang import *
from bpf2py.lang.kernel import linux_binprm, task_struct

followed = Hash[u32, u32](max_entries=65536)  # how many threads of each have not ended
tool: Const[u32] = 0  # the process whose children are followed
unseen: u64 = 0  # processes that found no room


@tp_btf("sched_process_exec")
def on_exec(task: Ptr[task_struct], old_pid: s32, bprm: Ptr[linux_binprm]) -> int:
    if task.real_parent.tgid == tool:
        followed[u32(task.tgid)] = 1
    return 0


@tp_btf("sched_process_fork")
def on_fork(parent: Ptr[task_struct], child: Ptr[task_struct]) -> int:
    threads = followed.get(u32(parent.tgid))
    if threads is None:
        return 0
    if parent.tgid == child.tgid:
        atomic_add(threads, 1)
    elif followed.put(u32(child.tgid), 1) < 0:
        atomic_add(addr(unseen), 1)
    return 0


@tp_btf("sched_process_exit")
def on_exit(task: Ptr[task_struct]) -> int:
    """Threads are counted: signal->live is 0 before the last two of them have come here."""
    threads = followed.get(u32(task.tgid))
    if threads is not None and fetch_sub(threads, 1) <= 1:
        followed.delete(u32(task.tgid))
    return 0
