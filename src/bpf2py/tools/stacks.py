"""profile and offcputime: stacks of kernel and native code, counted in the kernel."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile

from bpf2py._typing import TYPE_CHECKING, Any, NamedTuple
from bpf2py.errors import BpfError
from bpf2py.symbols.stacks import Stacks
from bpf2py.symbols.symbolizer import Symbolizer
from bpf2py.tools.framework import Filter, Flames, Record, Tool

if TYPE_CHECKING:
    from typing import ClassVar

    from bpf2py.object import Object
    from bpf2py.symbols.symbolizer import Frame

__all__ = ["Named", "Offcputime", "Profile", "StackTool"]

MICROSECOND = 1000
# How a program is called.
OWN = (
    "bpf_prog_", "bpf_trace_run", "__traceiter_", "__bpf_trace_", "bpf_get_stack", "trace_call_bpf", "perf_trace_", "perf_syscall_",
    "syscall_trace_enter", "syscall_trace_exit", "trace_syscall_", "syscall_exit_work", "kprobe_", "kretprobe_", "fprobe_",
)  # fmt: skip


class KernelFrame(NamedTuple):
    """A frame of the kernel, marked as flame graph tools mark them."""

    frame: Frame

    @property
    def short(self) -> str:
        """``schedule_[k]``."""
        return f"{self.frame.short}_[k]"


class Named:
    """Stacks that programs kept in a map, by their numbers; each is named once for each process."""

    def __init__(self, obj: Object) -> None:
        self._obj = obj
        self._symbolizer = Symbolizer()
        self._kernel: dict[int, list[KernelFrame]] = {}
        self._user: dict[int, dict[int, list[Frame]]] = {}
        self._too_late = 0

    def _addresses(self, number: int) -> list[int]:
        found: Any = self._obj.maps["stacks"].get(number) if number else None
        addresses = list(takewhile(bool, found.frames)) if found is not None else []
        if len(addresses) > 2 and addresses[1] == addresses[2]:
            del addresses[1]  # where a call returns to, of which both the program and the kernel told
        return addresses

    def kernel(self, number: int) -> list[KernelFrame]:
        """A stack of the kernel, innermost first; empty where there is none."""
        if number not in self._kernel:
            found = self._symbolizer.kernel(self._addresses(number), callers=True)
            while found and found[0].name.startswith(OWN):
                del found[0]
            self._kernel[number] = [KernelFrame(frame) for frame in found]
        return self._kernel[number]

    def user(self, pid: int, number: int) -> list[Frame]:
        """A stack of a process."""
        known = self._user.setdefault(pid, {})
        if number not in known:
            frames = self._symbolizer.user(pid, self._addresses(number), callers=True)
            # Without frame pointers the kernel takes other data for return addresses. What is not code ends the stack.
            if frames and all(frame.kind == "unknown" for frame in frames):
                self._too_late += 1
            strayed = (position for position, frame in enumerate(frames) if position and frame.kind == "unknown")
            known[number] = frames[: next(strayed, None)]
        return known[number]

    def forget(self, pid: int) -> None:
        """It runs another program, or is another process with the same number."""
        self._user.pop(pid, None)

    @property
    def problems(self) -> list[str]:
        """What is missing in what was named."""
        found = []
        if missing := int(self._obj.variables["no_room"].value):
            found.append(f"{missing} stacks are missing: there are too many different ones")
        if unnamed := int(self._obj.variables["unnamed"].value) if "unnamed" in self._obj.variables else 0:
            found.append(f"{unnamed} stacks were not named while their processes lived: they came faster than that")
        if self._too_late:
            found.append(f"{self._too_late} stacks have no names: their processes had ended before they were looked at")
        return found


class StackTool(Tool):
    """What counts stacks in the kernel, and names each when it is new."""

    unit: ClassVar[str]

    def __init__(
        self, wanted: Filter, variables: dict[str, Any] | None = None, *, autoload: Mapping[str, bool] | None = None
    ) -> None:
        super().__init__(wanted, variables, autoload=autoload)
        self.named = Named(self.obj)

    def _record(self, event: Any) -> Record | None:
        """A stack that is new: named while its process lives."""
        self.named.user(event.pid, event.user)
        return None

    def _counts(self) -> Iterable[tuple[Any, int]]:
        yield from self.obj.maps["counts"].items()

    def _leaf(self, key: Any) -> list[str]:
        """What stands innermost, beyond the frames."""
        return []

    def results(self) -> Iterator[Flames]:
        stacks = Stacks(self.unit)
        for key, count in self._counts():
            frames: list[KernelFrame | Frame | str] = [
                *self._leaf(key),
                *self.named.kernel(key.kernel),
                *self.named.user(key.pid, key.user),
            ]
            stacks.add(frames, count, root=self.root(key.comm, key.cgroup))
        yield Flames(stacks)

    @property
    def problems(self) -> list[str]:
        return [*super().problems, *self.named.problems]


class Profile(StackTool):
    """Samples of what runs on the CPUs, idle ones left out, `frequency` times a second on each."""

    program = "profile"
    unit = "samples"

    def __init__(self, wanted: Filter, *, frequency: int = 99) -> None:
        self._frequency = frequency
        super().__init__(wanted)

    def attach(self) -> None:
        self.obj.programs["on_sample"].attach(event="cpu-clock", frequency=self._frequency)


class Offcputime(StackTool):
    """Time that threads are not on a CPU, in microseconds, by the stack with which they left it.

    Waits that last when the tool ends count up to then; those that began before it do not count.
    """

    program = "offcputime"
    unit = "microseconds"

    def __init__(self, wanted: Filter, *, least_us: int = 0) -> None:
        self._least_ns = least_us * MICROSECOND
        super().__init__(wanted, {"least_ns": self._least_ns})
        self._stopped = 0

    def stop(self) -> None:
        super().stop()
        self._stopped = self._stopped or time.monotonic_ns()

    def _counts(self) -> Iterator[tuple[Any, int]]:
        for key, total in super()._counts():
            yield key, total // MICROSECOND
        for off in self.obj.maps["started"].values():
            waited = self._stopped - off.begin_ns
            if waited >= self._least_ns:
                yield off.key, waited // MICROSECOND


def most_samples() -> int | None:
    """Samples a second the kernel allows; None where that is not known."""
    try:
        with open("/proc/sys/kernel/perf_event_max_sample_rate") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def check_frequency(frequency: int) -> int:
    """Raises BpfError for one the kernel would not take."""
    most = most_samples()
    if most is not None and frequency > most:
        raise BpfError(f"{frequency} samples a second are more than kernel.perf_event_max_sample_rate allows: {most}")
    return frequency
