"""Timers: members of map values whose callbacks run when the engine's clock reaches their time (Linux 5.15)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine
    from bpf2py.engine.program import EngineProgram

EINVAL, EBUSY = 22, 16
ABSOLUTE, CPU_PIN = 1, 2
CLOCKS = (0, 1, 7)  # CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME


class Armed(NamedTuple):
    """A timer that was initialised.

    Attributes:
        address: of the struct bpf_timer.
        header: of the map its value is in.
        callback: the function's address, 0 before there is one.
        program: whose function that is.
        when: in ns, -1 when it is not running.
        cpu: where the callback runs.
    """

    address: int
    header: int
    callback: int = 0
    program: EngineProgram | None = None
    when: int = -1
    cpu: int = 0


def timer_init(engine: Machine, timer: int, header: int, flags: int, *_: int) -> int:
    """Prepare the timer in a value of the map."""
    if flags & ~15 or flags & 15 not in CLOCKS:
        return -EINVAL
    if timer in engine.timers:
        return -EBUSY
    engine.timers[timer] = Armed(timer, header)
    return 0


def timer_set_callback(engine: Machine, timer: int, callback: int, *_: int) -> int:
    """Say which function runs."""
    armed = engine.timers.get(timer)
    if armed is None:
        return -EINVAL
    engine.timers[timer] = armed._replace(callback=callback, program=engine.current.program)
    return 0


def timer_start(engine: Machine, timer: int, ns: int, flags: int, *_: int) -> int:
    """Let it run in so many ns, or at a time."""
    armed = engine.timers.get(timer)
    if armed is None or not armed.callback or flags & ~(ABSOLUTE | CPU_PIN):
        return -EINVAL
    when = ns if flags & ABSOLUTE else engine.now() + ns
    engine.timers[timer] = armed._replace(when=when, cpu=engine.current_cpu)
    return 0


def timer_cancel(engine: Machine, timer: int, *_: int) -> int:
    """1 when it was running."""
    armed = engine.timers.get(timer)
    if armed is None:
        return -EINVAL
    engine.timers[timer] = armed._replace(when=-1)
    return int(armed.when >= 0)


def run_due(engine: Machine, until: int) -> int:
    """Run the callbacks of timers up to a time, in their order; the clock stands at each one's time meanwhile."""
    count = 0
    while True:
        due = [armed for armed in engine.timers.values() if 0 <= armed.when <= until]
        if not due:
            break
        first = min(due, key=lambda armed: (armed.when, armed.address))
        if isinstance(engine.clock, int):
            engine.clock = max(engine.clock, first.when)
        engine.timers[first.address] = first._replace(when=-1)
        _fire(engine, first)
        count += 1
    if isinstance(engine.clock, int):
        engine.clock = until
    return count


def _fire(engine: Machine, armed: Armed) -> None:
    program = armed.program
    if program is None or program.fd < 0:
        return
    key, value = engine.core_at(armed.header).key_of_value(armed.address)
    with engine.cpu(armed.cpu):
        engine.execute(program, armed.header, callback=(armed.callback, key, value))


def forget(engine: Machine, start: int, end: int) -> None:
    """A value is gone: so are the timers in it."""
    for address in [address for address in engine.timers if start <= address < end]:
        del engine.timers[address]
