"""The system calls of the kernel backend, through ctypes: bpf(), perf_event_open(), ioctl().

No argtypes are set: on CPython 3.11 that would cost 300 ns a call. Pointers are passed as ctypes buffers.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from _weakref import ref  # of which the module weakref makes more than is needed here
from functools import cache

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.errors import BpfOSError, ClosedError, NotSupported, PermissionDenied, errno_name
from bpf2py.owned import Owned
from bpf2py.uapi.commands import SINCE, Command
from bpf2py.uapi.errno import (
    EACCES,
    EBADF,
    EBADFD,
    EINVAL,
    ENOSYS,
    EPERM,
)
from bpf2py.uapi.limits import too_many_files

if TYPE_CHECKING:
    from bpf2py.kernel import memlock
else:
    memlock = module("bpf2py.kernel.memlock")

# arch/*/include/generated/uapi/asm/unistd: numbers of bpf and perf_event_open.
_NUMBERS = {
    "x86_64": (321, 298),
    "aarch64": (280, 241),
    "riscv64": (280, 241),
    "loongarch64": (280, 241),
    "s390x": (351, 331),
    "ppc64le": (361, 319),
}
_POINTER = struct.Struct("P")
TOKEN_PATH = "LIBBPF_BPF_TOKEN_PATH"  # the environment's variable, as for programs that use libbpf
BPF_F_TOKEN_FD = 1 << 16  # in flags of maps, programs and BTF: their attributes name a token
ATTR_SIZE = 168  # at least sizeof(union bpf_attr) of every kernel; trailing zeros are accepted by all


@cache
def libc() -> Any:
    """The C library, with errno kept per thread."""
    return ctypes.CDLL(None, use_errno=True)


@cache
def quick_libc() -> Any:
    """The C library for calls that return within microseconds: it keeps the interpreter lock and forgets errno.

    Both save time; who needs the errno of a failed call makes it again through `libc()`.
    """
    return ctypes.PyDLL(None)


@cache
def syscall_numbers() -> tuple[int, int]:
    """(bpf, perf_event_open) on this CPU. Raises NotSupported where there is no Linux bpf()."""
    # os.uname() rather than platform: that module takes longer to import than a map to read.
    machine = os.uname().machine if sys.platform == "linux" else sys.platform
    if machine not in _NUMBERS:
        raise NotSupported(
            f"the kernel backend needs Linux on one of {', '.join(_NUMBERS)}, this is {sys.platform} on {machine}; "
            'specs and backend="engine" work everywhere',
            feature="bpf()",
        )
    return _NUMBERS[machine]


def bpf(command: int, attr: bytes | bytearray) -> int:
    """Call bpf(); the result, or -errno."""
    buffer = ctypes.create_string_buffer(bytes(attr), ATTR_SIZE)
    return bpf_inout(command, buffer)


def bpf_inout(command: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
    """Call bpf() with a ctypes buffer the kernel may write to; the result, or -errno."""
    number = syscall_numbers()[0]
    result: int = libc().syscall(number, command, buffer, len(buffer))
    return result if result >= 0 else -ctypes.get_errno()


class Fresh(ctypes.c_long):
    """What a system call returned, as an object that owns it from the first moment.

    Signal handlers run between two calls of Python functions, and may raise: a number nobody owns yet would stay open.
    """

    def __del__(self) -> None:
        if self.value >= 0:
            os.close(self.value)


@cache
def _opener() -> Any:
    function = libc()["syscall"]  # another object than libc().syscall, whose results are numbers
    function.restype = Fresh
    return function


def open_call(number: int, *args: object) -> Fd | int:
    """A system call that returns a new descriptor: its owner, or -errno."""
    owner = Fd(-1)
    fresh = _opener()(number, *args)
    if fresh.value < 0:
        return -ctypes.get_errno()
    owner.adopt(fresh)
    return owner


def bpf_open(command: int, attr: bytes | bytearray) -> Fd | int:
    """A bpf() command that returns a new descriptor: its owner, or -errno."""
    buffer = ctypes.create_string_buffer(bytes(attr), ATTR_SIZE)
    result = open_call(syscall_numbers()[0], command, buffer, ATTR_SIZE)
    if result == -EPERM and command in _CHARGED and memlock.lift(kernel_version()):
        result = open_call(syscall_numbers()[0], command, buffer, ATTR_SIZE)
    return result


def check_open(result: Fd | int, command: Command, what: str) -> Fd:
    """The owner of a new descriptor, else raise what `check` raises."""
    if isinstance(result, Fd):
        return result
    raise error_for(-result, command, what)


def check(result: int, command: Command, what: str) -> int:
    """Return a result that is not an error, else raise PermissionDenied, NotSupported or BpfOSError."""
    if result >= 0:
        return result
    raise error_for(-result, command, what)


_CHARGED = (Command.MAP_CREATE, Command.PROG_LOAD)
_ENGINE_CAN = (Command.MAP_CREATE, Command.PROG_LOAD, Command.BTF_LOAD)


def error_for(errno: int, command: Command, what: str) -> Exception:
    """The exception for a failed command where nothing more is known."""
    name = f"BPF_{command.name}"
    if errno in (EPERM, EACCES):
        from bpf2py.kernel.environment import explain_eperm

        instead = '; or, to test without privileges, backend="engine"' if command in _ENGINE_CAN else ""
        return PermissionDenied(f"{what}: {explain_eperm(name)}{instead}", errno=errno, command=name)
    if errno in (EBADF, EBADFD):  # the second is BPF_OBJ_GET_INFO_BY_FD's
        return ClosedError(f"{what}: it was closed meanwhile", errno=errno, command=name)
    elsewhere = environment_error(errno, what, name)
    if elsewhere is not None:
        return elsewhere
    if errno == EINVAL and not command_known(command):
        since = SINCE[command]
        return NotSupported(
            f"{what}: {name} needs Linux {since}, this is {os.uname().release}",
            feature=name,
            since=since,
            errno=errno,
            command=name,
        )
    return BpfOSError(
        f"{what}: {name} failed: {os.strerror(errno) if errno < 500 else errno_name(errno)}", errno=errno, command=name
    )


def environment_error(errno: int, what: str, command: str) -> Exception | None:
    """The exception for an errno that speaks of the process or the machine, not of what was asked for; else None.

    Nothing is imported or opened here: at the limit of descriptors that would fail in turn.
    """
    text = too_many_files(errno)
    if text is not None:
        return BpfOSError(f"{what}: {text}", errno=errno, command=command)
    if errno == ENOSYS:
        return NotSupported(
            f"{what}: there is no system call {'perf_event_open()' if command == 'perf_event_open' else 'bpf()'} here: a seccomp "
            "filter refuses it (docker run --security-opt seccomp=unconfined), or the kernel was built without it "
            f"({'CONFIG_PERF_EVENTS' if command == 'perf_event_open' else 'CONFIG_BPF_SYSCALL'})",
            feature=command,
            errno=errno,
            command=command,
        )
    return None


@cache
def kernel_version() -> tuple[int, int, int]:
    """The running kernel's version as numbers."""
    parts = []
    for part in os.uname().release.split(".")[:3]:
        digits = ""
        for char in part:
            if not char.isdigit():
                break
            digits += char
        parts.append(int(digits or 0))
    return (*parts, 0, 0, 0)[:3]  # type: ignore[return-value]


