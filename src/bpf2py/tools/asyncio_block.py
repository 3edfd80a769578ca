"""asyncio-block: what blocks event loops of Python."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from bpf2py._typing import TYPE_CHECKING, Any, NamedTuple
from bpf2py.errors import BpfError
from bpf2py.symbols.python_tasks import PythonTasks
from bpf2py.tools.framework import Column, Filter, Record
from bpf2py.tools.pycalls import Located, where
from bpf2py.tools.stacks import most_samples

if TYPE_CHECKING:
    from bpf2py.symbols.python import Interpreter, PythonFrame
    from bpf2py.symbols.python_tasks import WaitingTask

__all__ = ["AsyncioBlock"]

SAMPLE, WAIT, END = 0, 1, 2  # kinds of asyncio_block.bpf.c
ASYNCIO = re.compile(r"/(?:asyncio|uvloop)/")
MILLISECOND = 1_000_000
MOST_PENDING = 4096  # stacks of a thread; a loop that blocks for minutes has more


class _Thread(NamedTuple):
    pid: int
    tid: int
    comm: str
    cgroup: int


class _Seen(NamedTuple):
    time_ns: int
    value: int
    on_cpu: bool
    frames: list[PythonFrame]
    whose: _Thread


class AsyncioBlock(Located):
    """A record for each time an event loop did not look for events for long, when it looks again: what it did meanwhile.

    A loop waits for events in epoll_wait(), poll() or select(); what it does between two of these waits are its callbacks. Stacks
    are taken while they run, and when they leave the CPU. What lasts when the tool ends is shown then.

    Args:
        wanted: whom to watch.
        threshold_ms: only those of at least so many milliseconds.
    """

    program = "asyncio_block"
    optional = tuple(
        f"{end}_{name}"
        for end in ("enter", "exit")
        for name in ("wait", "pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6")
    )
    columns = (
        Column("pid", "PID", 7, True),
        Column("comm", "COMM", 15),
        Column("ms", "MS", 9, True),
        Column("cpu_ms", "CPU(ms)", 9, True),
        Column("where", "WHERE", 32),
        Column("callback", "CALLBACK", 20),
        Column("awaited", "AWAITED BY", 0),
    )

    def __init__(self, wanted: Filter, *, threshold_ms: float = 100.0) -> None:
        if threshold_ms <= 0:
            raise BpfError("--threshold: give more than 0 milliseconds")
        least = -int(-2000 // threshold_ms)  # two samples at least
        self._frequency = min(max(99, least), most_samples() or least)
        self._pending: dict[int, list[_Seen]] = {}
        self._loops: set[int] = set()
        self._without = 0
        self._threshold_ns = int(threshold_ms * MILLISECOND)
        self._unfinished: list[tuple[int, int, int, Any]] = []
        self._tasks: dict[int, PythonTasks | None] = {}
        self._waiting: dict[int, tuple[int, list[WaitingTask]]] = {}  # by thread: of the time that began then
        super().__init__(wanted, {"threshold_ns": self._threshold_ns, "period_ns": 1_000_000_000 // self._frequency})

    def _options(self, name: str) -> dict[str, Any]:
        return {"event": "cpu-clock", "frequency": self._frequency} if name == "on_sample" else {}

    def stop(self) -> None:
        super().stop()
        now = time.monotonic_ns()
        waiting = dict(self.obj.maps["off"].items())
        for tid, loop in list(self.obj.maps["loops"].items()):
            if loop.begin_ns and now - loop.begin_ns >= self._threshold_ns:
                self._unfinished.append((tid, loop.begin_ns, now, waiting.get(tid)))

    def records(self) -> Iterator[Record]:
        yield from super().records()
        for tid, begin, now, waiting in self._unfinished:
            if waiting is not None:
                at = waiting.at
                self._take(waiting, now, now - at.time_ns)
            seen = self._pending.pop(tid, [])
            if seen:
                record = self._blocked(seen[-1].whose, begin, now, seen)
                if record is not None:
                    yield record | self.container(seen[-1].whose.cgroup)
        self._unfinished.clear()

    def _record(self, event: Any) -> Record | None:
        at = event.at
        if event.kind != END:
            self._take(event, at.time_ns, at.value)
            return None
        whose = _Thread(at.pid, at.tid, at.comm, at.cgroup)
        return self._blocked(whose, event.begin_ns, at.time_ns, self._pending.pop(at.tid, []), ended=True)

    def _take(self, event: Any, time_ns: int, value: int) -> None:
        """A stack that may turn out to be one of a long time."""
        at = event.at
        pending = self._pending.setdefault(at.tid, [])
        if pending and pending[-1].time_ns < event.begin_ns:
            pending.clear()  # of a time that was not long
        if len(pending) < MOST_PENDING:
            whose = _Thread(at.pid, at.tid, at.comm, at.cgroup)
            pending.append(_Seen(time_ns, value, event.kind == SAMPLE, self._frames(at), whose))
        if event.kind == SAMPLE and (time_ns - event.begin_ns) * 2 >= self._threshold_ns:
            self._look_who_waits(at.pid, at.tid, event.begin_ns)

    def _look_who_waits(self, pid: int, tid: int, begin_ns: int) -> None:
        """Once for each time that may turn out long, while it lasts."""
        if self._waiting.get(tid, (0, []))[0] == begin_ns:
            return
        if pid not in self._tasks:
            try:
                self._tasks[pid] = PythonTasks(self.python.interpreters[pid])
            except (ValueError, KeyError, BpfError):
                self._tasks[pid] = None
        tasks = self._tasks[pid]
        found = tasks.waiting(tid) if tasks is not None else []
        loop: Any = self.obj.maps["loops"].get(tid)
        if loop is not None and loop.begin_ns == begin_ns:
            self._waiting[tid] = begin_ns, found

    def _found(self, interpreter: Interpreter) -> None:
        self._tasks.pop(interpreter.pid, None)  # another program, or one that had not imported asyncio

    def _blocked(
        self, whose: _Thread, begin_ns: int, end_ns: int, pending: list[_Seen], *, ended: bool = False
    ) -> Record | None:
        seen = [each for each in pending if each.time_ns >= begin_ns]
        found = [each for each in seen if any(ASYNCIO.search(frame.file) for frame in each.frames)]
        if found:
            self._loops.add(whose.tid)
        elif whose.tid in self._loops and not any(each.frames for each in seen):
            self._without += 1
        else:
            return None  # a loop of something else
        spent: Counter[str] = Counter()
        callbacks: Counter[str] = Counter()
        for each in found:
            spent[where(each.frames) or ""] += each.value
            callbacks[callback_of(each.frames)] += each.value
        main = spent.most_common(1)[0][0] if spent else None
        stack: Sequence[PythonFrame] = next((each.frames for each in found if where(each.frames) == main), ())
        since, waiting = self._waiting.pop(whose.tid, (0, []))
        waiting = waiting if since == begin_ns else []
        on_cpu = min(sum(each.value for each in found if each.on_cpu), end_ns - begin_ns)
        return {
            "time": self.seconds(end_ns),
            "pid": whose.pid,
            "tid": whose.tid,
            "comm": whose.comm,
            "ms": round((end_ns - begin_ns) / MILLISECOND, 3),
            "cpu_ms": round(on_cpu / MILLISECOND, 3),
            "ended": ended,
            "where": main,
            "callback": callbacks.most_common(1)[0][0] if callbacks else None,
            "callbacks": {name: round(value / MILLISECOND, 3) for name, value in callbacks.most_common()},
            "awaited": next((task.frames[0].short for task in waiting if task.frames), None),
            "waiting": [{"task": task.name, "stack": _described(task.frames)} for task in waiting],
            "stack": _described(stack),
        }

    @property
    def problems(self) -> list[str]:
        found = super().problems
        if self._without:
            found.append(f"{self._without} times no stack was taken while a loop did not look for events")
        return found


def _described(frames: Sequence[PythonFrame]) -> list[Record]:
    return [{"file": f.file, "line": f.line, "function": f.function} for f in frames]


def callback_of(frames: Sequence[PythonFrame]) -> str:
    """The outermost function that asyncio, or uvloop, called."""
    found = frames[0]
    for frame in frames:
        if ASYNCIO.search(frame.file):
            break
        found = frame
    return found.function or "?"
