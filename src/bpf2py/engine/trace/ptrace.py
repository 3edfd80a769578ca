"""ptrace(2): the requests a tracer of system calls needs.

Source of facts: ptrace(2) of the Linux manual pages, include/uapi/linux/ptrace.h. PTRACE_SEIZE is from Linux 3.4,
PTRACE_GET_SYSCALL_INFO from 5.3.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
from typing import Any, NamedTuple

from bpf2py.errors import BpfOSError, PermissionDenied
from bpf2py.uapi.errno import EPERM, ESRCH

__all__ = [
    "EVENTS", "Registers", "SyscallStop", "Tracee", "WALL", "WNOTHREAD", "knows_registers", "named_registers", "seize",
]  # fmt: skip

CONT, DETACH, SYSCALL, GETEVENTMSG, GETREGSET = 7, 17, 24, 0x4201, 0x4204
SEIZE, INTERRUPT, LISTEN, GET_SYSCALL_INFO = 0x4206, 0x4207, 0x4208, 0x420E
NT_PRSTATUS = 1
O_SYSGOOD, O_FORK, O_VFORK, O_CLONE, O_EXEC, O_EXIT, O_EXITKILL = 1, 2, 4, 8, 16, 64, 1 << 20
EVENTS = {1: "fork", 2: "vfork", 3: "clone", 4: "exec", 5: "vfork_done", 6: "exit", 128: "stop"}
WALL, WNOTHREAD = 0x40000000, 0x20000000  # __WALL: wait for threads, too; __WNOTHREAD: only for this thread's children

_INFO = struct.Struct("<BxxxIQQ")  # up to stack_pointer of struct ptrace_syscall_info
_INFO_SIZE = 88


class SyscallStop(NamedTuple):
    """What a thread that stopped at a system call is about to do, or has done.

    Attributes:
        entry: whether the call begins.
        number: of the call, for entries.
        arguments: six of them, for entries.
        result: for exits, signed.
        ip: where in the program it was called.
    """

    entry: bool
    number: int
    arguments: tuple[int, ...]
    result: int
    ip: int


Registers = dict[str, int]
# What PTRACE_GETREGSET gives for NT_PRSTATUS, 8 bytes each: struct user_regs_struct of arch/x86/include/asm/user_64.h, and struct
# user_pt_regs of arch/arm64/include/uapi/asm/ptrace.h.
_REGISTERS = {
    "x86_64": "r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip cs flags sp ss fs_base gs_base ds es fs gs".split(),
    "aarch64": [*(f"x{n}" for n in range(31)), "sp", "pc", "pstate"],
}


def knows_registers(machine: str = os.uname().machine) -> bool:
    """Whether the registers of this kind of processor are known here."""
    return machine in _REGISTERS


def named_registers(machine: str, raw: bytes) -> Registers:
    """Registers by the names struct pt_regs has for them, from the bytes of NT_PRSTATUS."""
    names = _REGISTERS[machine]
    return dict(zip(names, struct.unpack_from(f"<{len(names)}Q", raw), strict=True))


@functools.cache
def _library() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    library.ptrace.restype = ctypes.c_long
    return library


def _ptrace(request: int, pid: int, address: int, data: int) -> int:
    result: int = _library().ptrace(request, pid, address, data)
    if result < 0:
        errno = ctypes.get_errno()
        raise ProcessLookupError(errno, os.strerror(errno)) if errno == ESRCH else OSError(errno, os.strerror(errno))
    return result


def seize(pid: int) -> None:
    """Become the tracer of a child, and of all that it will start. Raises PermissionDenied or BpfOSError."""
    options = O_SYSGOOD | O_FORK | O_VFORK | O_CLONE | O_EXEC | O_EXIT | O_EXITKILL
    try:
        _ptrace(SEIZE, pid, 0, options)
    except OSError as error:
        if error.errno == EPERM:
            raise PermissionDenied(
                "the engine may not trace its child: ptrace(2) is refused here (kernel.yama.ptrace_scope above 1, or seccomp)",
                errno=error.errno,
                command="ptrace",
            ) from None
        raise BpfOSError("the engine cannot trace its child", errno=error.errno, command="ptrace") from None


class Tracee:
    """A stopped thread: its registers, its memory, and how it goes on.

    Attributes:
        tid: the thread.
        tgid: the process.
    """

    __slots__ = ("_memory", "tgid", "tid")

    def __init__(self, tid: int, tgid: int) -> None:
        self.tid = tid
        self.tgid = tgid
        self._memory = -1

    def resume(self, syscalls: bool, signal: int = 0) -> None:
        """Go on, to the next system call or event; with a signal to be delivered."""
        try:
            _ptrace(SYSCALL if syscalls else CONT, self.tid, 0, signal)
        except ProcessLookupError:
            pass  # killed meanwhile: wait() will tell

    def interrupt(self) -> None:
        """Stop it, soon, whatever it does."""
        _ptrace(INTERRUPT, self.tid, 0, 0)

    def detach(self, signal: int = 0) -> None:
        """Let it go on untraced; with a signal to be delivered."""
        try:
            _ptrace(DETACH, self.tid, 0, signal)
        except ProcessLookupError:
            pass  # killed meanwhile

    def listen(self) -> None:
        """Stay stopped, as a shell wants it, until SIGCONT."""
        try:
            _ptrace(LISTEN, self.tid, 0, 0)
        except OSError:
            self.resume(True)

    def event_message(self) -> int:
        """What an event tells: the new thread's id, or the exit status."""
        value = ctypes.c_ulong()
        _ptrace(GETEVENTMSG, self.tid, 0, ctypes.addressof(value))
        return value.value

    def syscall(self) -> SyscallStop | None:
        """The system call it stopped at. Raises ProcessLookupError when it is gone."""
        buffer = ctypes.create_string_buffer(_INFO_SIZE)
        _ptrace(GET_SYSCALL_INFO, self.tid, _INFO_SIZE, ctypes.addressof(buffer))
        kind, _arch, ip, _sp = _INFO.unpack_from(buffer)
        if kind == 1:
            values = struct.unpack_from("<7Q", buffer, 24)
            number = values[0] - (1 << 64) if values[0] >> 63 else values[0]
            return SyscallStop(True, number, values[1:], 0, ip)
        if kind == 2:
            return SyscallStop(False, 0, (), struct.unpack_from("<q", buffer, 24)[0], ip)
        return None

    def registers(self) -> Registers:
        """The general registers by the names struct pt_regs has for them; see `knows_registers`."""
        machine = os.uname().machine
        buffer = ctypes.create_string_buffer(8 * len(_REGISTERS[machine]))
        vector = struct.pack("<QQ", ctypes.addressof(buffer), len(buffer))
        holder = ctypes.create_string_buffer(vector, len(vector))
        _ptrace(GETREGSET, self.tid, NT_PRSTATUS, ctypes.addressof(holder))
        return named_registers(machine, buffer.raw)

    def read(self, address: int, size: int) -> bytes | None:
        """Memory of the process, None where the address is bad."""
        if size == 0:
            return b""
        fd = self._open()
        if fd < 0 or address >= 1 << 63:
            return None
        try:
            data = os.pread(fd, size, address)
        except OSError:
            return None
        return data if len(data) == size else None

    def write(self, address: int, data: bytes) -> bool:
        """Change memory of the process."""
        fd = self._open()
        try:
            return fd >= 0 and os.pwrite(fd, data, address) == len(data)
        except OSError:
            return False

    def _open(self) -> int:
        if self._memory < 0:
            try:
                self._memory = os.open(f"/proc/{self.tid}/mem", os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                return -1
        return self._memory

    def new_memory(self) -> None:
        """After an exec the memory is another."""
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    close = new_memory
