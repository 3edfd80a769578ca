"""How long threads wait for a CPU: from when they are woken, or lose it, until they run."""

from bpf2py.lang import *
from bpf2py.lang.kernel import cgroup, task_struct

from .log2 import log2
from .whom import *

SLOTS = 27


class Waits(Struct):
    cgroup: u64
    comm: char[16]
    slots: array[u64, SLOTS]


by_process: Const[u32] = 0
waiting = Hash[u32, u64](max_entries=65_536)
waits = Hash[u32, Waits](max_entries=4096)  # by process, or all under 0
lost: u64 = 0


def task_is_wanted(task: Ptr[task_struct]) -> bool:
    """As is_wanted(), of another thread than the one that runs; the control group is looked at when it runs."""
    if only_pid and u32(task.tgid) != only_pid:
        return False
    return not only_followed or u32(task.tgid) in followed


def has_comm(task: Ptr[task_struct]) -> bool:
    comm = char[16]()
    read_kernel_str(comm, task.comm)
    for i in range(16):
        if comm[i] != only_comm[i]:
            return False
        if comm[i] == 0:
            break
    return True


def has_cgroup(task: Ptr[task_struct]) -> bool:
    group = Ptr[cgroup](u64(task.cgroups.dfl_cgrp))
    for _ in range(16):
        if group.kn.id == only_cgroup:
            return True
        parent = u64(group.self.parent)  # `self` is the first member
        if parent == 0:
            return False
        group = Ptr[cgroup](parent)
    return False


def waits_now(task: Ptr[task_struct]) -> int:
    if task.pid and task_is_wanted(task) and waiting.put(u32(task.pid), ktime_get_ns()) < 0:
        atomic_add(addr(lost), 1)
    return 0


@tp_btf("sched_wakeup")
def on_wakeup(task: Ptr[task_struct]) -> int:
    return waits_now(task)


@tp_btf("sched_wakeup_new")
def on_new(task: Ptr[task_struct]) -> int:
    return waits_now(task)


@tp_btf("sched_switch")
def on_switch(preempt: bool, previous: Ptr[task_struct], following: Ptr[task_struct]) -> int:
    if previous.__state == 0:  # it could go on
        waits_now(previous)
    thread = u32(following.pid)
    since = waiting.get(thread)
    if since is None:
        return 0
    waited = ktime_get_ns() - since.value
    waiting.delete(thread)
    if (only_comm[0] and not has_comm(following)) or (only_cgroup and not has_cgroup(following)):
        return 0
    found = waits.setdefault(u32(following.tgid) if by_process else 0)
    if found is None:
        atomic_add(addr(lost), 1)
        return 0
    if by_process:
        read_kernel_str(found.comm, following.comm)
        found.cgroup = following.cgroups.dfl_cgrp.kn.id
    atomic_add(addr(found.slots[min(log2(waited // 1000), SLOTS - 1)]), 1)
    return 0
