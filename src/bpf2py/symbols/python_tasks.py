"""Which asyncio tasks wait for the one that a thread runs, with the coroutines they wait in: CPython 3.14 and later.

There the _asyncio module publishes where its tasks keep what (struct _Py_AsyncioModuleDebugOffsets of Modules/_asynciomodule.c, in
the section .AsyncioDebug). Memory is read from outside while the process runs: the tasks that wait are not running, and so do not
change as long as the thread runs the same task, which is looked at before and after.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from bpf2py._typing import NamedTuple
from bpf2py.symbols.image import address_of_section
from bpf2py.symbols.process import Process, inner_number
from bpf2py.symbols.python import Interpreter, PythonFrame, images
from bpf2py.symbols.python_code import line_of, text_of
from bpf2py.symbols.python_offsets import DEBUG_OFFSETS_SIZE, published_offsets

__all__ = ["PythonTasks", "WaitingTask"]

SECTION = ".AsyncioDebug"
_DEBUG = struct.Struct("<13Q")
_FIELDS = (
    "task.size task.name task.awaited_by task.is_task task.awaited_by_is_set task.coro task.node "
    "interpreter.size interpreter.tasks thread.size thread.running_loop thread.running_task thread.tasks"
).split()
# FRAME_SUSPENDED_YIELD_FROM of enum _framestate (Include/internal/pycore_frame.h), and how far below the top of the frame's stack
# is what it waits for (_PyGen_yf() in Objects/genobject.c).
_AWAITS = {(3, 14): (-1, 8), (3, 15): (2, 16)}
MOST_THREADS, MOST_TASKS, MOST_FRAMES, MOST_WAITERS = 512, 64, 64, 1 << 12
_LONG, _UNICODE = 1 << 24, 1 << 28  # Py_TPFLAGS_LONG_SUBCLASS, Py_TPFLAGS_UNICODE_SUBCLASS
_TAGS = 3  # bits of a reference on an interpreter's stack that are not the address


class WaitingTask(NamedTuple):
    """A task that waits, itself or through others, for the one that runs.

    Attributes:
        name: such as ``"Task-3"``.
        frames: its coroutines, the one that waits first, as of `PythonStacks.frames`.
    """

    name: str
    frames: list[PythonFrame]


class PythonTasks:
    """Reads the tasks of a process. Raises ValueError for one whose Python does not tell where they are."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self._process = process = Process(interpreter.pid)
        awaits = _AWAITS.get(interpreter.version)
        if awaits is None:
            raise ValueError(
                f"asyncio of Python {'.'.join(map(str, interpreter.version))} does not tell where its tasks are"
            )
        self._awaits = awaits
        _, self._at = published_offsets(process.read_memory(interpreter.runtime, DEBUG_OFFSETS_SIZE))
        where = self._find()
        if where is None:
            raise ValueError("it has not imported asyncio")
        data = process.read_memory(where, _DEBUG.size)
        if len(data) < _DEBUG.size:
            raise ValueError("it has ended")
        self._at |= {f"asyncio.{name}": value for name, value in zip(_FIELDS, _DEBUG.unpack(data), strict=True)}

    def _find(self) -> int | None:
        """The address of the section, which is the interpreter's or its module's."""
        for mapping, _path, opened in images(self._process, "python", "_asyncio"):
            address = address_of_section(opened, SECTION)
            base = self._process.base_of(mapping) if address is not None else None
            if address is not None and base is not None:
                return base + address
        return None

    def waiting(self, tid: int) -> list[WaitingTask]:
        """The tasks that wait for the one a thread runs, nearest first; none where it runs none, or went on meanwhile."""
        thread = self._thread(inner_number(self._interpreter.pid, tid))
        place = thread + self._at["asyncio.thread.running_task"]
        running = self._u64(place) if thread else 0
        if not running:
            return []
        found: list[WaitingTask] = []
        seen, next_ones = {running}, [running]
        while next_ones and len(found) < MOST_TASKS:
            for waiter in self._waiters(next_ones.pop(0)):
                if waiter in seen:
                    continue
                seen.add(waiter)
                next_ones.append(waiter)
                if self._byte(waiter + self._at["asyncio.task.is_task"]):  # else a future, such as gather()'s
                    found.append(WaitingTask(self._name(waiter), self._frames(waiter)))
        return found if self._u64(place) == running else []

    def _thread(self, number: int) -> int:
        at = self._at
        interpreter = self._u64(self._interpreter.runtime + at["runtime.interpreters_head"])
        thread = self._u64(interpreter + at["interpreter.threads_head"]) if interpreter else 0
        for _ in range(MOST_THREADS):
            if not thread or self._u64(thread + at["thread.native_thread_id"]) == number:
                break
            thread = self._u64(thread + at["thread.next"])
        return thread

    def _waiters(self, task: int) -> Iterator[int]:
        at = self._at
        waiters = self._u64(task + at["asyncio.task.awaited_by"])
        if not waiters:
            return
        if not self._byte(task + at["asyncio.task.awaited_by_is_set"]):
            yield waiters
            return
        table, slots = self._u64(waiters + at["set.table"]), min(self._u64(waiters + at["set.mask"]) + 1, MOST_WAITERS)
        data = self._process.read_memory(table, 16 * slots)
        for key, _hash in struct.iter_unpack("<QQ", data[: len(data) // 16 * 16]):
            if key and self._u64(key + at["pyobject.ob_type"]):  # the place of what was taken out has no type
                yield key

    def _frames(self, task: int) -> list[PythonFrame]:
        at, found = self._at, []
        coroutine = self._u64(task + at["asyncio.task.coro"])
        kind = self._u64(coroutine + at["pyobject.ob_type"]) if coroutine else 0
        for _ in range(MOST_FRAMES):
            if not coroutine or self._u64(coroutine + at["pyobject.ob_type"]) != kind:
                break
            frame = coroutine + at["gen.gi_iframe"]
            made = self._frame(frame)
            if made is None:
                break
            found.append(made)
            state = int.from_bytes(
                self._process.read_memory(coroutine + at["gen.gi_frame_state"], 1), "little", signed=True
            )
            if state != self._awaits[0]:
                break
            top = self._u64(frame + at["frame.stackpointer"])
            coroutine = self._u64(top - self._awaits[1]) & ~_TAGS if top else 0
        return found[::-1]

    def _frame(self, frame: int) -> PythonFrame | None:
        at, offsets = self._at, self._interpreter.offsets
        code = self._u64(frame + at["frame.executable"]) & ~_TAGS
        instruction = self._u64(frame + at["frame.instr_ptr"])
        table = self._u64(code + offsets.linetable) if code else 0
        if not table or not instruction:
            return None
        size = min(self._u64(table + offsets.bytes_size), 1 << 16)
        lines = self._process.read_memory(table + offsets.bytes_data, size)
        first = int.from_bytes(self._process.read_memory(code + offsets.firstlineno, 4), "little")
        line = line_of(lines, first, (instruction - code - offsets.code) >> 1)
        file, function = (self._text(self._u64(code + place)) for place in (offsets.filename, offsets.qualname))
        return PythonFrame(file, function, line)

    def _name(self, task: int) -> str:
        """A task without a name of its own has a number, which its name is made of."""
        at = self._at
        name = self._u64(task + at["asyncio.task.name"])
        kind = self._u64(name + at["pyobject.ob_type"]) if name else 0
        flags = self._u64(kind + at["type.tp_flags"]) if kind else 0
        if flags & _LONG:
            digits = self._u64(name + at["long.lv_tag"]) >> 3
            data = self._process.read_memory(name + at["long.ob_digit"], 4 * min(digits, 4))
            number = sum(digit << 30 * place for place, (digit,) in enumerate(struct.iter_unpack("<I", data)))
            return f"Task-{number}"
        return self._text(name) if flags & _UNICODE else ""

    def _text(self, address: int) -> str:
        offsets = self._interpreter.offsets
        length = min(self._u64(address + offsets.unicode_length), 1 << 12)
        return (
            text_of(self._process.read_memory(address, offsets.unicode_wide + 4 * length), offsets) if address else ""
        )

    def _u64(self, address: int) -> int:
        return int.from_bytes(self._process.read_memory(address, 8), "little")

    def _byte(self, address: int) -> int:
        return int.from_bytes(self._process.read_memory(address, 1), "little")
