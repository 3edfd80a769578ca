"""`PythonStacks`: the Python frames of stacks that programs took with ``<bpf2py/python.h>``."""

from __future__ import annotations

import mmap
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, MutableMapping
from collections.abc import Mapping as MappingOf
from typing import NamedTuple, Protocol

from bpf2py.errors import BpfError, NotSupported
from bpf2py.processes import pids
from bpf2py.symbols.image import address_of_symbol, open_file
from bpf2py.symbols.process import Mapping, Process, start_time
from bpf2py.symbols.python_code import line_of, text_of
from bpf2py.symbols.python_offsets import COOKIE, DEBUG_OFFSETS_SIZE, Offsets, debug_offsets, known_offsets
from bpf2py.symbols.symbolizer import Frame

__all__ = ["Interpreter", "PythonFrame", "PythonStacks", "find_interpreter", "images"]

PROCESSES, CODES = "bpf2py_python_processes", "bpf2py_python_codes"
ENTRY = 1
ERRORS = {
    1: "not a Python process that is known",
    2: "not a thread of Python's, or one that runs no Python code",
    3: "its memory could not be read",
    4: "it has several interpreters, which is not supported",
}
EVALUATION = "_PyEval_EvalFrameDefault"  # the native frame that runs Python ones
_KEPT = 1 << 16  # code objects remembered here


class PythonFrame(NamedTuple):
    """A Python function that runs.

    Attributes:
        file: its source's path.
        function: its qualified name, such as ``Class.method``; empty where nothing is known of it.
        line: in that file; None where the instruction has none.
        entry: whether C code called it, and not another Python function: the frames after it belong to another piece of the native
            stack.
    """

    file: str
    function: str
    line: int | None = None
    entry: bool = False

    @property
    def short(self) -> str:
        """For a chart: ``function (file.py:12)``."""
        where = f"{os.path.basename(self.file)}:{self.line or '?'}" if self.file else "?"
        return f"{self.function or '?'} ({where})"

    def __str__(self) -> str:
        return f'File "{self.file}", line {self.line or "?"}, in {self.function}'


class Interpreter(NamedTuple):
    """A process that runs Python.

    Attributes:
        pid: its number.
        version: (major, minor).
        runtime: the address of ``_PyRuntime``.
        offsets: where its structures keep what.
        path: its program or library: its own path where this process sees the same file there, else one that can be opened while
            the process lives.
    """

    pid: int
    version: tuple[int, int]
    runtime: int
    offsets: Offsets
    path: str = ""


class _Frame(Protocol):
    code: int
    linetable: int
    instruction: int
    flags: int


class _Stack(Protocol):
    """``struct bpf2py_python_stack``."""

    pid: int
    count: int
    truncated: int
    error: int

    @property
    def frames(self) -> Iterable[_Frame]: ...


class _HasMaps(Protocol):
    @property
    def maps(self) -> MappingOf[str, MutableMapping[object, object]]: ...


def find_interpreter(pid: int) -> Interpreter | None:
    """What is to be known of a process that runs Python, None for others.

    Raises NotSupported for versions and builds whose stacks cannot be read.
    """
    process = Process(pid)
    for mapping, path, opened in images(process, "python"):
        runtime = address_of_symbol(opened, "_PyRuntime")
        base = process.base_of(mapping) if runtime is not None else None
        if runtime is None or base is None:
            continue
        data = process.read_memory(base + runtime.address, DEBUG_OFFSETS_SIZE)
        if not data:
            continue
        if data[:8] == COOKIE:
            try:
                version, offsets = debug_offsets(data)
            except ValueError:
                return None
            return Interpreter(pid, version, base + runtime.address, offsets, _lasting(mapping, path))
        version_at = address_of_symbol(opened, "Py_Version")
        if version_at is None:
            raise NotSupported(f"process {pid}: its Python is older than 3.11", feature="Python stacks")
        number = int.from_bytes(process.read_memory(base + version_at.address, 8), "little")
        if not number:
            return None  # it has ended meanwhile
        version = (number >> 24 & 0xFF, number >> 16 & 0xFF)
        return Interpreter(pid, version, base + runtime.address, known_offsets(version), _lasting(mapping, path))
    return None


def images(process: Process, *words: str) -> Iterator[tuple[Mapping, str, mmap.mmap]]:
    """The program of a process and the files it has mapped with one of these words in their names: mapping, path, contents."""
    for mapping in process.mappings():
        name = os.path.basename(mapping.path)
        if not mapping.inode or not (any(word in name for word in words) or mapping.inode == process.executable_inode):
            continue
        for path in process.paths_of(mapping):
            opened = open_file(path)
            if opened is not None:
                with opened:
                    yield mapping, path, opened
                break


def _lasting(mapping: Mapping, path: str) -> str:
    try:
        there, here = os.stat(path), os.stat(mapping.path)
    except (OSError, ValueError):
        return path
    return mapping.path if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino) else path


