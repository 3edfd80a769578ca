"""Running machine code: executable memory, calls into it, and back into Python."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from bpf2py.engine.code.code import Code
from bpf2py.engine.code.control import Slot
from bpf2py.engine.code.layout import Layout
from bpf2py.engine.code.processors import Processor, processor
from bpf2py.engine.memory import CONTROL, MAX_FUNCTIONS, OPS_STACK, Memory
from bpf2py.errors import EncodeError
from bpf2py.machine_code import PROT_EXEC, Executable

__all__ = ["NativeCode", "can_run", "translator_class"]

_CALLBACK = ctypes.PYFUNCTYPE(ctypes.c_int64, *[ctypes.c_uint64] * 5, ctypes.c_uint32)
_PROGRAM = ctypes.PYFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 6)
_THUNK = ctypes.PYFUNCTYPE(ctypes.c_int64)
_OPERATION = ctypes.PYFUNCTYPE(ctypes.c_int64, *[ctypes.c_uint64] * 5)
_SYNCHRONISE = ctypes.PYFUNCTYPE(None, *[ctypes.c_uint64] * 2)


@functools.cache
def can_run() -> bool:
    """Whether there is an emitter for this processor, and memory may be made executable."""
    own = processor()
    if own is None:
        return False
    try:
        executable = Executable(own.PROOF)
    except OSError:
        return False
    answer: int = _THUNK(executable.address)()
    return answer == 42


def _clock_gettime() -> int:
    """The address of C's function, 0 where there is none."""
    try:
        return ctypes.cast(ctypes.CDLL(None).clock_gettime, ctypes.c_void_p).value or 0
    except AttributeError:
        return 0


class _Runtime:
    """The code around programs, one for each size of memory; all engines of that size share it and the library's code."""

    def __init__(self, size: int) -> None:
        self.callback = _CALLBACK(_dispatch)
        address = ctypes.cast(self.callback, ctypes.c_void_p).value or 0
        own = processor()
        assert own is not None
        self.processor: Processor = own
        self.layout = Layout(size, -CONTROL - MAX_FUNCTIONS * 8, address, OPS_STACK, own.features())
        self.layout.clock_gettime = _clock_gettime()
        code, places = own.runtime(self.layout)
        self.executable = Executable(code)
        start = self.executable.address
        self.layout.unwind = start + places["unwind"]
        self.layout.python_helper = start + places["python_helper"]
        self.layout.first_call = start + places["first_call"]
        self.layout.clock = start + places["clock"] if self.layout.clock_gettime else 0
        self.operation = start + places["operation"]
        self.program = _PROGRAM(start + places["program"])
        self.synchronise = _SYNCHRONISE(start + places["synchronise"]) if "synchronise" in places else None
        self.library: dict[str, tuple[Executable, dict[int, int]]] = {}


_runtime = functools.cache(_Runtime)


class _Running(threading.local):
    """Whose program runs in this thread, innermost last."""

    def __init__(self) -> None:
        self.codes: list[NativeCode] = []


_running = _Running()


def _dispatch(a: int, b: int, c: int, d: int, e: int, number: int) -> int:
    return _running.codes[-1].callback(a, b, c, d, e, number)


