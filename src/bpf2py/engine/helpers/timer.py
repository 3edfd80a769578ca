"""Timers (Linux 5.15) and work queues (Linux 6.10): members of map values whose callbacks run later."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bpf2py.uapi.errno import EBUSY, EDEADLK, EINVAL, EPERM

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


ABSOLUTE, CPU_PIN = 1, 2
REALTIME, MONOTONIC, BOOTTIME, WORK = 0, 1, 7, -1
CLOCKS = (REALTIME, MONOTONIC, BOOTTIME)


def _init(engine: Machine, timer: int, header: int, clock: int) -> int:
    if any(engine.read(timer, 8)):
        return -EBUSY
    if not engine.core_at(header).users:
        return -EPERM
    engine.timers.add(timer, header, clock)
    return 0


def timer_init(engine: Machine, timer: int, header: int, flags: int, *_: int) -> int:
    """Prepare the timer in a value of the map."""
    return _init(engine, timer, header, flags) if flags in CLOCKS else -EINVAL


def _set_callback(engine: Machine, address: int, callback: int, work: bool) -> int:
    timer = engine.timers.at(address, work)
    if timer is None:
        return -EINVAL
    if not engine.core_at(timer.header).users:
        return -EPERM
    timer.set_callback(callback, engine.current.program)
    return 0


def timer_set_callback(engine: Machine, timer: int, callback: int, *_: int) -> int:
    """Say which function runs."""
    return _set_callback(engine, timer, callback, False)


def timer_start(engine: Machine, address: int, ns: int, flags: int, *_: int) -> int:
    """Let it run in so many ns, or at a time of its clock."""
    if flags & ~(ABSOLUTE | CPU_PIN):
        return -EINVAL
    timer = engine.timers.at(address)
    if timer is None or not timer.callback:
        return -EINVAL
    when = engine.now() + ns
    if flags & ABSOLUTE:
        when = ns
        if engine.clock is None and timer.clock != MONOTONIC and hasattr(time, "CLOCK_BOOTTIME"):
            now = time.time_ns() if timer.clock == REALTIME else time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            when += engine.now() - now
    engine.timers.start(timer, when)
    return 0


def timer_cancel(engine: Machine, address: int, *_: int) -> int:
    """1 when it was running. It needs another callback before it can be started again."""
    timer = engine.timers.at(address)
    if timer is None:
        return -EINVAL
    if engine.timers.running is timer:
        return -EDEADLK
    was_running, timer.when = timer.when is not None, None
    timer.set_callback(0, None)
    return int(was_running)


def bpf_wq_init(engine: Machine, work: int, header: int, flags: int, *_: int) -> int:
    """Prepare the work in a value of the map."""
    return -EINVAL if flags & 0xFFFFFFFF else _init(engine, work, header, WORK)


def bpf_wq_set_callback_impl(engine: Machine, work: int, callback: int, flags: int, *_: int) -> int:
    """Say which function runs."""
    return -EINVAL if flags & 0xFFFFFFFF else _set_callback(engine, work, callback, True)


def bpf_wq_start(engine: Machine, work: int, flags: int, *_: int) -> int:
    """Let it run when this run has ended."""
    timer = engine.timers.at(work, True)
    if flags & 0xFFFFFFFF or timer is None or not timer.callback:
        return -EINVAL
    engine.timers.start(timer, engine.now())
    return 0
