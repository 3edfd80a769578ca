"""pyprofile and pyoffcpu: what Python programs do and wait for, by function and line."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.readers.ring import RingReader
from bpf2py.symbols.python import PythonStacks, merged
from bpf2py.symbols.stacks import Stacks
from bpf2py.tools.framework import Filter, Flames, Record, Tool
from bpf2py.tools.stacks import MICROSECOND, Named

if TYPE_CHECKING:
    from typing import ClassVar

    from bpf2py.seam.protocol import EventSource
    from bpf2py.symbols.python import Interpreter

__all__ = ["Pyoffcpu", "Pyprofile", "PythonTool"]


class PythonTool(Tool):
    """What takes the Python stack of its events.

    Args:
        wanted: whom to watch.
        native: whether the frames of native code and the kernel are shown among those of Python.

    Attributes:
        stacks: what was counted.
        python: which processes run Python.
    """

    unit: ClassVar[str] = "samples"

    def __init__(
        self,
        wanted: Filter,
        variables: dict[str, Any] | None = None,
        *,
        native: bool = True,
        autoload: Mapping[str, bool] | None = None,
    ) -> None:
        super().__init__(wanted, variables, autoload=autoload)
        self._questions: RingReader[int] | None = None
        self.stacks = Stacks(self.unit)
        self._native = native
        self._expected = wanted.command or bool(wanted.pid)
        self._errors: Counter[str] = Counter()
        try:
            self.named = Named(self.obj)
            self.python = PythonStacks(self.obj)
            self._questions = RingReader(self.obj.maps["questions"])
            if wanted.pid:
                self.python.watch(wanted.pid)
            elif not wanted.command:
                self.python.watch_all()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        questions = getattr(self, "_questions", None)
        if questions is not None:
            questions.close()
        super().close()

    @property
    def sources(self) -> list[EventSource]:
        return [*super().sources, *(self._questions._sources if self._questions is not None else ())]

    def records(self) -> Iterator[Record]:
        if self._questions is not None:
            for source in self._questions._sources:
                source.acknowledge()
            for batch in self._questions.flush():
                for pid in set(batch):
                    self.named.forget(pid)
                    if self.python.watch(pid):
                        self._found(self.python.interpreters[pid])
        yield from super().records()

    def _found(self, interpreter: Interpreter) -> None:
        """What is to be done for a process that turned out to run Python."""

    def _record(self, event: Any) -> Record | None:
        self._count(event, event.value)
        return None

    def _count(self, event: Any, value: int) -> None:
        self.stacks.add(self._frames(event), value, root=self.root(event.comm, event.cgroup))

    def _frames(self, event: Any) -> list[Any]:
        error = self.python.error_of(event.python)
        if error is not None:
            self._errors[error] += 1
        frames = self.python.frames(event.python)
        if not self._native:
            return list(frames)
        user = self.named.user(event.pid, event.user)
        return [*self.named.kernel(event.kernel), *merged(user, frames)]

    def results(self) -> Iterator[Flames]:
        yield Flames(self.stacks)

    @property
    def problems(self) -> list[str]:
        found = [*super().problems, *self.named.problems, *self.python.refused.values()]
        found += [f"stacks without their Python frames: {count}: {error}" for error, count in self._errors.items()]
        others = int(self.obj.variables["others"].value)
        if others and self._expected:
            found.append(f"not counted: {others} events of processes that run no Python, or were not known to yet")
        return found


class Pyprofile(PythonTool):
    """Samples of Python programs that run on a CPU, `frequency` times a second on each CPU."""

    program = "pyprofile"

    def __init__(self, wanted: Filter, *, frequency: int = 99, native: bool = True) -> None:
        self._frequency = frequency
        super().__init__(wanted, native=native)

    def attach(self) -> None:
        self.obj.programs["on_exec"].attach()
        self.obj.programs["on_sample"].attach(event="cpu-clock", frequency=self._frequency)

    def _count(self, event: Any, value: int) -> None:
        super()._count(event, 1)


class Pyoffcpu(PythonTool):
    """Time that threads of Python programs are not on a CPU, in microseconds, by the stack with which they left it.

    Waits that last when the tool ends count up to then.
    """

    program = "pyoffcpu"
    unit = "microseconds"

    def __init__(self, wanted: Filter, *, least_us: int = 1000, native: bool = True) -> None:
        self._least_ns = least_us * MICROSECOND
        super().__init__(wanted, {"least_ns": self._least_ns}, native=native)

    def stop(self) -> None:
        super().stop()
        now = time.monotonic_ns()
        started = self.obj.maps["started"]
        for tid, event in list(started.items()):
            if now - event.time_ns >= self._least_ns:
                self._count(event, now - event.time_ns)
            started.pop(tid, None)

    def _count(self, event: Any, value: int) -> None:
        super()._count(event, value // MICROSECOND)
