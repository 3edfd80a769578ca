"""How long system calls take: a histogram of powers of two, in microseconds."""

from bpf2py.lang import *
from bpf2py.lang.kernel import pt_regs

SLOTS = 27

started = Hash[u32, u64](max_entries=10_240)
slots = Array[u32, u64](max_entries=SLOTS)
wanted: Const[s64] = -1  # number of a system call, or -1 for all


def log2(value: u64) -> u32:
    """The highest bit that is set."""
    result: u32 = 0
    for shift in (32, 16, 8, 4, 2, 1):
        if value >> shift:
            value >>= shift
            result += shift
    return result


@raw_tp("sys_enter")
def on_enter(regs: Ptr[pt_regs], number: s64) -> int:
    if wanted >= 0 and number != wanted:
        return 0
    started[current_pid()] = ktime_get_ns()
    return 0


@raw_tp("sys_exit")
def on_exit(regs: Ptr[pt_regs], result: s64) -> int:
    thread = current_pid()
    begin = started.get(thread)
    if begin is None:
        return 0
    took = (ktime_get_ns() - begin.value) // 1000
    del started[thread]
    slot = slots.get(min(log2(took), SLOTS - 1))
    if slot:
        atomic_add(slot, 1)
    return 0