class PythonStacks:
    """Tells an object's programs which processes run Python, and names the frames of the stacks they took.

    Attributes:
        interpreters: the processes that are known, by their number.
        refused: processes that run a Python whose stacks cannot be read, and why.

    Example:
        >>> python = PythonStacks(obj)                                          # doctest: +SKIP
        >>> python.watch_all()
        >>> for event in RingReader(obj.maps["events"]):
        ...     for frame in python.frames(event.stack):
        ...         print(frame)
    """

    def __init__(self, obj: _HasMaps) -> None:
        try:
            self._processes, self._codes = obj.maps[PROCESSES], obj.maps[CODES]
        except KeyError:
            raise NotSupported(
                "PythonStacks: the object takes no Python stacks: #include <bpf2py/python.h> and call bpf2py_python_stack()",
                feature="Python stacks",
            ) from None
        self.interpreters: dict[int, Interpreter] = {}
        self.refused: dict[int, str] = {}
        self._seen: dict[int, int] = {}  # when processes that were looked at started
        self._generation = 0
        self._known: OrderedDict[tuple[int, int, int, int], tuple[str, str, int, bytes]] = OrderedDict()

    def watch(self, pid: int) -> bool:
        """Tell the programs of a process: whether it runs a Python whose stacks can be read."""
        self._seen[pid] = start_time(pid)
        try:
            found = find_interpreter(pid)
        except NotSupported as error:
            self.refused[pid] = str(error)
            return False
        if found is None:
            return False
        offsets = found.offsets
        self._generation = self._generation % 0xFFFFFF + 1
        self._processes[pid] = {
            "runtime": found.runtime,
            **{
                name: value
                for name, value in offsets._asdict().items()
                if name not in ("unicode_state", "unicode_wide")
            },
            "unicode_data": offsets.unicode_wide,
            "has_cframe": found.version < (3, 13),
            "has_is_entry": found.version < (3, 12),
            "generation": self._generation,
        }
        self.interpreters[pid] = found
        return True

    def watch_all(self) -> int:
        """Look at processes that were not looked at yet: how many new ones run Python. Those that have gone are forgotten."""
        running = pids()
        for pid in self._seen.keys() - running:
            self._forget(pid)
        found = 0
        for pid in sorted(running):
            started = start_time(pid)
            if not started or self._seen.get(pid) == started:
                continue
            if pid in self._seen:
                self._forget(pid)
            found += self.watch(pid)
        return found

    def _forget(self, pid: int) -> None:
        del self._seen[pid]
        self.refused.pop(pid, None)
        if self.interpreters.pop(pid, None) is not None:
            try:
                del self._processes[pid]
            except KeyError:
                pass

    def frames(self, stack: _Stack) -> list[PythonFrame]:
        """The frames of a stack, innermost first; none where `stack.error` says why (`error_of`)."""
        found = []
        for position, frame in enumerate(stack.frames):
            if position >= stack.count:
                break
            file, function, first, table = self._code(stack.pid, frame.code, frame.linetable, frame.flags >> 8)
            line = line_of(table, first, frame.instruction) if table else None
            found.append(PythonFrame(file, function, line, bool(frame.flags & ENTRY)))
        return found

    @staticmethod
    def error_of(stack: _Stack) -> str | None:
        """Why a stack has no frames, None for one that has."""
        return ERRORS.get(stack.error, f"error {stack.error}") if stack.error else None

    def _code(self, pid: int, code: int, linetable: int, generation: int) -> tuple[str, str, int, bytes]:
        key = (pid, code, linetable, generation)
        known = self._known.get(key)
        if known is not None:
            return known
        interpreter = self.interpreters.get(pid)
        if interpreter is None:
            return "", "", 0, b""
        try:
            value: object = self._codes[{"code": code, "linetable": linetable, "pid": pid, "generation": generation}]
        except (KeyError, BpfError):
            return "", "", 0, b""
        offsets = interpreter.offsets
        size = int(value.linetable_size)  # type: ignore[attr-defined]
        table = bytes(value.linetable)[:size]  # type: ignore[attr-defined]
        found = (
            text_of(bytes(value.filename), offsets),  # type: ignore[attr-defined]
            text_of(bytes(value.qualname), offsets),  # type: ignore[attr-defined]
            int(value.firstlineno),  # type: ignore[attr-defined]
            table,
        )
        self._known[key] = found
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return found


def merged(native: Iterable[Frame], python: Iterable[PythonFrame]) -> list[Frame | PythonFrame]:
    """A native stack in which Python's own frames stand for the interpreter's loop, both innermost first.

    Each ``_PyEval_EvalFrameDefault`` of the native stack runs Python frames up to one that C code called (`PythonFrame.entry`).
    Where the native stack lacks such frames (no frame pointers), the Python frames that are left come after it.
    """
    left = list(python)
    made: list[Frame | PythonFrame] = []
    for frame in native:
        if frame.name.startswith(EVALUATION) and left:
            while left:
                made.append(left.pop(0))
                if made[-1].entry:  # type: ignore[union-attr]
                    break
            continue
        made.append(frame)
    return made + left
