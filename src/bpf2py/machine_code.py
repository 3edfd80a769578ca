"""Machine code of our own: memory it is executed from, and Python functions whose body it is.

Such memory can be written to before it can be executed, and never after. CPython calls a built-in function in a fraction of the
time ctypes takes to call C: where single calls count, a built-in function with a few bytes of machine code as its body saves the
rest.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Callable
from functools import cache

from bpf2py._typing import Any

__all__ = [
    "FASTCALL", "JB", "JE", "JMP", "JNE", "JNS", "JS", "NOARGS", "ONE_ARGUMENT", "Assembly", "Body", "Executable", "has_bodies",
    "is_x86_64", "keep_forever",
]  # fmt: skip

PROT_EXEC = 4
# Include/methodobject.h: what a body is called with after its receiver: nothing, an object, or objects and their number.
NOARGS, ONE_ARGUMENT, FASTCALL = 0x4, 0x8, 0x80


# Jumps of x86-64 by 32 bits.
JB, JE, JNE, JS, JNS, JMP = b"\x0f\x82", b"\x0f\x84", b"\x0f\x85", b"\x0f\x88", b"\x0f\x89", b"\xe9"


class Assembly:
    """Machine code that is written from its beginning to its end, with jumps to labels."""

    def __init__(self) -> None:
        self._code = bytearray()
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []

    def put(self, *parts: bytes) -> None:
        """Instructions, encoded."""
        for part in parts:
            self._code += part

    def label(self, name: str) -> None:
        """Here is what jumps lead to."""
        self._labels[name] = len(self._code)

    def jump(self, opcode: bytes, label: str) -> None:
        """A jump to a label that may come later."""
        self.put(opcode, bytes(4))
        self._jumps.append((len(self._code), label))

    def assembled(self) -> bytes:
        """All of it."""
        for end, label in self._jumps:
            self._code[end - 4 : end] = (self._labels[label] - end).to_bytes(4, "little", signed=True)
        return bytes(self._code)


class Executable:
    """Machine code in memory of its own, which may be executed but not written. Raises OSError."""

    __slots__ = ("_map", "address", "code")

    def __init__(self, code: bytes) -> None:
        self.code = code
        size = (len(code) + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE
        self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._map.write(code)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        if _mprotect()(self.address, size, mmap.PROT_READ | PROT_EXEC):
            raise OSError(ctypes.get_errno(), "no memory may be made executable here")


def keep_forever(thing: object) -> None:
    """Let an object stay until the process ends: code may be called while the interpreter is taken apart."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


@cache
def _mprotect() -> Any:
    function = ctypes.CDLL(None, use_errno=True).mprotect
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function


def is_x86_64() -> bool:
    """Whether this process runs machine code of x86-64 on Linux; uname() names the kernel's machine to a 32-bit Python, too."""
    return sys.platform == "linux" and sys.maxsize > 1 << 32 and os.uname().machine == "x86_64"


def has_bodies() -> bool:
    """Whether `Body` is for this interpreter: CPython on x86-64, without the debugging fields of objects."""
    return is_x86_64() and sys.implementation.name == "cpython" and not hasattr(sys, "getobjects")


class _MethodDef(ctypes.Structure):
    """PyMethodDef of Include/methodobject.h."""

    _fields_ = (("name", ctypes.c_char_p), ("body", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p))


class Body:
    """The body of Python functions, there until the process ends.

    Args:
        executable: where it is.
        offset: in that.
        convention: one of `NOARGS`, `ONE_ARGUMENT`, `FASTCALL`.
        name: of the functions.
    """

    __slots__ = ("_definition", "_executable")

    def __init__(self, executable: Executable, offset: int, convention: int, name: str) -> None:
        self._executable = executable
        self._definition = _MethodDef(name.encode(), executable.address + offset, convention, None)
        keep_forever(self)

    @property
    def address(self) -> int:
        """Where the body begins."""
        found: int = self._definition.body
        return found

    def function(self, receiver: bytes, held: object = None) -> Callable[..., Any]:
        """A function that calls the body with `receiver` first; that and `held` stay as long as it does."""
        made: Callable[..., Any] = _new_function()(ctypes.addressof(self._definition), receiver, held)
        return made


@cache
def _new_function() -> Any:
    function = ctypes.pythonapi.PyCFunction_NewEx
    function.restype = ctypes.py_object
    function.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
    return function
