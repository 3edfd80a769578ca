"""Running machine code: executable memory, calls into it, and back into Python."""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import sys
from collections.abc import Callable
from typing import Any

from bpf2py.engine.code import Code
from bpf2py.engine.memory import CONTROL, FUNCTIONS, MAX_FUNCTIONS, Memory
from bpf2py.engine.x86_64 import RAX, Layout, Slot, emit, mov_imm, runtime

__all__ = ["NativeCode", "can_run"]

PROT_EXEC = 4
OPS_STACK = 1 << 14  # bytes
_ARGUMENTS = (7, 6, 2, 1, 8)  # rdi rsi rdx rcx r8
_CALLBACK = ctypes.PYFUNCTYPE(ctypes.c_int64, *[ctypes.c_uint64] * 5, ctypes.c_uint32)
_PROGRAM = ctypes.PYFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)
_THUNK = ctypes.PYFUNCTYPE(ctypes.c_int64)
_OPERATION = ctypes.PYFUNCTYPE(ctypes.c_int64, *[ctypes.c_uint64] * 5)


@functools.cache
def can_run() -> bool:
    """Whether there is an emitter for this processor, and memory may be made executable."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    try:
        executable = Executable(b"\xb8\x2a\0\0\0\xc3")
    except OSError:
        return False
    return _THUNK(executable.address)() == 42


@functools.cache
def has_bmi2() -> bool:
    """Whether the processor has shlx and its like."""
    try:
        with open("/proc/cpuinfo", "rb") as file:
            return b" bmi2" in file.read(8192)
    except OSError:
        return False


@functools.cache
def _mprotect() -> Any:
    function = ctypes.CDLL(None, use_errno=True).mprotect
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function


class Executable:
    """Machine code in memory of its own: written, then made executable and no longer writable. Raises OSError."""

    __slots__ = ("_map", "address")

    def __init__(self, code: bytes) -> None:
        size = (len(code) + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE
        self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._map.write(code)
        anchor = (ctypes.c_char * 1).from_buffer(self._map)
        self.address = ctypes.addressof(anchor)
        del anchor
        if _mprotect()(self.address, size, mmap.PROT_READ | PROT_EXEC):
            errno = ctypes.get_errno()
            raise OSError(errno, "no memory may be made executable here")


class NativeCode:
    """What makes code runnable by turning it into machine code, for one engine.

    Attributes:
        memory: the engine's.
    """

    def __init__(self, memory: Memory, callback: Callable[[int, int, int, int, int, int], int]) -> None:
        self.memory = memory
        self._callback = _CALLBACK(callback)
        callback_address = ctypes.cast(self._callback, ctypes.c_void_p).value or 0
        stack = memory.allocate(OPS_STACK)
        table = -CONTROL - MAX_FUNCTIONS * 8
        self.layout = Layout(memory.size, table, callback_address, stack + OPS_STACK, has_bmi2())
        code, places = runtime(self.layout)
        self._runtime = Executable(code)
        start = self._runtime.address
        self.layout.unwind = start + places["unwind"]
        self.layout.python_helper = start + places["python_helper"]
        self._operation = start + places["operation"]
        self._program = _PROGRAM(start + places["program"])
        self._kept: dict[int, Executable] = {}
        self._page: list[Executable] = []
        self._thunks: _ThunkPages = _ThunkPages()
        self.resolve: dict[str, int] = {}
        memory.control[Slot.FUNCTIONS] = 0

    def add(self, code: Code, unit: int) -> dict[int, int]:
        """Make code runnable: the address of each function by its slot. The functions' numbers lead to them from now on."""
        machine, entries = emit(code, self.layout, self.resolve, unit)
        executable = Executable(machine)
        self._kept[unit] = executable
        addresses = {slot: executable.address + offset for slot, offset in entries.items()}
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

    def run(self, function: int, context: int) -> int:
        """Run the program at an address; control[FAULT] says how it ended."""
        return self._program(function, self.memory.base, context)

    def operation(self, function: int) -> Callable[..., int]:
        """A library function as a Python callable of five numbers."""
        return self._bind(function, 5)

    def bound(self, function: int, *arguments: int) -> Callable[[], int]:
        """A library function with its arguments, as a callable without any: the fastest way in."""
        code = b"".join(mov_imm(register, value) for register, value in zip(_ARGUMENTS, arguments, strict=False))
        return _THUNK(self._thunks.add(code + self._enter(function)))

    def _enter(self, function: int) -> bytes:
        code = mov_imm(RAX, function)
        code += b"\x49\xba" + self.memory.base.to_bytes(8, "little")  # mov r10, base
        return code + b"\x49\xbb" + self._operation.to_bytes(8, "little") + b"\x41\xff\xe3"  # mov r11, ...; jmp r11

    def _bind(self, function: int, _count: int) -> Callable[..., int]:
        # C arguments and BPF's are in the same registers.
        return _OPERATION(self._thunks.add(self._enter(function)))

    def address_of_number(self, value: int) -> int:
        """The machine address behind a function's address as programs see it."""
        return self.memory.table[value - FUNCTIONS]


class _ThunkPages:
    """Small pieces of code, many to a page, kept as long as the engine."""

    PAGE = 1 << 14

    def __init__(self) -> None:
        self._executable: list[mmap.mmap] = []
        self._address = 0
        self._used = self.PAGE

    def add(self, code: bytes) -> int:
        size = (len(code) + 15) & -16
        if self._used + size > self.PAGE:
            mapping = mmap.mmap(-1, self.PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._executable.append(mapping)
            anchor = (ctypes.c_char * 1).from_buffer(mapping)
            self._address = ctypes.addressof(anchor)
            del anchor
            self._used = 0
        address = self._address + self._used
        # Not writable and executable at once; nobody else runs meanwhile, for the interpreter lock is held.
        _mprotect_held()(self._address, self.PAGE, mmap.PROT_READ | mmap.PROT_WRITE)
        try:
            ctypes.memmove(address, code, len(code))
        finally:
            _mprotect_held()(self._address, self.PAGE, mmap.PROT_READ | PROT_EXEC)
        self._used += size
        return address


@functools.cache
def _mprotect_held() -> Any:
    function = ctypes.PyDLL(None).mprotect
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function
