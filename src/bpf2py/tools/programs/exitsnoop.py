"""Processes that end: how, and how long they lived."""

from bpf2py.lang import *
from bpf2py.lang.kernel import task_struct

from .whom import *

EEXIST = 17
SIGNAL_GROUP_EXIT = 4  # include/linux/sched/signal.h


class Exit(Struct):
    time_ns: u64
    cgroup: u64
    age_ns: u64
    pid: u32
    ppid: u32
    uid: u32
    status: u32  # as wait() gives it
    comm: char[16]


class Ended(Struct):
    start_ns: u64
    pid: u32
    unused: u32


events = RingBuf[Exit](size=1 << 20)
ended = LruHash[Ended, u8](max_entries=4096)  # two threads that end at a time may both be the last
only_failed: Const[u32] = 0
lost: u64 = 0


@tp_btf("sched_process_exit")
def on_exit(task: Ptr[task_struct]) -> int:
    if task.signal.live.counter != 0 or not is_wanted():
        return 0  # other threads of the process go on
    if ended.put(Ended(pid=task.tgid, start_ns=task.group_leader.start_time), 1, BPF_NOEXIST) == -EEXIST:
        return 0
    status = u32(task.group_leader.exit_code)
    if task.signal.flags & SIGNAL_GROUP_EXIT:
        status = u32(task.signal.group_exit_code)
    if only_failed and status == 0:
        return 0
    event = events.reserve()
    if event is None:
        atomic_add(addr(lost), 1)
        return 0
    event.time_ns = ktime_get_ns()
    event.cgroup = get_current_cgroup_id()
    event.age_ns = event.time_ns - task.group_leader.start_time
    event.pid = task.tgid
    event.ppid = task.real_parent.tgid
    event.uid = current_uid()
    event.status = status
    read_kernel_str(event.comm, task.group_leader.comm)
    events.submit(event)
    return 0
