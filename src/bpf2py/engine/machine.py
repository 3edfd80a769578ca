"""`Machine`: a system with maps, programs and tasks, and how programs run on it."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping

from bpf2py.engine.code.control import FIRST_CALL, Fault, Slot
from bpf2py.engine.helpers import KFUNCS, python_helper
from bpf2py.engine.helpers import Fault as HelperFault
from bpf2py.engine.maps.core import MapCore, MapSystem
from bpf2py.engine.maps.rings import notify
from bpf2py.engine.memory import FUNCTIONS, NESTING, PUBLIC, STACK, STACKS
from bpf2py.engine.newest import Newest
from bpf2py.engine.own_helpers import OWN_HELPER, OwnHelpers
from bpf2py.engine.programs.faults import describe
from bpf2py.engine.programs.loaded import Attachment, LoadedProgram
from bpf2py.engine.run import Run
from bpf2py.engine.sockets import XdpSocket
from bpf2py.engine.state import has_logged, logged, note_run
from bpf2py.engine.task import Task
from bpf2py.engine.timers import Timers
from bpf2py.errors import BpfOSError, ClosedError, EncodeError, ProgramFault

__all__ = ["DEFAULT_KERNEL", "Machine"]

TRACE_LINES, CLONED_PACKETS = 1 << 16, 1 << 12
DEFAULT_KERNEL = "6.18"
_PER_RUN = (Slot.STACK_TOP, Slot.STACK_LOW, Slot.TAIL_CALLS, Slot.FAULT)
MAX_LENGTH = 1 << 26  # of what a helper reads or writes


class Machine(MapSystem):
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
        super().__init__(kernel, possible_cpus, seed, clock, translator, fuel)
        self._trace: Newest[str] = Newest(TRACE_LINES)
        self.signals: Newest[tuple[int, int]] = Newest(TRACE_LINES)
        self.cloned: Newest[tuple[int, bytes]] = Newest(CLONED_PACKETS)
        self.socket_options: dict[tuple[int, int], bytes] = {}
        self.symbols: dict[str, int] = {}
        self.helpers = OwnHelpers(dict(helpers or {}))
        self.maps = weakref.WeakValueDictionary()
        self.cores = weakref.WeakValueDictionary()
        self.sockets = weakref.WeakValueDictionary()
        self.events = {}
        self.ring_events = []
        self.programs: dict[int, LoadedProgram] = {}
        self.units: dict[int, LoadedProgram] = {}
        self.runs: list[Run] = []
        self.hooks: list[Attachment] = []
        self.counting = 0  # how many count runs
        self.timers: Timers = Timers(self)
        self.objects: dict[int, int] = {}  # owners of what programs allocated, by its address
        self._storage_owners: dict[int, int] = {}
        self._task = task

    # -- the machine ---------------------------------------------------------------------------------------------

    @property
    def arch(self) -> None:
        """Programs get the registers they were compiled for."""

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

    def symbol(self, name: str) -> int | None:
        """The address of a kernel symbol, None where the engine has none."""
        if name in KFUNCS or name in self.helpers:
            return 1
        return self.symbols.get(name)

    @property
    def trace(self) -> Newest[str]:
        """Lines of bpf_trace_printk."""
        self._keep_lines()
        return self._trace

    @trace.setter
    def trace(self, lines: Newest[str]) -> None:
        logged(self.memory)
        self._trace = lines

    def _keep_lines(self) -> None:
        for line in logged(self.memory):
            self._trace.add(line.decode("utf-8", "replace").rstrip("\n"))

    def xdp_socket(self) -> XdpSocket:
        """A simulated socket of AF_XDP, for an XSKMAP: real ones need CAP_NET_RAW."""
        socket = XdpSocket(self.next_fd())
        self.sockets[socket.fileno()] = socket
        return socket

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

    # -- running -------------------------------------------------------------------------------------------------

    def execute(
        self,
        program: LoadedProgram,
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
        self, program: LoadedProgram, context: int, prepare: Callable[[Run], None] | None, callback: tuple[int, ...]
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
        if prepare is not None:
            prepare(run)
        note_run(self.memory, run)
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
            if depth:
                note_run(self.memory, self.runs[-1])
            for address in run.owned:
                self._storage_owners.pop(address, None)
                self.memory.free(address)
            for slot, value in zip(_PER_RUN, kept, strict=True):
                control[slot] = value
        if started is not None:
            program.ran(time.perf_counter_ns() - started)
        if has_logged(self.memory):
            self._keep_lines()
        if self.ring_events:
            notify(self.ring_events)
        return result

    def _faulted(self, run: Run, fault: int) -> int:
        control = self.memory.control
        if fault == Fault.THROW:
            return control[Slot.RESULT]
        if isinstance(run.error, RecursionError):
            run.error, fault = None, Fault.STACK
        if run.error is not None:
            if isinstance(run.error, HelperFault):
                raise self._described(run, fault, str(run.error)) from None
            raise run.error
        raise self._described(run, fault)

    def _described(self, run: Run, fault: int, text: str = "") -> ProgramFault:
        control = self.memory.control
        return describe(run, self.units.get(control[Slot.UNIT]), control, fault, self.fuel, text)

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
