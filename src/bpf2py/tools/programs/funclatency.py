"""How long calls of a function take, recursive ones and those that are left by longjmp or exceptions included."""

from bpf2py.lang import *

from .log2 import log2
from .whom import *

SLOTS = 40


class Call(Struct):
    stack: u64  # where its return address is: no two calls of a thread that have not returned have the same
    thread: u32
    unused: u32


class Latency(Struct):
    total_ns: u64
    count: u64
    slots: array[u64, SLOTS]


started = LruHash[Call, u64](max_entries=65_536)
latency = Array[u32, Latency](max_entries=1)
return_address: Const[u64] = 8  # bytes of the stack that returning takes off: on x86-64 8, on aarch64 0


@uprobe(autoload=False)
def on_entry(ctx: KprobeContext) -> int:
    if is_wanted():
        started[Call(stack=PT_REGS_SP(ctx), thread=current_pid())] = ktime_get_ns()
    return 0


def returned(stack: u64) -> int:
    now = ktime_get_ns()
    call = Call(stack=stack, thread=current_pid())
    begin = started.get(call)
    if begin is None:
        return 0
    took = now - begin.value
    started.delete(call)
    found = latency.get(0)
    if found is not None:
        atomic_add(addr(found.total_ns), took)
        atomic_add(addr(found.count), 1)
        atomic_add(addr(found.slots[min(log2(took), SLOTS - 1)]), 1)
    return 0


@uretprobe(autoload=False)
def on_return(ctx: KprobeContext) -> int:
    return returned(PT_REGS_SP(ctx) - return_address)


@kprobe(autoload=False)
def on_kernel_entry(ctx: KprobeContext) -> int:
    if is_wanted():
        started[Call(stack=PT_REGS_SP(ctx), thread=current_pid())] = ktime_get_ns()
    return 0


@kretprobe(autoload=False)
def on_kernel_return(ctx: KprobeContext) -> int:
    return returned(PT_REGS_SP(ctx) - return_address)
