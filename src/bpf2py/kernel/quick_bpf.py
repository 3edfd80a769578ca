"""bpf() for single elements: a call of four arguments through ctypes and libc takes a tenth of a lookup.

On x86-64 two functions of twenty-odd bytes make the system call themselves, from the address of the attributes alone. They stand in
one page, which can be written to before it can be executed and never after. Where that is refused, or on another CPU, there is
`quick_libc()`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Callable
from functools import cache, partial

from bpf2py._typing import Any
from bpf2py.kernel.syscall import libc, quick_libc, syscall_numbers

__all__ = ["LOOKUP", "UPDATE", "quick_bpf"]

ATTR_SIZE = 32  # bytes of union bpf_attr for the commands on elements
LOOKUP, UPDATE = 1, 2  # BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM
_EACH = 32  # bytes from one function to the next
_kept: list[object] = []  # the page, for as long as the process


def quick_bpf(command: int, attr: object) -> Callable[[], int]:
    """The call of a command with attributes that stay where they are; it returns 0, or something else without an errno.

    Args:
        command: LOOKUP or UPDATE.
        attr: ``ctypes.byref()`` of 32 bytes.
    """
    made = _functions()
    if made is None:
        return partial(quick_libc().syscall, syscall_numbers()[0], command, attr, ATTR_SIZE)
    return partial(made[command - LOOKUP], attr)


def _code(command: int) -> bytes:
    """int function(union bpf_attr *attr) in machine code of x86-64."""
    number = syscall_numbers()[0]
    return (
        b"\xf3\x0f\x1e\xfa"  # endbr64
        b"\x48\x89\xfe"  # mov rsi, rdi
        b"\xbf" + command.to_bytes(4, "little") +  # mov edi, command
        b"\xba" + ATTR_SIZE.to_bytes(4, "little") +  # mov edx, size
        b"\xb8" + number.to_bytes(4, "little") +  # mov eax, SYS_bpf
        b"\x0f\x05"  # syscall
        b"\xc3"  # ret
    )  # fmt: skip


@cache
def _functions() -> tuple[Any, Any] | None:
    """The functions for LOOKUP and UPDATE; None where there are none."""
    if sys.platform != "linux" or os.uname().machine != "x86_64" or sys.maxsize < 1 << 32:
        return None
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        return None
    for index, command in enumerate((LOOKUP, UPDATE)):
        code = _code(command)
        page[index * _EACH : index * _EACH + len(code)] = code
    held = ctypes.c_char.from_buffer(page)
    address = ctypes.addressof(held)
    protection = mmap.PROT_READ | mmap.PROT_EXEC
    if libc().mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), protection):
        return None
    prototype = ctypes.PYFUNCTYPE(ctypes.c_int)
    functions = tuple(prototype(address + index * _EACH) for index in range(2))
    _kept.append(held)
    return functions[0], functions[1]
