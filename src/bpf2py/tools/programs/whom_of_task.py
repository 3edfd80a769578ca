"""Whom a tool watches, asked about another thread than the one that runs."""

from bpf2py.lang import *
from bpf2py.lang.kernel import task_struct

from .cgroups import is_within
from .whom import followed, only_cgroup, only_comm, only_followed, only_pid


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
    return is_within(u64(task.cgroups.dfl_cgrp), only_cgroup)
