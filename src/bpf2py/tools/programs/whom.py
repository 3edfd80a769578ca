"""Whom a tool watches: constants that are set before it is loaded, and the question about the current thread."""

from bpf2py.lang import *

only_pid: Const[u32] = 0
only_comm: Const[char[16]] = ""
only_cgroup: Const[u64] = 0
only_followed: Const[u32] = 0
followed = Hash[u32, u32](max_entries=1)  # processes of the command that is run, shared with tree.py


def comm_is_wanted() -> bool:
    comm = char[16]()
    current_comm(comm)
    for i in range(16):
        if comm[i] != only_comm[i]:
            return False
        if comm[i] == 0:
            break
    return True


def in_cgroup() -> bool:
    for level in range(16):
        if get_current_ancestor_cgroup_id(level) == only_cgroup:
            return True
    return False


def is_wanted() -> bool:
    if only_pid and current_tgid() != only_pid:
        return False
    if only_followed and current_tgid() not in followed:
        return False
    if only_comm[0] and not comm_is_wanted():
        return False
    return not only_cgroup or in_cgroup()
