"""Stacks of what runs on the CPUs, counted."""

from bpf2py.lang import *


class Key(Struct):
    pid: u32
    kernel: s32  # numbers of stacks, negative where there is none
    user: s32
    comm: char[16]


counts = Hash[Key, u64](max_entries=65_536)
stacks = StackTrace(max_entries=32_768)
events = RingBuf[Key](size=1 << 20)  # each key once, when it is new: its process may be gone before the end
lost: u64 = 0
unnamed: u64 = 0  # keys that found no room in events

# Whom to watch: the same lines in every tool, set before it is loaded.
only_pid: Const[u32] = 0
only_comm: Const[char[16]] = ""
only_cgroup: Const[u64] = 0
only_followed: Const[u32] = 0
followed = Hash[u32, u8](max_entries=1)  # processes of the command that is run, shared with tree.py


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


@perf_event
def on_sample(ctx: PerfEventContext) -> int:
    if current_pid() == 0 or not is_wanted():
        return 0
    key = Key(pid=current_tgid())
    key.kernel = s32(stacks.stackid(ctx, 0))
    key.user = s32(stacks.stackid(ctx, BPF_F_USER_STACK))
    current_comm(key.comm)
    count = counts.get(key)
    if count is not None:
        atomic_add(count, 1)
        return 0
    if counts.put(key, 1, BPF_NOEXIST) < 0:
        count = counts.get(key)  # another CPU was faster, or there is no room
        if count is None:
            atomic_add(addr(lost), 1)
            return 0
        atomic_add(count, 1)
        return 0
    if events.output(key) < 0:
        atomic_add(addr(unnamed), 1)
    return 0
