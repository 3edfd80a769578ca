"""`Machine`: memory, CPUs, a clock and tasks, and how programs run on them."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bpf2py.engine.code.code import Code, Function, Op
from bpf2py.engine.code.control import FIRST_CALL, Fault, Slot
from bpf2py.engine.code.library import library_code
from bpf2py.engine.code.native import translator_class
from bpf2py.engine.helpers import KFUNCS, python_helper
from bpf2py.engine.helpers import Fault as HelperFault
from bpf2py.engine.maps.rings import notify
from bpf2py.engine.memory import ENGINE, FUNCTIONS, MAX_FUNCTIONS, NESTING, PUBLIC, STACK, STACKS, Memory
from bpf2py.engine.newest import Newest
from bpf2py.engine.own_helpers import OWN_HELPER, OwnHelpers
from bpf2py.engine.programs.faults import describe
from bpf2py.engine.run import Run
from bpf2py.engine.sockets import XdpSocket
from bpf2py.engine.task import Task
from bpf2py.engine.timers import Timers
from bpf2py.engine.version import has_fixed_lru, parse_version
from bpf2py.errors import BpfOSError, ClosedError, EncodeError
from bpf2py.owned import Owned

if TYPE_CHECKING:
    from bpf2py.engine.maps.core import MapCore
    from bpf2py.engine.maps.handle import EngineMap
    from bpf2py.engine.programs.hooks import EngineLink
    from bpf2py.engine.programs.program import EngineProgram

__all__ = ["DEFAULT_KERNEL", "Machine"]

TRACE_LINES, CLONED_PACKETS = 1 << 16, 1 << 12
DEFAULT_KERNEL = "6.18"
_PID_TGID = (ENGINE >> 3) + 5  # struct engine: pid_tgid, and uid_gid after it
_M64 = (1 << 64) - 1
_PER_RUN = (Slot.STACK_TOP, Slot.STACK_LOW, Slot.TAIL_CALLS, Slot.FAULT)
MAX_LENGTH = 1 << 26  # of what a helper reads or writes


class Machine(Owned):
    """What programs run on: memory, code, CPUs, a clock, tasks and runs; see `bpf2py.engine.Engine` for the arguments."""

    def __init__(
        self,
        kernel: str = DEFAULT_KERNEL,
        possible_cpus: int = 4,
        seed: int = 0,
        clock: int | Callable[[], int] | None = None,
        *,
        task: Task | None = None,
        translator: str | None = None,
        fuel: int | None = None,
        helpers: Mapping[str, Callable[..., int]] | None = None,
    ) -> None:
        if not 1 <= possible_cpus <= 8192:
            raise EncodeError(f"engine: possible_cpus must be 1 to 8192, is {possible_cpus}")
        self.kernel = kernel
        self.version = parse_version(kernel)
        self.seed = seed
        self.trace: Newest[str] = Newest(TRACE_LINES)
        self.signals: Newest[tuple[int, int]] = Newest(TRACE_LINES)
        self.cloned: Newest[tuple[int, bytes]] = Newest(CLONED_PACKETS)
        self.socket_options: dict[tuple[int, int], bytes] = {}
        self.symbols: dict[str, int] = {}
        self.helpers = OwnHelpers(dict(helpers or {}))
        self.lock = threading.RLock()
        self.memory = Memory()
        self.code = translator_class(translator)(self.memory, self._call_helper, self.lock)
        self.fuel: int = self.code.fuel if fuel is None else fuel
        self.code.resolve["maps"], self.code.resolve["maps_end"] = self.memory.header_bounds
        # Weak: a handle that nobody has any more is closed.
        self.maps: weakref.WeakValueDictionary[int, EngineMap] = weakref.WeakValueDictionary()
        self.cores: weakref.WeakValueDictionary[int, MapCore] = weakref.WeakValueDictionary()
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self.programs: dict[int, EngineProgram] = {}
        self.units: dict[int, Any] = {}
        self.runs: list[Run] = []
        self.hooks: list[EngineLink] = []
        self.counting = 0  # how many count runs
        self.timers = Timers(self)
        self.objects: dict[int, int] = {}  # owners of what programs allocated, by its address
        self.events: dict[int, Any] = {}  # perf buffers by number: bpf2py.engine.maps.perf
        self.sockets: weakref.WeakValueDictionary[int, XdpSocket] = weakref.WeakValueDictionary()  # simulated ones
        self.ring_events: list[Any] = []  # readers of ring buffers that wait: bpf2py.engine.maps.rings
        self._storage_owners: dict[int, int] = {}
        self._operations: dict[str, Callable[..., int]] = {}
        self._possible_cpus = possible_cpus
        self._next = {"id": 0, "fd": 2, "unit": 0}
        self._numbers: list[int] = []
        self._next_number = 0
        self._clock: int | Callable[[], int] | None = None
        self._task = task
        self._gone: Any = None
        engine = ENGINE >> 2
        number = self.version[0] << 16 | self.version[1] << 8 | min(self.version[2], 255)
        self.memory.u32[engine] = 0
        self.memory.u32[engine + 1] = possible_cpus
        self.memory.u32[engine + 2] = number
        self.memory.u32[engine + 3] = has_fixed_lru(self.version)
        self.memory.u64[(ENGINE >> 3) + 2] = (seed * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) & (1 << 64) - 1
        self.clock = clock

    # -- the machine ---------------------------------------------------------------------------------------------

    @property
    def arch(self) -> None:
        """Programs get the registers they were compiled for."""

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
    def cpu(self, number: int) -> Iterator[Machine]:
        """Run what follows, programs and map commands, on a CPU. Raises EncodeError when there is no such CPU."""
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
        self.memory.u64[(ENGINE >> 3) + 3] = clock if isinstance(clock, int) else 0

    def now(self) -> int:
        """Nanoseconds, as bpf_ktime_get_ns gives them."""
        if self._clock is None:
            return time.monotonic_ns()
        return self._clock if isinstance(self._clock, int) else self._clock()

    def advance(self, ns: int) -> int:
        """Let frozen time go on, and run the timers that are due, each at its time; how many ran.

        Raises EncodeError when the clock is not a number.
        """
        if not isinstance(self._clock, int):
            raise EncodeError("engine: only a clock that stands still can be advanced: Engine(clock=0)")
        return self.timers.run_due(self._clock + ns)

    @property
    def task(self) -> Task:
        """The task programs run in."""
        if self._task is None:
            self._task = Task.current()
        return self._task

    @task.setter
    def task(self, task: Task) -> None:
        self._task = task

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

    def symbol(self, name: str) -> int | None:
        """The address of a kernel symbol, None where the engine has none."""
        if name in KFUNCS or name in self.helpers:
            return 1
        return self.symbols.get(name)

    def xdp_socket(self) -> XdpSocket:
        """A simulated socket of AF_XDP, for an XSKMAP: real ones need CAP_NET_RAW."""
        return XdpSocket(self)

    def storage_owner(self, address: int) -> int:
        """What storage maps know the simulated object at an address by: a task by its pid, as commands with a pidfd do."""
        return self._storage_owners.get(address, address)

    def owns_storage(self, address: int, owner: int) -> None:
        """Say what storage maps shall know the object at an address by, until the run ends."""
        self._storage_owners[address] = owner

    def core_at(self, header: int) -> MapCore:
        """The map a program gave a helper. Raises the fault that ends the program when it is not a map."""
        core = self.cores.get(header)
        if core is None:
            raise HelperFault(f"{header:#x} is not a map")
        return core

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

    # -- running -------------------------------------------------------------------------------------------------

    def execute(
        self,
        program: EngineProgram,
        context: int,
        prepare: Callable[[Run], None] | None = None,
        callback: tuple[int, ...] = (),
    ) -> int:
        """Run a program on the current CPU as the current task: its result, 64 bits unsigned.

        Args:
            context: the address of its context.
            prepare: is given the `Run` before it starts.
            callback: run a function of the program instead: its address as programs see it, and three more arguments.

        Raises ProgramFault when it is stopped, and whatever a helper raises.
        """
        try:
            with self.lock:
                result = self._execute(program, context, prepare, callback)
                if self.timers and not self.runs:
                    self.timers.after_run()
                return result
        finally:
            self.settle()

    def _execute(
        self, program: EngineProgram, context: int, prepare: Callable[[Run], None] | None, callback: tuple[int, ...]
    ) -> int:
        depth = len(self.runs)
        if depth >= NESTING:
            raise BpfOSError(
                "engine: programs that run within programs are nested too deeply", errno=16, command="BPF_PROG_TEST_RUN"
            )
        if program.fd < 0 and not callback:
            raise ClosedError(f"program {program.name}: run: the program is closed")
        task = self.task
        run = Run(program, context, task)
        self.memory.u64[_PID_TGID] = (task.tgid << 32 | task.pid & 0xFFFFFFFF) & _M64
        self.memory.u64[_PID_TGID + 1] = (task.gid << 32 | task.uid & 0xFFFFFFFF) & _M64
        if prepare is not None:
            prepare(run)
        control = self.memory.control
        kept = [control[slot] for slot in _PER_RUN]
        low = self.memory.base + STACKS + (NESTING - 1 - depth) * STACK
        try:
            self.runs.append(run)
            started = time.perf_counter_ns() if self.counting else None
            for slot, value in zip(_PER_RUN, (low + STACK, low, 0, 0), strict=True):
                control[slot] = value
            if not depth:  # a run within another is on that one's account
                control[Slot.FUEL] = self.fuel
            if callback:
                function = self.code.numbered(callback[0] - FUNCTIONS)
                result: int = self.code.run(function, context, *callback[1:])
            else:
                result = self.code.run(program.entry, context)
            fault = control[Slot.FAULT]
            if fault:
                result = self._faulted(run, fault)
        finally:
            del self.runs[depth:]
            for address in run.owned:
                self._storage_owners.pop(address, None)
                self.memory.free(address)
            for slot, value in zip(_PER_RUN, kept, strict=True):
                control[slot] = value
        if started is not None:
            program.ran(time.perf_counter_ns() - started)
        if self.ring_events:
            notify(self)
        return result

    def _faulted(self, run: Run, fault: int) -> int:
        control = self.memory.control
        if fault == Fault.THROW:
            return control[Slot.RESULT]
        if isinstance(run.error, RecursionError):
            run.error, fault = None, Fault.STACK
        if run.error is not None:
            if isinstance(run.error, HelperFault):
                raise describe(self, run, fault, str(run.error)) from None
            raise run.error
        raise describe(self, run, fault)

    def _call_helper(self, a: int, b: int, c: int, d: int, e: int, number: int) -> int:
        try:
            if number >= FIRST_CALL:
                self.provide(self.code.expected(number - FIRST_CALL))
                return 0
            fuel = self.memory.control[Slot.FUEL] - self.code.helper_cost
            if fuel < 0:
                self.memory.control[Slot.FAULT] = Fault.FUEL
                return 0
            self.memory.control[Slot.FUEL] = fuel
            if number >= OWN_HELPER:
                result = self.helpers.call(self, number, (a, b, c, d, e))
            else:
                result = python_helper(number)(self, a, b, c, d, e)
            return (result + (1 << 63) & (1 << 64) - 1) - (1 << 63)
        except BaseException as error:
            self.runs[-1].error = error
            self.memory.control[Slot.FAULT] = Fault.PYTHON
            return 0

    @property
    def fault_slot(self) -> int:
        """The instruction whose helper runs."""
        return self.memory.control[Slot.PC]

    def gone(self) -> Any:
        """The function that stands for ones of programs that are no more: it gives 0."""
        if self._gone is None:
            code = Code("gone", [Op(0xB7, 0, 0, 0, 0), Op(0x95, 0, 0, 0, 0)], [Function("gone", 0, 2)])
            code.trusted = True
            self._gone = self.code.add(code, self.next_unit())[0]
        return self._gone

    @property
    def current(self) -> Run:
        """The innermost run."""
        return self.runs[-1]

    @staticmethod
    def length(size: int) -> int:
        """A size a program gave a helper, 32 bits of it. Raises the fault that ends the program when no memory is that large."""
        size &= 0xFFFFFFFF
        if size > MAX_LENGTH:
            raise HelperFault(f"a size of {size} bytes")
        return size

    def read(self, address: int, size: int) -> bytes:
        """Memory a program gave a helper. Raises the fault that ends the program when it is none of its own."""
        if size > MAX_LENGTH or not PUBLIC <= address <= self.memory.size - size:
            raise HelperFault(f"{size} bytes at address {address:#x} are not memory of the program's")
        return bytes(self.memory.view[address : address + size])

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write to memory a program gave a helper; see `read`."""
        if not PUBLIC <= address <= self.memory.size - len(data):
            raise HelperFault(f"{len(data)} bytes at address {address:#x} are not memory of the program's")
        self.memory.view[address : address + len(data)] = data
