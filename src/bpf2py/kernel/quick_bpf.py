"""bpf() for single elements: on the way through ctypes and libc a call takes a third of a lookup, and numbers take as much again.

On x86-64 the bodies of these functions are machine code that makes the system call itself. Where keys, or keys and values, are
plain integers, it turns Python's into the kernel's and back as well: a lookup is one call of a built-in function. There are none
where memory cannot be made executable, and on other CPUs and interpreters.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache

from bpf2py.kernel.syscall import Number, syscall_numbers
from bpf2py.machine_code import FASTCALL, JE, JNE, NOARGS, ONE_ARGUMENT, Assembly, Body, Executable, has_bodies
from bpf2py.seam.element_calls import ElementCalls

__all__ = ["element_calls", "plain_calls"]

ATTR_SIZE = 32  # bytes of union bpf_attr for the commands on elements
LOOKUP, UPDATE, DELETE = 1, 2, 3  # BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_MAP_DELETE_ELEM
ENOENT = 2
_DATA = bytes.__basicsize__ - 1  # where the bytes of a bytes object begin
_TYPE = object.__basicsize__ - 8  # where an object has its type
_FRAME, _KEY, _VALUE, _OVERFLOW = 0x50, 0x20, 0x28, 0x48  # bytes of the stack: attributes first, then these

# By struct's letter: rcx becomes rax cut to the type; the number at the stack's _VALUE as the first argument.
_CUT = {
    "B": b"\x0f\xb6\xc8",  # movzx ecx, al
    "b": b"\x48\x0f\xbe\xc8",  # movsx rcx, al
    "H": b"\x0f\xb7\xc8",  # movzx ecx, ax
    "h": b"\x48\x0f\xbf\xc8",  # movsx rcx, ax
    "I": b"\x89\xc1",  # mov ecx, eax
    "i": b"\x48\x63\xc8",  # movsxd rcx, eax
    "Q": b"\x48\x89\xc1\x48\xd1\xe1\x48\xd1\xe9",  # mov rcx, rax; shl rcx, 1; shr rcx, 1: what 63 bits hold
    "q": b"\x48\x89\xc1",  # mov rcx, rax
}
_LOAD = {
    "B": b"\x0f\xb6\x7c\x24",
    "b": b"\x48\x0f\xbe\x7c\x24",
    "H": b"\x0f\xb7\x7c\x24",
    "h": b"\x48\x0f\xbf\x7c\x24",
    "I": b"\x8b\x7c\x24",
    "i": b"\x48\x63\x7c\x24",
    "Q": b"\x48\x8b\x7c\x24",
    "q": b"\x48\x8b\x7c\x24",
}  # mov, movzx, movsx edi or rdi, [rsp + ...]


def plain_calls(attr: bytes) -> tuple[Callable[[], int], Callable[[], int]] | None:
    """(lookup, update) with these 32 bytes of attributes: they return 0, or something else without an errno.

    The caller keeps what the attributes point to in place while it uses them. None if machine code cannot be run here.
    """
    bodies = _plain_bodies()
    return (bodies[0].function(attr), bodies[1].function(attr)) if bodies is not None else None


def element_calls(held: Number, key: str, value: str) -> ElementCalls | None:
    """See `MapHandle.element_calls`; the descriptor's number is not used for anything else as long as the functions are there."""
    if held.value < 0 or key not in _CUT or value not in _CUT:
        return None
    bodies = _number_bodies(key, value)
    if bodies is None:
        return None
    fd = held.value.to_bytes(4, "little")
    return ElementCalls(*(body.function(fd, held) for body in bodies))


@cache
def _plain_bodies() -> tuple[Body, ...] | None:
    """For LOOKUP and UPDATE, with attributes that stay as they are."""
    return _bodies([(_plain(LOOKUP), NOARGS, "lookup"), (_plain(UPDATE), NOARGS, "update")])


@cache
def _number_bodies(key: str, value: str) -> tuple[Body, ...] | None:
    """For lookup, update and delete, by the letters of the key's and value's type."""
    return _bodies(
        [(_lookup(key, value), ONE_ARGUMENT, "lookup"), (_update(key, value), FASTCALL, "update"),
         (_delete(key), ONE_ARGUMENT, "delete")]
    )  # fmt: skip


def _bodies(parts: list[tuple[bytes, int, str]]) -> tuple[Body, ...] | None:
    """None where there are none."""
    if not has_bodies():
        return None
    try:
        executable = Executable(b"".join(code for code, _, _ in parts))
    except OSError:
        return None
    found, offset = [], 0
    for code, convention, name in parts:
        found.append(Body(executable, offset, convention, name))
        offset += len(code)
    return tuple(found)


