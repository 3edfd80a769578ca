"""What the CPU does while a program runs: cycles, instructions, cache misses, and whatever else perf events count."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from bpf2py.errors import BpfError, BpfOSError, EncodeError, NotSupported, ObjectError, VerifierError
from bpf2py.kernel import inspect
from bpf2py.kernel.attach.perf_event import EVENTS
from bpf2py.kernel.perf_event import open_event
from bpf2py.kernel.syscall import Fd
from bpf2py.loading import load
from bpf2py.object import Object
from bpf2py.owned import Owned
from bpf2py.programs import Program
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.toolchain.compiler import compile
from bpf2py.tools.framework import program_path
from bpf2py.uapi.cpus import online_cpus, possible_cpus
from bpf2py.uapi.errno import EINVAL, ENODEV, ENOENT, EOPNOTSUPP

__all__ = ["COUNTERS", "MOST", "Counted", "ProgCounters"]

MOST = 8  # counters at once, as the program has room for
_CACHE, _MISS = 3, 1 << 16  # PERF_TYPE_HW_CACHE; the cache's number, | operation << 8, | result << 16
# Names as `bpftool prog profile` has them, and those of perf (include/uapi/linux/perf_event.h).
COUNTERS: dict[str, tuple[int, int]] = {
    "cycles": EVENTS["cpu-cycles"],
    "instructions": EVENTS["instructions"],
    "l1d_loads": (_CACHE, 0),
    "llc_misses": (_CACHE, 2 | _MISS),
    "itlb_misses": (_CACHE, 4 | _MISS),
    "dtlb_misses": (_CACHE, 3 | _MISS),
    **EVENTS,
}


class Counted(NamedTuple):
    """What was counted while a program ran.

    Attributes:
        runs: those that were measured from begin to end.
        counters: by name, in all of these runs; times of clocks are nanoseconds.
        unread: runs that began and could not be read at their end.
    """

    runs: int
    counters: dict[str, int]
    unread: int


class ProgCounters(Owned):
    """Counts perf events while a program runs, by programs at its entry and exit (Linux 5.5). A context manager.

    The program must have BTF, and a kernel with BPF trampolines is needed. What these programs do themselves is counted as well, as
    `bpftool prog profile` does: some hundred cycles a run.

    Args:
        program: a loaded program; tracing programs (fentry, fexit, LSM) since Linux 6.8.
        counters: names of `COUNTERS`, 8 at most.

    Raises EncodeError for an unknown name, NotSupported for an event that this machine does not count, ObjectError if the program
    has no BTF, PermissionDenied, BpfError.

    Example:
        >>> with ProgCounters(obj.programs["count"], ["cycles"]) as counters:     # doctest: +SKIP
        ...     counters.read()
    """

    def __init__(self, program: Program, counters: Sequence[str]) -> None:
        self._events: list[Fd] = []
        self._obj: Object | None = None
        self._names = list(dict.fromkeys(counters))
        unknown = [name for name in self._names if name not in COUNTERS]
        if unknown:
            raise EncodeError(f"unknown counter {unknown[0]!r}; known are {', '.join(sorted(COUNTERS))}")
        if not 1 <= len(self._names) <= MOST:
            raise EncodeError(f"{len(self._names)} counters: 1 to {MOST} can be read at once")
        function = inspect.entry_function(program.fileno())
        if not function:
            raise ObjectError(f"program {program.name} has no BTF, which names the function to measure")
        try:
            self._start(program, function)
        except BaseException:
            self.close()
            raise

    def _start(self, program: Program, function: str) -> None:
        path, cpus = program_path("prog_counters"), possible_cpus()
        spec = ObjectSpec.from_bytes(compile(path), "prog_counters")
        for each in spec.programs.values():
            each.target, each.target_program = function, program
        spec.maps["events"].max_entries = len(self._names) * cpus
        spec.variables["counters"].value = len(self._names)
        spec.variables["cpus"].value = cpus
        try:
            self._obj = load(spec, "kernel")
        except VerifierError as error:
            raise BpfError(f"program {program.name} cannot be measured: {error}") from error
        events = self._obj.maps["events"]
        for position, name in enumerate(self._names):
            for cpu in online_cpus():
                event = self._open(program, name, cpu)
                self._events.append(event)
                events[position * cpus + cpu] = event.number
        self._obj.programs["on_exit"].attach()  # a run that is not seen to begin is not counted
        self._obj.programs["on_entry"].attach()

    def _open(self, program: Program, name: str, cpu: int) -> Fd:
        kind, config = COUNTERS[name]
        what = f"program {program.name}: {name}"
        try:
            return open_event(what, kind, config, sample_period=0, sample_type=0, wakeup_events=0, cpu=cpu)
        except (BpfOSError, NotSupported) as error:
            if error.errno not in (EINVAL, ENODEV, ENOENT, EOPNOTSUPP):
                raise
            software = ", ".join(name for name, (kind, _) in COUNTERS.items() if kind == 1)
            raise NotSupported(
                f"{what}: this machine does not count that ({os.strerror(error.errno)}): virtual machines often have no "
                f"hardware counters; the kernel's own are {software}",
                feature=name,
                errno=error.errno,
                command="perf_event_open",
            ) from None

    def read(self) -> Counted:
        """What was counted until now. Where more events are counted than the CPU has counters for, scaled to the whole time."""
        assert self._obj is not None
        counters = {}
        for position, name in enumerate(self._names):
            total = 0
            for each in self._obj.maps["totals"][position].values:
                total += each.counter * each.enabled // each.running if each.running else each.counter
            counters[name] = total
        return Counted(self._obj.maps["runs"][0].sum(), counters, int(self._obj.variables["unread"].value))

    def close(self) -> None:
        """Detach, and close the events."""
        if self._obj is not None:
            self._obj.close()
        for event in self._events:
            event.close()
        self._events.clear()

    def __enter__(self) -> ProgCounters:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