def older_than(since: str) -> bool:
    """Whether the running kernel is older than a version such as ``"5.15"``."""
    wanted = tuple(int(part) for part in since.split("."))
    return kernel_version()[: len(wanted)] < wanted


def command_known(command: Command) -> bool:
    """Whether the running kernel is new enough for a command."""
    return not older_than(SINCE[command])


def address(buffer: Any) -> int:
    """Address of a ctypes object or writable buffer; the caller keeps it alive."""
    if isinstance(buffer, ctypes.Array | ctypes.Structure):
        return ctypes.addressof(buffer)
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))


def address_of_bytes(data: bytes) -> int:
    """Address of immutable bytes, for the kernel to read; the caller keeps them alive."""
    address: int = _POINTER.unpack(ctypes.c_char_p(data))[0]  # ten times as fast as ctypes.cast()
    return address


def object_name(name: str) -> bytes:
    """A kernel object name: 15 characters of [A-Za-z0-9_.], NUL-padded (bpf_obj_name_cpy in kernel/bpf/syscall.c)."""
    kept = (each if each.isascii() and (each.isalnum() or each in "_.") else "_" for each in name[:15])
    return "".join(kept).encode().ljust(16, b"\0")


class Number:
    """A descriptor's number, closed when nothing refers to this object any more.

    Attributes:
        value: the number; -1 for what is closed.
    """

    __slots__ = ("__weakref__", "value")

    def __init__(self, value: int) -> None:
        self.value = value

    def let_go(self) -> None:
        """Release what the descriptor refers to, but keep the number from being given to anything else.

        A call that is under way, or a loop that makes more of them, then meets a descriptor every command refuses (EBADF).
        """
        if self.value < 0:
            return
        try:
            harmless = os.open("/", os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return  # at the limit of descriptors: what it refers to goes with the last call
        try:
            os.dup2(harmless, self.value, inheritable=False)
        finally:
            os.close(harmless)

    def __del__(self) -> None:
        if self.value >= 0:
            try:
                os.close(self.value)
            except OSError:
                pass  # somebody closed all descriptors, to become a daemon for instance


_NONE = Number(-1)


class Fd(Owned):
    """Owns a file descriptor: closed once, by `close()` or when the object goes away.

    Another thread may close it while a system call is being made: who makes one keeps `hold()` in a local variable. The
    number is not given to another object before the last of those is gone.
    """

    __slots__ = ("_held",)

    def __init__(self, number: int) -> None:
        self._held = Number(number)

    @property
    def number(self) -> int:
        """The descriptor, negative once closed."""
        return self._held.value

    def adopt(self, fresh: Fresh) -> None:
        """Own a new descriptor, which `fresh` then does not; no signal handler runs in between, for nothing is called."""
        held = Number(-1)
        held.value, fresh.value = fresh.value, -1
        self._held = held

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._held.value < 0

    def hold(self) -> Number:
        """The number, as an object that keeps it from being used again; its `value` is negative once closed."""
        return self._held

    def close(self) -> None:
        """Close the descriptor; closing twice is harmless."""
        held = self._held
        if held is _NONE:
            return
        others = ref(held)
        self._held = _NONE
        del held  # here the number is closed, unless a call is under way
        still_used = others()
        if still_used is not None:
            still_used.let_go()

    def __repr__(self) -> str:
        return f"<Fd {self.number}>" if not self.closed else "<Fd closed>"