class _Code(Assembly):
    """PyObject *body(PyObject *receiver, ...).

    rbx holds the receiver, whose bytes begin with the map's descriptor, and rbp the second argument.
    """

    def __init__(self) -> None:
        super().__init__()
        self.put(
            b"\xf3\x0f\x1e\xfa",  # endbr64
            b"\x53\x55\x48\x83\xec", bytes([_FRAME + 8]),  # push rbx; push rbp; sub rsp, ...
            b"\x48\x89\xfb\x48\x89\xf5",  # mov rbx, rdi; mov rbp, rsi
        )  # fmt: skip

    def call(self, name: str) -> None:
        """A function of Python's C API, the stack being aligned."""
        address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0
        self.put(b"\x48\xb8", _8(address), b"\xff\xd0")  # mov rax, ...; call rax

    def store(self, letter: str, place: int) -> None:
        """The int in rsi at a place of the stack; anything else, and what is out of range, is refused."""
        self.put(
            b"\x48\xb8", _8(id(int)), b"\x48\x39\x46", bytes([_TYPE])
        )  # mov rax, &PyLong_Type; cmp [rsi + ...], rax
        self.jump(JNE, "refused")
        self.put(b"\x48\x89\xf7", b"\x48\x8d\x74\x24", bytes([_OVERFLOW]))  # mov rdi, rsi; lea rsi, [rsp + ...]
        self.call("PyLong_AsLongLongAndOverflow")
        self.put(b"\x83\x7c\x24", bytes([_OVERFLOW, 0]))  # cmp dword [rsp + ...], 0
        self.jump(JNE, "refused")
        self.put(_CUT[letter], b"\x48\x39\xc1")  # cmp rcx, rax
        self.jump(JNE, "refused")
        self.put(b"\x48\x89\x44\x24", bytes([place]))  # mov [rsp + ...], rax

    def bpf(self, command: int) -> None:
        """The command on the key and, but for DELETE, the value on the stack."""
        self.put(
            b"\x8b\x43", bytes([_DATA]), b"\x48\x89\x04\x24",  # mov eax, [rbx + ...]; mov [rsp], rax
            b"\x48\x8d\x44\x24", bytes([_KEY]), b"\x48\x89\x44\x24\x08",  # lea rax, [rsp + ...]; mov [rsp + 8], rax
        )  # fmt: skip
        if command == DELETE:  # the kernel insists that fields a command does not use are zero
            self.put(b"\x31\xc0")  # xor eax, eax
        else:
            self.put(b"\x48\x8d\x44\x24", bytes([_VALUE]))  # lea rax, [rsp + ...]
        self.put(
            b"\x48\x89\x44\x24\x10",  # mov [rsp + 16], rax
            b"\x48\xc7\x44\x24\x18\0\0\0\0",  # mov qword [rsp + 24], 0
            b"\x48\x89\xe6", _system_call(command),  # mov rsi, rsp
            b"\x83\xf8", bytes([-ENOENT & 0xFF]),  # cmp eax, -ENOENT
        )  # fmt: skip
        self.jump(JE, "absent")
        self.put(b"\x85\xc0")  # test eax, eax
        self.jump(JNE, "refused")

    def end(self) -> bytes:
        """Return what rax points to; False after ENOENT, and None after a refusal."""
        self.put(_LEAVE)
        self.label("absent")
        self.put(_answer(False), _LEAVE)
        self.label("refused")
        self.put(_answer(None), _LEAVE)
        return self.assembled()


_LEAVE = b"\x48\x83\xc4" + bytes([_FRAME + 8]) + b"\x5d\x5b\xc3"  # add rsp, ...; pop rbp; pop rbx; ret


def _8(number: int) -> bytes:
    return number.to_bytes(8, "little")


def _answer(found: bool | None) -> bytes:
    """A constant object in rax, which the caller owns: they are not counted from Python 3.12 on."""
    code = b"\x48\xb8" + _8(id(found))  # mov rax, ...
    return code if sys.version_info >= (3, 12) else code + b"\x48\xff\x00"  # inc qword [rax]


def _system_call(command: int) -> bytes:
    """bpf() with the attributes rsi points to."""
    number = syscall_numbers()[0]
    return (
        b"\xbf" + command.to_bytes(4, "little") +  # mov edi, command
        b"\xba" + ATTR_SIZE.to_bytes(4, "little") +  # mov edx, size
        b"\xb8" + number.to_bytes(4, "little") +  # mov eax, SYS_bpf
        b"\x0f\x05"  # syscall
    )  # fmt: skip


def _plain(command: int) -> bytes:
    """The receiver's bytes are the attributes; False after success, else True."""
    return (
        b"\xf3\x0f\x1e\xfa"  # endbr64
        b"\x48\x8d\x77" + bytes([_DATA]) + _system_call(command) +  # lea rsi, [rdi + ...]
        b"\x85\xc0\x75" + bytes([len(_answer(False)) + 1]) +  # test eax, eax; jne to the second answer
        _answer(False) + b"\xc3" + _answer(True) + b"\xc3"
    )  # fmt: skip


def _lookup(key: str, value: str) -> bytes:
    """PyObject *lookup(receiver, key)."""
    code = _Code()
    code.store(key, _KEY)
    code.put(b"\x48\xc7\x44\x24", bytes([_VALUE]), bytes(4))  # mov qword [rsp + ...], 0
    code.bpf(LOOKUP)
    code.put(_LOAD[value], bytes([_VALUE]))
    code.call("PyLong_FromUnsignedLongLong" if value == "Q" else "PyLong_FromLongLong")
    return code.end()


def _update(key: str, value: str) -> bytes:
    """PyObject *update(receiver, objects, number of objects)."""
    code = _Code()
    code.put(b"\x48\x83\xfa\x02")  # cmp rdx, 2
    code.jump(JNE, "refused")
    code.put(b"\x48\x8b\x75\x00")  # mov rsi, [rbp]
    code.store(key, _KEY)
    code.put(b"\x48\x8b\x75\x08")  # mov rsi, [rbp + 8]
    code.store(value, _VALUE)
    code.bpf(UPDATE)
    code.put(_answer(True))
    return code.end()


def _delete(key: str) -> bytes:
    """PyObject *delete(receiver, key)."""
    code = _Code()
    code.store(key, _KEY)
    code.bpf(DELETE)
    code.put(_answer(True))
    return code.end()
