"""Stacks of what runs on the CPUs, counted."""

from bpf2py.lang import *

from .whom import *

DEPTH = 127


class CallStack(Struct):
    frames: array[u64, DEPTH]


class Key(Struct):
    kernel: u64  # numbers of stacks, 0 where there is none
    user: u64
    cgroup: u64
    pid: u32
    unused: u32
    comm: char[16]


counts = Hash[Key, u64](max_entries=65_536)
stacks = Hash[u64, CallStack](max_entries=16_384)  # preallocated: in a sample there may be no memory
scratch = PerCpuArray[u32, CallStack](max_entries=1)
events = RingBuf[Key](size=1 << 20)  # each key once, when it is new: its process may be gone before the end
lost: u64 = 0
no_room: u64 = 0  # stacks that were not kept
unnamed: u64 = 0  # keys that found no room in events


def taken(ctx: PerfEventContext, flags: u64) -> u64:
    """The number of the stack, which is kept; 0 where there is none."""
    stack = scratch.get(0)
    if stack is None:
        return 0
    size = get_stack(ctx, stack.frames, DEPTH * 8, flags)
    if size <= 0:
        return 0
    number: u64 = 14695981039346656037  # FNV-1a, of whole addresses: a STACK_TRACE map keeps one of those in a bucket
    for i in range(DEPTH):
        if i * 8 < size:
            number = (number ^ stack.frames[i]) * 1099511628211
        else:
            stack.frames[i] = 0
    if number not in stacks and stacks.put(number, stack) < 0:
        atomic_add(addr(no_room), 1)
    return number


@perf_event
def on_sample(ctx: PerfEventContext) -> int:
    if current_pid() == 0 or not is_wanted():
        return 0
    key = Key(pid=current_tgid())
    key.cgroup = get_current_cgroup_id()
    key.kernel = taken(ctx, 0)
    key.user = taken(ctx, BPF_F_USER_STACK)
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
