"""Timers and work queues in map values: which there are, and what lets their callbacks run.

A struct bpf_timer holds the number of its `Timer` here. Whatever frees a value zeroes its special members, so that a timer whose
number is no longer in its place is gone, as the kernel frees timers with the values they are in.
"""

from __future__ import annotations

import itertools
import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from bpf2py.errors import BpfError

if TYPE_CHECKING:
    from bpf2py.engine.maps.core import MapCore
    from bpf2py.engine.memory import Memory
    from bpf2py.engine.programs.loaded import LoadedProgram

__all__ = ["Timer", "Timers"]

LONGEST = 3600.0  # seconds a thread waits at once


class Timer:
    """A timer, or the work of a queue, that was initialised.

    Attributes:
        number: what the struct in the value holds.
        address: of that struct.
        header: of the map.
        clock: CLOCK_... it was initialised for, negative for work.
        callback: the function's address, 0 while there is none.
        program: whose function that is; held, as the kernel does.
        when: in ns of the engine's clock, None while it is not running.
        cpu: where the callback runs.
    """

    __slots__ = ("address", "callback", "clock", "cpu", "header", "number", "program", "when")

    def __init__(self, number: int, address: int, header: int, clock: int) -> None:
        self.number = number
        self.address = address
        self.header = header
        self.clock = clock
        self.callback = 0
        self.program: LoadedProgram | None = None
        self.when: int | None = None
        self.cpu = 0

    def set_callback(self, callback: int, program: LoadedProgram | None) -> None:
        """Which function runs; None lets go of it."""
        before, self.program = self.program, program.duplicate() if program is not None else None
        self.callback = callback
        if before is not None:
            before.close()


class TimedMachine(Protocol):
    """What timers ask of the machine they run on: see `Machine`."""

    lock: threading.RLock
    memory: Memory
    timers: Timers
    clock: int | Callable[[], int] | None

    @property
    def current_cpu(self) -> int: ...

    def now(self) -> int: ...

    def cpu(self, number: int) -> AbstractContextManager[object]: ...

    def read(self, address: int, size: int) -> bytes: ...

    def write(self, address: int, data: bytes) -> None: ...

    def core_at(self, header: int) -> MapCore: ...

    def execute(self, program: LoadedProgram, context: int, *, callback: tuple[int, ...] = ()) -> int: ...

    def settle(self) -> None: ...


class Timers:
    """All timers of an engine."""

    def __init__(self, engine: TimedMachine) -> None:
        self._engine = weakref.ref(engine)
        self._timers: dict[int, Timer] = {}
        self._numbers = itertools.count(1)
        self._sweep_at = 64
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self.running: Timer | None = None  # whose callback runs

    def __len__(self) -> int:
        return len(self._timers)

    @property
    def _machine(self) -> TimedMachine:
        engine = self._engine()
        assert engine is not None
        return engine

    def at(self, address: int, work: bool = False) -> Timer | None:
        """The timer whose struct is at an address."""
        number = int.from_bytes(self._machine.read(address, 8), "little")
        timer = self._timers.get(number)
        return timer if timer is not None and timer.address == address and (timer.clock < 0) == work else None

    def add(self, address: int, header: int, clock: int) -> None:
        """Initialise the timer at an address."""
        if len(self._timers) >= self._sweep_at:
            for timer in list(self._timers.values()):
                if not self._alive(timer):
                    self._drop(timer)
            self._sweep_at = 2 * len(self._timers) + 64
        timer = Timer(next(self._numbers), address, header, clock)
        self._timers[timer.number] = timer
        self._machine.write(address, timer.number.to_bytes(8, "little") + bytes(8))

    def start(self, timer: Timer, when: int) -> None:
        """Let it run at a time."""
        timer.when, timer.cpu = when, self._machine.current_cpu
        if timer.clock >= 0 and self._machine.clock is None:
            self._wake.set()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=_watch, args=(self._engine, self._wake), name="bpf2py timers", daemon=True
                )
                weakref.finalize(self._machine, self._wake.set).atexit = False
                self._thread.start()

    def drop_map(self, header: int) -> None:
        """A map has no descriptor any more: its timers are cancelled."""
        for timer in list(self._timers.values()):
            if timer.header == header:
                self._drop(timer)

    def _alive(self, timer: Timer) -> bool:
        return int.from_bytes(self._machine.memory.read(timer.address, 8), "little") == timer.number

    def _drop(self, timer: Timer) -> None:
        self._timers.pop(timer.number, None)
        timer.when = None
        timer.set_callback(0, None)

    def next_time(self) -> int | None:
        """When the first of them is due, None when none is running."""
        return min(
            (timer.when for timer in list(self._timers.values()) if timer.when is not None and timer.clock >= 0),
            default=None,
        )

    def run_due(self, until: int | None) -> int:
        """Run the callbacks of timers up to a time, in their order; frozen time stands at each one's time meanwhile.

        Args:
            until: ns; None for queued work alone.

        Returns:
            How many ran.
        """
        engine, count = self._machine, 0
        try:
            with engine.lock:
                while True:
                    due = [
                        timer
                        for timer in list(self._timers.values())
                        if timer.when is not None
                        and (timer.clock < 0 if until is None else timer.clock >= 0 and timer.when <= until)
                    ]
                    if not due:
                        break
                    first = min(due, key=lambda timer: (timer.when, timer.number))
                    when, first.when = first.when or 0, None
                    if not self._alive(first):
                        self._drop(first)
                        continue
                    if isinstance(engine.clock, int) and until is not None:
                        engine.clock = max(engine.clock, when)
                    self._call(first)
                    count += 1
                if isinstance(engine.clock, int) and until is not None:
                    engine.clock = until
        finally:
            engine.settle()
        return count

    def _call(self, timer: Timer) -> None:
        engine, program = self._machine, timer.program
        if program is None:
            return
        core: MapCore = engine.core_at(timer.header)
        key, value = core.key_of_value(timer.address)
        before, self.running = self.running, timer
        try:
            with engine.cpu(timer.cpu):
                engine.execute(program, timer.header, callback=(timer.callback, key, value))
        finally:
            self.running = before

    def after_run(self) -> None:
        """A run of no other run's has ended: queued work follows; where time is a function's, so does what is due."""
        if self.running is not None:
            return
        self.run_due(None)
        clock = self._machine.clock
        if clock is not None and not isinstance(clock, int):
            self.run_due(self._machine.now())


def _watch(reference: weakref.ref[TimedMachine], wake: threading.Event) -> None:
    """What the thread does that runs timers by the real clock, as long as there is an engine."""
    while True:
        engine = reference()
        if engine is None:
            return
        wake.clear()
        seconds = LONGEST
        if engine.clock is None:
            try:
                engine.timers.run_due(engine.now())
            except BpfError as error:
                warnings.warn(f"a timer's callback: {error}", RuntimeWarning, stacklevel=1)
            following = engine.timers.next_time()
            if following is not None:
                seconds = max(0.0, min(LONGEST, (following - engine.now()) / 1e9))
        del engine
        wake.wait(seconds)