class NativeCode:
    """What makes code runnable by turning it into machine code, for one engine.

    Attributes:
        memory: the engine's.
        callback: runs the Python helper with a number.
        resolve: addresses of the library's functions by name, and the bounds of the maps' headers.
        library: the control number programs call a function of the library through, by its name.
        fuel: instructions in loops a run has by default, some seconds' worth.
        helper_cost: what a helper in Python is worth, in instructions.
    """

    fuel, helper_cost = 1 << 31, 1 << 11
    is_native = True

    def __init__(
        self, memory: Memory, callback: Callable[[int, int, int, int, int, int], int], _lock: threading.RLock
    ) -> None:
        # No lock is needed: the interpreter's is held while machine code runs.
        self.memory = memory
        self.callback = callback
        self._runtime = _runtime(memory.size)
        self.layout = self._runtime.layout
        self.has_clock = bool(self.layout.clock)
        self._kept: dict[int, Executable] = {}
        self._thunks = _Thunks(self._runtime.synchronise)
        self.resolve: dict[str, int] = {}
        self.library: dict[str, int] = {}

    def expect(self, name: str) -> bool:
        """Let programs call a function of the library; one that is not provided yet will be by its first call: true."""
        if name not in self.library:
            slot = self.library[name] = Slot.LIBRARY + len(self.library)
            self.memory.control[slot] = self.resolve.get(name, self.layout.first_call)
        return True

    def expected(self, slot: int) -> str:
        """The function behind a control number."""
        return list(self.library)[slot - Slot.LIBRARY]

    def provided(self, name: str, address: int) -> None:
        """Say where a function of the library is."""
        self.resolve[name] = address
        if name in self.library:
            self.memory.control[self.library[name]] = address

    def add(self, code: Code, unit: int) -> dict[int, int]:
        """Make code runnable: the address of each function by its slot. The functions' numbers lead to them from now on."""
        shared = self._runtime.library.get(code.name) if code.trusted else None
        if shared is None:
            machine, entries = self._runtime.processor.emit(code, self.layout, self.resolve, self.library, unit)
            executable = Executable(machine)
            addresses = {slot: executable.address + offset for slot, offset in entries.items()}
            if code.trusted:
                self._runtime.library[code.name] = executable, addresses
        else:
            executable, addresses = shared
        self._kept[unit] = executable
        control, table = self.memory.control, self.memory.table
        for function in code.functions:
            if function.number >= 0:
                table[function.number] = addresses[function.start]
                control[Slot.FUNCTIONS] = max(control[Slot.FUNCTIONS], function.number + 1)
        return addresses

    def remove(self, unit: int, code: Code, instead: int) -> None:
        """Forget code; its functions' numbers lead to another function's address."""
        for function in code.functions:
            if function.number >= 0:
                self.memory.table[function.number] = instead
        self._kept.pop(unit, None)

    def run(self, function: int, a: int, b: int = 0, c: int = 0, d: int = 0) -> int:
        """Run the function at an address as a program; control[FAULT] says how it ended."""
        codes = _running.codes
        depth = len(codes)
        try:
            codes.append(self)
            result: int = self._runtime.program(function, self.memory.base, a, b, c, d)
        finally:
            del codes[depth:]
        return result

    def operation(self, function: int) -> Callable[..., int]:
        """A library function as a Python callable of five numbers."""
        return _OPERATION(self._thunk(function))

    def numbered(self, number: int) -> int:
        """The function with a number, to be run. Raises IndexError."""
        if not 0 <= number < self.memory.control[Slot.FUNCTIONS]:
            raise IndexError(number)
        return self.memory.table[number]

    def machine_code(self, unit: int) -> bytes:
        """The machine code of a unit, empty once it is gone."""
        kept = self._kept.get(unit)
        return kept.code if kept is not None else b""

    def bound(self, function: int, *arguments: int) -> Callable[[], int]:
        """A library function with its arguments, as a callable without any: the fastest way in."""
        return _THUNK(self._thunk(function, *arguments))

    def _thunk(self, function: int, *arguments: int) -> int:
        operation, base = self._runtime.operation, self.memory.base
        return self._thunks.add(self._runtime.processor.thunk(operation, base, function, arguments))


class _Thunks:
    """Small pieces of code, many to a page: a file in memory mapped twice, once to be written and once to be executed."""

    SIZE = 1 << 14

    def __init__(self, synchronise: Callable[[int, int], object] | None) -> None:
        self._synchronise = synchronise
        self._kept: list[Any] = []
        self._writable: mmap.mmap | None = None
        self._address = 0
        self._used = self.SIZE

    def add(self, code: bytes) -> int:
        size = (len(code) + 15) & -16
        if self._used + size > self.SIZE and not self._more():
            alone = Executable(code)
            self._kept.append(alone)
            return alone.address
        assert self._writable is not None
        address = self._address + self._used
        self._writable[self._used : self._used + len(code)] = code
        self._used += size
        if self._synchronise is not None:
            self._synchronise(address, address + size)
        return address

    def _more(self) -> bool:
        try:
            fd = os.memfd_create("bpf2py", os.MFD_CLOEXEC)
        except OSError:
            return False
        try:
            os.truncate(fd, self.SIZE)
            self._writable = mmap.mmap(fd, self.SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            executable = _Shared(fd, self.SIZE)
        except OSError:
            return False
        finally:
            os.close(fd)
        self._kept.append(executable)
        self._address, self._used = executable.address, 0
        return True


class _Shared:
    """A file's pages, to be executed; unmapped with this object."""

    def __init__(self, fd: int, size: int) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        library.mmap.restype = ctypes.c_void_p
        at = library.mmap(
            None, ctypes.c_size_t(size), mmap.PROT_READ | PROT_EXEC, mmap.MAP_SHARED, fd, ctypes.c_long(0)
        )
        if at is None or at == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "no memory may be made executable here")
        self.address: int = at
        weakref.finalize(self, library.munmap, ctypes.c_void_p(at), ctypes.c_size_t(size))


def translator_class(name: str | None) -> Any:
    """What makes code runnable: by its name, else what BPF2PY_ENGINE says, else the fastest there is. Raises EncodeError."""
    wanted = name or os.environ.get("BPF2PY_ENGINE") or "native"
    if wanted not in ("native", "python"):
        raise EncodeError(f"engine: translator must be native or python, is {wanted!r}")
    if wanted == "native" and can_run():
        return NativeCode
    from bpf2py.engine.code.python import PythonCode

    return PythonCode
