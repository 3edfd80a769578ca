"""Time that threads are not on a CPU, by the stack with which they left it."""

from bpf2py.lang import *
from bpf2py.lang.kernel import task_struct

from .whom import *

DEPTH = 127


class CallStack(Struct):
    frames: array[u64, DEPTH]


class Key(Struct):
    kernel: u64
    user: u64
    cgroup: u64
    pid: u32
    unused: u32
    comm: char[16]


class Off(Struct):
    begin_ns: u64
    key: Key


counts = Hash[Key, u64](max_entries=65_536)  # nanoseconds
started = Hash[u32, Off](max_entries=65_536)
stacks = Hash[u64, CallStack](max_entries=16_384)  # preallocated: in a sample there may be no memory
scratch = PerCpuArray[u32, CallStack](max_entries=1)
events = RingBuf[Key](size=1 << 20)
least_ns: Const[u64] = 0
lost: u64 = 0
no_room: u64 = 0  # stacks that were not kept
unnamed: u64 = 0
missed: u64 = 0  # threads that leave a CPU though nobody saw them come back


def taken(ctx: RawTracepointContext, flags: u64) -> u64:
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


def add(off: Ptr[Off], took: u64) -> int:
    count = counts.get(off.key)
    if count is not None:
        atomic_add(count, took)
        return 0
    if counts.put(off.key, took, BPF_NOEXIST) < 0:
        count = counts.get(off.key)
        if count is None:
            atomic_add(addr(lost), 1)
            return 0
        atomic_add(count, took)
        return 0
    if events.output(off.key) < 0:
        atomic_add(addr(unnamed), 1)
    return 0


@raw_tp("sched_switch")
def on_switch(ctx: RawTracepointContext) -> int:
    """The one who leaves the CPU is still the current thread."""
    now = ktime_get_ns()
    if current_pid() and get_current_task_btf().exit_state == 0 and is_wanted():
        off = Off(begin_ns=now)
        off.key.pid = current_tgid()
        off.key.cgroup = get_current_cgroup_id()
        off.key.kernel = taken(ctx, 0)
        off.key.user = taken(ctx, BPF_F_USER_STACK)
        current_comm(off.key.comm)
        if current_pid() in started:
            atomic_add(addr(missed), 1)
        if started.put(current_pid(), off) < 0:
            atomic_add(addr(lost), 1)
    following = u32(Ptr[task_struct](ctx.args[2]).pid)
    off_since = started.get(following)
    if off_since is None:
        return 0
    took = now - off_since.begin_ns
    if took >= least_ns:
        add(off_since, took)
    started.delete(following)
    return 0
