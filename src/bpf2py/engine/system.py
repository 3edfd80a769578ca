"""`System`: memory, CPUs, a clock and code: what maps are made in and programs run on."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from bpf2py.engine.code.code import Code, Function, Op
from bpf2py.engine.code.library import library_code
from bpf2py.engine.code.native import translator_class
from bpf2py.engine.memory import ENGINE, FUNCTIONS, MAX_FUNCTIONS, Memory
from bpf2py.engine.state import FROZEN, PYTHON, REAL, note_clock, note_memory
from bpf2py.engine.version import has_fixed_lru, parse_version
from bpf2py.errors import BpfOSError, EncodeError
from bpf2py.owned import Owned

__all__ = ["System"]

_M64 = (1 << 64) - 1


class System(Owned):
    """The simulated kernel without what programs, maps and tasks add to it."""

    def __init__(
        self,
        kernel: str,
        possible_cpus: int,
        seed: int,
        clock: int | Callable[[], int] | None,
        translator: str | None,
        fuel: int | None,
    ) -> None:
        if not 1 <= possible_cpus <= 8192:
            raise EncodeError(f"engine: possible_cpus must be 1 to 8192, is {possible_cpus}")
        self.kernel = kernel
        self.version = parse_version(kernel)
        self.seed = seed
        self.lock = threading.RLock()
        self.memory = Memory()
        self.code = translator_class(translator)(self.memory, self._call_helper, self.lock)
        self.fuel: int = self.code.fuel if fuel is None else fuel
        self.code.resolve["maps"], self.code.resolve["maps_end"] = self.memory.header_bounds
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._operations: dict[str, Callable[..., int]] = {}
        self._possible_cpus = possible_cpus
        self._next = {"id": 0, "fd": 2, "unit": 0}
        self._numbers: list[int] = []
        self._next_number = 0
        self._clock: int | Callable[[], int] | None = None
        self._gone: Any = None
        engine = ENGINE >> 2
        number = self.version[0] << 16 | self.version[1] << 8 | min(self.version[2], 255)
        self.memory.u32[engine] = 0
        self.memory.u32[engine + 1] = possible_cpus
        self.memory.u32[engine + 2] = number
        self.memory.u32[engine + 3] = has_fixed_lru(self.version)
        self.memory.u64[(ENGINE >> 3) + 2] = (seed * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) & (1 << 64) - 1
        note_memory(self.memory)
        self.clock = clock

    def _call_helper(self, a: int, b: int, c: int, d: int, e: int, number: int) -> int:
        """What translated code calls for a helper that is Python."""
        raise NotImplementedError

    # -- the machine ---------------------------------------------------------------------------------------------

    @property
    def lru_batch_is_fixed(self) -> bool:
        """Whether the simulated kernel's LRU maps give CPUs batches of 128 elements, whatever their size."""
        return has_fixed_lru(self.version)

    @property
    def possible_cpus(self) -> int:
        """CPUs a per-CPU value has slots for."""
        return self._possible_cpus

    @property
    def cpu_limit(self) -> int:
        """One more than the highest CPU number."""
        return self._possible_cpus

    @property
    def current_cpu(self) -> int:
        """The CPU programs and commands run on now."""
        return self.memory.u32[ENGINE >> 2]

    @contextmanager
    def cpu(self, number: int) -> Iterator[Self]:
        """Run what follows, programs and map commands, on a CPU. Raises EncodeError for an unknown CPU."""
        if not 0 <= number < self._possible_cpus:
            raise EncodeError(f"engine: there is no CPU {number}: possible_cpus is {self._possible_cpus}")
        before = self.current_cpu
        self.memory.u32[ENGINE >> 2] = number
        try:
            yield self
        finally:
            self.memory.u32[ENGINE >> 2] = before

    @property
    def clock(self) -> int | Callable[[], int] | None:
        """Where the time comes from: see the constructor; may be set at any time."""
        return self._clock

    @clock.setter
    def clock(self, clock: int | Callable[[], int] | None) -> None:
        if isinstance(clock, int) and not 0 <= clock <= _M64:
            raise EncodeError(f"engine: a clock is nanoseconds from 0 to {_M64}, not {clock}")
        self._clock = clock
        kind = FROZEN if isinstance(clock, int) else REAL if clock is None and self.code.has_clock else PYTHON
        note_clock(self.memory, kind, clock if isinstance(clock, int) else 0)

    def now(self) -> int:
        """Nanoseconds, as bpf_ktime_get_ns gives them."""
        if self._clock is None:
            return time.monotonic_ns()
        return self._clock if isinstance(self._clock, int) else self._clock()

    def random(self) -> int:
        """The next of the seeded random numbers, 32 bits."""
        at = (ENGINE >> 3) + 2
        state = self.memory.u64[at] or 1
        state ^= state << 13 & (1 << 64) - 1
        state ^= state >> 7
        state ^= state << 17 & (1 << 64) - 1
        self.memory.u64[at] = state
        return state >> 32

    def next_id(self) -> int:
        """An id no other object of this machine has."""
        self._next["id"] += 1
        return self._next["id"]

    def next_fd(self) -> int:
        """A number that stands for a descriptor."""
        self._next["fd"] += 1
        return self._next["fd"]

    # -- code ----------------------------------------------------------------------------------------------------

    def provide(self, name: str) -> Any:
        """Make a function of the library runnable: its address. Raises KeyError."""
        found = self.code.resolve.get(name)
        if found is None:
            found = self.code.add(library_code(name), self.next_unit())[0]
            self.code.provided(name, found)
        return found

    def expect(self, name: str) -> None:
        """Make a function of the library callable by programs: at its first call where that is possible. Raises KeyError."""
        if not self.code.expect(name):
            self.provide(name)

    def function(self, name: str) -> Callable[..., int]:
        """A function of the library as a callable of up to five numbers; it gives a signed number."""
        call = self.operation(name)
        return lambda a=0, b=0, c=0, d=0, e=0: call(a, b, c, d, e)

    def operation(self, name: str) -> Callable[..., int]:
        """A function of the library that takes exactly five numbers, kept for the engine's life: each takes memory of its own."""
        found = self._operations.get(name)
        if found is None:
            found = self._operations[name] = self.code.operation(self.provide(name))
        return found

    def bound(self, name: str, *arguments: int) -> Callable[[], int]:
        """A function of the library with its arguments: no Python frame between the caller and it."""
        call: Callable[[], int] = self.code.bound(self.provide(name), *arguments)
        return call

    def next_unit(self) -> int:
        """A number for a piece of code."""
        self._next["unit"] += 1
        return self._next["unit"]

    def new_number(self) -> int:
        """A number for a function whose address programs may take. Raises BpfOSError."""
        if self._numbers:
            return self._numbers.pop()
        self._next_number += 1
        if self._next_number > MAX_FUNCTIONS:
            raise BpfOSError("engine: too many functions are loaded", errno=12, command="BPF_PROG_LOAD")
        return self._next_number - 1

    def free_number(self, number: int) -> None:
        """Give a function's number back."""
        self._numbers.append(number)

    @staticmethod
    def address_of_number(number: int) -> int:
        """A function's address as programs see it."""
        return FUNCTIONS + number

    # -- what goes ---------------------------------------------------------------------------------------------------

    def when_idle(self, action: Callable[..., None], *arguments: object) -> None:
        """Free something: at once, or, while a program or a command of any thread may be using it, after that.

        Threads, signal handlers and finalizers may call this at any time.
        """
        self._waiting.append((action, arguments))
        self.settle()

    def settle(self) -> None:
        """Do what waits for `when_idle`, unless somebody is busy: who is calls this after leaving `lock`."""
        while self._waiting and not self.lock._is_owned() and self.lock.acquire(blocking=False):  # type: ignore[attr-defined]
            try:
                action, arguments = self._waiting.popleft()
                action(*arguments)
            except IndexError:
                return  # another thread, or a finalizer within this loop, did the last one
            finally:
                self.lock.release()

    def gone(self) -> Any:
        """The function that stands for ones of programs that are no more: it gives 0."""
        if self._gone is None:
            code = Code("gone", [Op(0xB7, 0, 0, 0, 0), Op(0x95, 0, 0, 0, 0)], [Function("gone", 0, 2)])
            code.trusted = True
            self._gone = self.code.add(code, self.next_unit())[0]
        return self._gone
