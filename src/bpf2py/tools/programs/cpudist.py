"""How long threads run on a CPU at a time."""

from bpf2py.lang import *
from bpf2py.lang.kernel import task_struct

from .log2 import log2
from .whom import *

SLOTS = 27


class Runs(Struct):
    cgroup: u64
    comm: char[16]
    slots: array[u64, SLOTS]


by_process: Const[u32] = 0
running = Hash[u32, u64](max_entries=65_536)
waits = Hash[u32, Runs](max_entries=4096)  # by process, or all under 0
lost: u64 = 0


def leaves(now: u64) -> None:
    """The current thread leaves its CPU."""
    thread = current_pid()
    since = running.get(thread)
    if since is None:
        return
    ran = now - since.value
    running.delete(thread)
    if not is_wanted():
        return
    found = waits.setdefault(current_tgid() if by_process else 0)
    if found is None:
        atomic_add(addr(lost), 1)
        return
    if by_process:
        current_comm(found.comm)
        found.cgroup = get_current_cgroup_id()
    atomic_add(addr(found.slots[min(log2(ran // 1000), SLOTS - 1)]), 1)


@tp_btf("sched_process_exit")
def on_exit(task: Ptr[task_struct]) -> int:
    """Its parent may go on, and read what was counted, before the thread that ends has left its CPU for the last time."""
    leaves(ktime_get_ns())
    return 0


@tp_btf("sched_switch")
def on_switch(preempt: bool, previous: Ptr[task_struct], following: Ptr[task_struct]) -> int:
    """The one who leaves the CPU is still the current thread."""
    now = ktime_get_ns()
    leaves(now)
    if following.pid and running.put(u32(following.pid), now) < 0:
        atomic_add(addr(lost), 1)
    return 0
