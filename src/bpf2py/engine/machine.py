"""`Engine`: a simulated machine with maps, programs, CPUs, a clock and tasks."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from bpf2py.btf.reader import Btf
from bpf2py.engine.helpers import Fault as HelperFault
from bpf2py.engine.helpers import python_helper
from bpf2py.engine.library import library_code
from bpf2py.engine.memory import ENGINE, FUNCTIONS, MAX_FUNCTIONS, NESTING, PUBLIC, STACK, STACKS, Memory
from bpf2py.engine.native import translator_class
from bpf2py.engine.own_helpers import OWN_HELPER, OwnHelpers
from bpf2py.engine.run import Run
from bpf2py.engine.sockets import XdpSocket
from bpf2py.engine.task import Task
from bpf2py.engine.version import NEWEST_PATCH, has_fixed_lru, parse_version
from bpf2py.engine.x86_runtime import FIRST_CALL, Fault, Slot
from bpf2py.errors import BpfOSError, EncodeError, NotSupported
from bpf2py.info import MapInfo
from bpf2py.linker.core import CoreTarget
from bpf2py.spec.map_spec import MapSpec
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.program_spec import ProgramSpec

if TYPE_CHECKING:
    from bpf2py.engine.program import EngineProgram

__all__ = ["Engine"]

DEFAULT_FUEL = 1 << 31  # instructions in loops: some seconds
DEFAULT_KERNEL = "6.18"
_PID_TGID = (ENGINE >> 3) + 5  # struct engine: pid_tgid, and uid_gid behind it
_M64 = (1 << 64) - 1
MAX_LENGTH = 1 << 26  # of what a helper reads or writes


class Engine:
    """A simulated machine for eBPF, in this process and without privileges; pass it as ``backend=``.

    Args:
        kernel: whose behaviour is shown where kernels differ: ``"6.18"``, ``"6.12.20"``; without a patch level the newest
            of its series.
        possible_cpus: slots of per-CPU values, and the CPUs programs may run on.
        seed: of hash seeds and bpf_get_prandom_u32: the same seed gives the same iteration order and numbers.
        clock: nanoseconds bpf_ktime_get_ns gives: None for the machine's monotonic clock, a number for time that stands still (see
            `advance`), or a function.
        task: who programs run as: this process without.
        translator: ``"native"`` (machine code), ``"python"``, or None: machine code where that is possible, unless the environment
            variable BPF2PY_ENGINE says ``python``.
        fuel: instructions a run may spend in loops before it is stopped.
        helpers: see the attribute.

    Attributes:
        helpers: functions of your own in place of helpers and kernel functions, by name, for programs that are loaded from then on:
            called with the engine and the program's arguments (numbers; `read` and `write` follow pointers), they return a number.
        trace: lines of bpf_trace_printk.
        cloned: (interface, packet) of each bpf_clone_redirect.
        signals: (pid, number) of each bpf_send_signal.
        symbols: addresses of ``extern ... __ksym`` variables, by name.

    Example:
        >>> from bpf2py.engine import Engine
        >>> engine = Engine(kernel="6.1", possible_cpus=6)
        >>> with bpf2py.load("counter.bpf.c", backend=engine) as obj:     # doctest: +SKIP
        ...     with engine.cpu(3):
        ...         obj.programs["count"].run()
    """

    name = "engine"

    def __init__(
        self,
        kernel: str = DEFAULT_KERNEL,
        possible_cpus: int = 4,
        seed: int = 0,
        clock: int | Callable[[], int] | None = None,
        *,
        task: Task | None = None,
        translator: str | None = None,
        fuel: int = DEFAULT_FUEL,
        helpers: Mapping[str, Callable[..., int]] | None = None,
    ) -> None:
        if not 1 <= possible_cpus <= 8192:
            raise EncodeError(f"engine: possible_cpus must be 1 to 8192, is {possible_cpus}")
        self.kernel = kernel
        self.version = parse_version(kernel)
        self.seed = seed
        self.fuel = fuel
        self.trace: list[str] = []
        self.signals: list[tuple[int, int]] = []
        self.cloned: list[tuple[int, bytes]] = []
        self.symbols: dict[str, int] = {}
        self.helpers = OwnHelpers(dict(helpers or {}))
        self.lock = threading.RLock()
        self.memory = Memory()
        self.code = translator_class(translator)(self.memory, self._call_helper)
        self.code.resolve["maps"], self.code.resolve["maps_end"] = self.memory.header_bounds
        # Weak: a handle that nobody has any more is closed.
        self.maps: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self.cores: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self.programs: dict[int, Any] = {}
        self.units: dict[int, Any] = {}
        self.runs: list[Run] = []
        self.hooks: list[Any] = []
        self.timers: dict[int, Any] = {}
        self.events: dict[int, Any] = {}  # perf buffers by number: bpf2py.engine.maps.perf
        self.sockets: weakref.WeakValueDictionary[int, XdpSocket] = weakref.WeakValueDictionary()  # simulated ones
        self.ring_events: list[Any] = []  # readers of ring buffers that wait: bpf2py.engine.maps.rings
        self._storage_owners: dict[int, int] = {}
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
    def cpu(self, number: int) -> Iterator[Engine]:
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
        from bpf2py.engine.helpers.timer import run_due

        return run_due(self, self._clock + ns)

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
        from bpf2py.engine.helpers import KFUNCS

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

    def map_of_header(self, header: int) -> Any:
        """The map whose header is at an address. Raises KeyError."""
        for handle in list(self.maps.values()):
            if handle.header == header:
                return handle
        from bpf2py.engine.maps.handle import EngineMap

        return EngineMap(self.cores[header])  # one that only another map holds

    def map_at(self, header: int) -> Any:
        """The map a program gave a helper. Raises the fault that ends the program when it is none."""
        try:
            return self.map_of_header(header)
        except KeyError:
            raise HelperFault(f"{header:#x} is no map") from None

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
        call = self.code.operation(self.provide(name))
        return lambda a=0, b=0, c=0, d=0, e=0: call(a, b, c, d, e)

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
        with self.lock:
            depth = len(self.runs)
            if depth >= NESTING:
                raise BpfOSError(
                    "engine: programs that run within programs are nested too deeply",
                    errno=16,
                    command="BPF_PROG_TEST_RUN",
                )
            task = self.task
            run = Run(program, context, task)
            self.memory.u64[_PID_TGID] = (task.tgid << 32 | task.pid & 0xFFFFFFFF) & _M64
            self.memory.u64[_PID_TGID + 1] = (task.gid << 32 | task.uid & 0xFFFFFFFF) & _M64
            if prepare is not None:
                prepare(run)
            control = self.memory.control
            kept = [control[slot] for slot in (Slot.STACK_TOP, Slot.STACK_LOW, Slot.FUEL, Slot.TAIL_CALLS, Slot.FAULT)]
            low = self.memory.base + STACKS + (NESTING - 1 - depth) * STACK
            control[Slot.STACK_TOP] = low + STACK
            control[Slot.STACK_LOW] = low
            control[Slot.FUEL] = self.fuel
            control[Slot.TAIL_CALLS] = 0
            control[Slot.FAULT] = 0
            self.runs.append(run)
            try:
                if callback:
                    function = self.code.numbered(callback[0] - FUNCTIONS)
                    result: int = self.code.run(function, context, *callback[1:])
                else:
                    result = self.code.run(program.entry, context)
                fault = control[Slot.FAULT]
                if fault:
                    result = self._faulted(run, fault)
            finally:
                self.runs.pop()
                for address in run.owned:
                    self._storage_owners.pop(address, None)
                    self.memory.free(address)
                for slot, value in zip(
                    (Slot.STACK_TOP, Slot.STACK_LOW, Slot.FUEL, Slot.TAIL_CALLS, Slot.FAULT), kept, strict=True
                ):
                    control[slot] = value
            program.ran(self)
            if self.ring_events:
                from bpf2py.engine.maps.rings import notify

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
                from bpf2py.engine.faults import describe

                raise describe(self, run, fault, str(run.error)) from None
            raise run.error
        from bpf2py.engine.faults import describe

        raise describe(self, run, fault)

    def _call_helper(self, a: int, b: int, c: int, d: int, e: int, number: int) -> int:
        try:
            if number >= FIRST_CALL:
                self.provide(self.code.expected(number - FIRST_CALL))
                return 0
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
            from bpf2py.engine.code import Code, Function, Op

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
            raise HelperFault(f"{size} bytes at address {address:#x} are no memory of the program's")
        return bytes(self.memory.view[address : address + size])

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write to memory a program gave a helper; see `read`."""
        if not PUBLIC <= address <= self.memory.size - len(data):
            raise HelperFault(f"{len(data)} bytes at address {address:#x} are no memory of the program's")
        self.memory.view[address : address + len(data)] = data

    # -- what a backend does -------------------------------------------------------------------------------------

    def prepare(self, spec: ObjectSpec) -> _Prepared:
        """Nothing is shared by the maps and programs of an object but its types."""
        return _Prepared(spec)

    def create_map(self, spec: MapSpec, prepared: Any = None, inner: Any = None) -> Any:
        """Create a map. Raises MapCreateError or NotSupported."""
        from bpf2py.engine.maps import create

        with self.lock:
            return create(self, spec, inner)

    def create_struct_ops(self, spec: MapSpec, _programs: Mapping[str, ProgramSpec], _prepared: Any) -> Any:
        """The engine has no kernel whose structs of functions could be filled."""
        raise NotSupported(
            f"map {spec.name}: create: the engine has no STRUCT_OPS maps; use the kernel", feature="STRUCT_OPS"
        )

    def kconfig(self) -> tuple[Any, Any]:
        """(lookup of CONFIG_ values, lookup of LINUX_ values)."""
        return (lambda _name: None), self._linux

    def _linux(self, name: str) -> int | None:
        if name == "LINUX_KERNEL_VERSION":
            major, minor, patch = self.version
            return major << 16 | minor << 8 | (0 if patch == NEWEST_PATCH else patch)
        return 1 if name.startswith("LINUX_HAS_") else None

    def core_target(self, spec: ObjectSpec | None = None) -> CoreTarget:
        """The types of the object itself: the simulated kernel has exactly those its programs were written for."""
        return CoreTarget(spec.types if spec is not None else None)

    def load_programs(
        self,
        programs: Sequence[tuple[ProgramSpec, Any]],
        spec: ObjectSpec,
        maps: Mapping[str, Any],
        prepared: Any,
    ) -> list[Any]:
        """Check and translate programs, all or none. Raises VerifierError or NotSupported."""
        from bpf2py.engine.program import load

        loaded: list[Any] = []
        try:
            with self.lock:
                for program, linked in programs:
                    loaded.append(load(self, program, linked, spec, maps))
        except BaseException:
            for made in loaded:
                made.close()
            raise
        return loaded

    def attach(self, program: Any, spec: ProgramSpec, options: dict[str, Any]) -> Sequence[Any]:
        """Attach to a hook of the simulated machine: see `bpf2py.engine.hooks`."""
        from bpf2py.engine.hooks import attach

        return attach(self, program, spec, options)

    def can_attach(self, spec: ProgramSpec) -> bool:
        """Whether the section name alone says where such programs belong."""
        from bpf2py.engine.hooks import can_attach

        return can_attach(spec)

    def fire(self, hook: str, *arguments: Any, **fields: Any) -> list[int]:
        """Let an event happen: run every program attached to a hook; their results.

        Args:
            hook: as a SEC() name says it: ``"tracepoint/syscalls/sys_enter_openat"``, ``"raw_tp/sched_switch"``,
                ``"kprobe/do_unlinkat"``.
            arguments: of a raw tracepoint or probed function, in order.
            fields: of the tracepoint's or context's struct, by name.
        """
        from bpf2py.engine.hooks import fire

        return fire(self, hook, arguments, fields)

    def test_run(
        self, program: Any, name: str, data: bytes, context: bytes, repeat: int, cpu: int | None, flags: int
    ) -> Any:
        """What BPF_PROG_TEST_RUN does."""
        from bpf2py.engine.prog_test_run import test_run

        return test_run(self, program, name, data, context, repeat, cpu, flags)

    def run_program(
        self,
        program: Any,
        context: Any,
        data: bytes,
        arguments: Sequence[Any],
        fields: Mapping[str, Any],
        cpu: int | None,
    ) -> Any:
        """Run a program on a context made from Python values: see `Program.run`."""
        from bpf2py.engine.hooks import run_program

        if cpu is None:
            return run_program(self, program, context, data, arguments, fields)
        with self.cpu(cpu):
            return run_program(self, program, context, data, arguments, fields)

    def map_btf(self, info: MapInfo) -> Btf | None:
        """The types of a map opened by its number."""
        for handle in list(self.maps.values()):
            if handle.info.id == info.id:
                types: Btf | None = handle.core.spec.btf
                return types
        return None

    def program_code(self, program: Any, jited: bool) -> bytes:
        """The code as the engine runs it."""
        code: bytes = program.machine_code() if jited else program.bytecode
        return code

    def source_lines(self, program: Any) -> list[tuple[int, str]]:
        """(instruction, source line) of a program."""
        found: list[tuple[int, str]] = program.source_lines()
        return found

    def helper_names(self, code: bytes) -> dict[int, str]:
        """Names of helpers whose numbers were changed: none."""
        return {}

    def open_map_id(self, ident: int, read_only: bool = False) -> Any:
        """The map with this id. Raises BpfOSError (ENOENT)."""
        if read_only:
            raise NotSupported(f"map id {ident}: open: the engine has no read-only handles", feature="read_only")
        for handle in list(self.maps.values()):
            if handle.info.id == ident:
                return handle.duplicate()
        raise BpfOSError(f"map id {ident}: open: the engine has no such map", errno=2, command="BPF_MAP_GET_FD_BY_ID")

    def open_map_fd(self, fd: int) -> Any:
        """The map with this number. Raises BpfOSError (EBADF)."""
        handle = self.maps.get(fd)
        if handle is None:
            raise BpfOSError(
                f"map fd {fd}: open: the engine has no such map", errno=9, command="BPF_OBJ_GET_INFO_BY_FD"
            )
        return handle.duplicate()

    def open_program_id(self, ident: int) -> Any:
        """The program with this id. Raises BpfOSError (ENOENT)."""
        for handle in self.programs.values():
            if handle.ident == ident:
                return handle.duplicate()
        raise BpfOSError(
            f"program id {ident}: open: the engine has no such program", errno=2, command="BPF_PROG_GET_FD_BY_ID"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("open_") and name.endswith("_pin"):
            return partial(_no_pins, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        held = f"maps={len(self.maps)} programs={len(self.programs)}"
        return f"<Engine kernel={self.kernel} possible_cpus={self.possible_cpus} {held}>"


class _Prepared:
    """What `prepare` gives."""

    warning: str | None = None

    def __init__(self, spec: ObjectSpec) -> None:
        self.spec = spec

    def close(self) -> None:
        """Nothing to give up."""


def _no_pins(name: str, path: str, *_: object) -> Any:
    raise NotSupported(f"{path}: the engine has no BPF file system; keep the Map or the Engine instead", feature=name)
