"""A timer in a map's value: what counts every interval until it is told to stop."""

from bpf2py.lang import *
from bpf2py.lang.kernel import bpf_map, bpf_timer


class Clock(Struct):
    timer: bpf_timer
    ticks: u64
    interval_ns: u64


clocks = Array[u32, Clock](max_entries=1)


def on_tick(owner: Ptr[bpf_map], key: Ptr[u32], clock: Ptr[Clock]) -> int:
    clock.ticks += 1
    if clock.interval_ns:
        clock.timer.start(clock.interval_ns, 0)
    return 0


@syscall
def start(ctx: Context) -> int:
    clock = clocks.get(0)
    if clock is None:
        return 1
    clock.interval_ns = 1_000_000
    return s32(clock.timer.start(clock.interval_ns, on_tick))


@syscall
def stop(ctx: Context) -> int:
    clock = clocks.get(0)
    if clock is None:
        return 1
    clock.interval_ns = 0
    return 0
