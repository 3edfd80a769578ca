"""How long threads run on a CPU at a time."""

from bpf2py.lang import *
from bpf2py.lang.kernel import task_struct

SLOTS = 27


class Runs(Struct):
    cgroup: u64
    comm: char[16]
    slots: array[u64, SLOTS]


by_process: Const[u32] = 0
running = Hash[u32, u64](max_entries=65_536)
waits = Hash[u32, Runs](max_entries=4096)  # by process, or all under 0
lost: u64 = 0

# Whom to watch: the same lines in every tool, set before it is loaded.
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


def log2(value: u64) -> u32:
    """The highest bit that is set."""
    result: u32 = 0
    for shift in (32, 16, 8, 4, 2, 1):
        if value >> shift:
            value >>= shift
            result += shift
    return result


@tp_btf("sched_switch")
def on_switch(preempt: bool, previous: Ptr[task_struct], following: Ptr[task_struct]) -> int:
    """The one who leaves the CPU is still the current thread."""
    now = ktime_get_ns()
    thread = current_pid()
    since = running.get(thread)
    if since is not None:
        ran = now - since.value
        running.delete(thread)
        if is_wanted():
            found = waits.setdefault(current_tgid() if by_process else 0)
            if found is None:
                atomic_add(addr(lost), 1)
            else:
                if by_process:
                    current_comm(found.comm)
                    found.cgroup = get_current_cgroup_id()
                atomic_add(addr(found.slots[min(log2(ran // 1000), SLOTS - 1)]), 1)
    if following.pid and running.put(u32(following.pid), now) < 0:
        atomic_add(addr(lost), 1)
    return 0
