"""How long threads wait for a CPU: from when they are woken, or lose it, until they run."""

from bpf2py.lang import *
from bpf2py.lang.kernel import task_struct

from .log2 import log2
from .whom import *
from .whom_of_task import has_cgroup, has_comm, task_is_wanted

SLOTS = 27


class Waits(Struct):
    cgroup: u64
    comm: char[16]
    slots: array[u64, SLOTS]


by_process: Const[u32] = 0
waiting = Hash[u32, u64](max_entries=65_536)
waits = Hash[u32, Waits](max_entries=4096)  # by process, or all under 0
lost: u64 = 0


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
