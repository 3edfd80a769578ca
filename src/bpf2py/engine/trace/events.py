"""Tracepoints of the traced child: the bytes the kernel would give a program.

Source of facts: the format files in tracefs and the TRACE_EVENT definitions of include/trace/events/{syscalls,sched,task}.h.
Every record starts with the eight common bytes (type, flags, preempt count, pid).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from bpf2py.engine.programs.contexts import AARCH64, X86_64
from bpf2py.engine.programs.kernel_objects import KnownMembers
from bpf2py.engine.trace.ptrace import Registers, SyscallStop

__all__ = [
    "Event",
    "pt_regs",
    "sched_process_exec",
    "sched_process_exit",
    "sched_process_fork",
    "sys_enter",
    "sys_exit",
]

PRIORITY = 120  # of a task that is not niced


class Event(NamedTuple):
    """One event: the hook, the tracepoint's record, and the arguments of the raw tracepoint.

    Attributes:
        names: tracepoints this is (``syscalls/sys_enter_read``, ``raw_syscalls/sys_enter``).
        record: the bytes of each of them.
        raw: the raw tracepoint's name.
        arguments: its arguments; a dict is a struct, with its type behind ``__type__``.
    """

    names: tuple[str, ...]
    record: bytes
    raw: str
    arguments: tuple[object, ...]


def _common(pid: int) -> bytes:
    return struct.pack("<HBBi", 0, 0, 0, pid)


def pt_regs(registers: Registers) -> bytes:
    """struct pt_regs of the processor these registers are of."""
    layout = X86_64 if "orig_ax" in registers else AARCH64
    raw = bytearray(layout.size)
    for name, value in registers.items():
        if name in layout.names:
            struct.pack_into("<Q", raw, layout.names[name], value & (1 << 64) - 1)
    return bytes(raw)


def _of_call(registers: Registers, number: int, first: int) -> bytes:
    """struct pt_regs during a system call: AArch64's has members the registers do not show."""
    if "x0" in registers:
        registers = {**registers, "orig_x0": first, "syscallno": number & 0xFFFFFFFF}
    return pt_regs(registers)


def sys_enter(pid: int, name: str, number: int, arguments: tuple[int, ...], registers: Registers) -> Event:
    """A system call begins. Of both tracepoints the number is at 8 and the arguments from 16 on."""
    record = _common(pid) + struct.pack("<q6Q", number, *arguments)
    return Event(
        (f"syscalls/sys_enter_{name}", "raw_syscalls/sys_enter"),
        record,
        "sys_enter",
        (_of_call(registers, number, arguments[0]), number),
    )


def sys_exit(pid: int, name: str, call: SyscallStop, result: int, registers: Registers) -> Event:
    """A system call is over."""
    record = _common(pid) + struct.pack("<qq", call.number, result)
    return Event(
        (f"syscalls/sys_exit_{name}", "raw_syscalls/sys_exit"),
        record,
        "sys_exit",
        (_of_call(registers, call.number, call.arguments[0]), result),
    )


def sched_process_exec(pid: int, filename: str, interp: str, old_pid: int, task: dict[str, object]) -> Event:
    """Another program is run; the file's name stands after the record."""
    text = filename.encode("utf-8", "surrogateescape") + b"\0"
    record = _common(pid) + struct.pack("<Iii", len(text) << 16 | 20, pid, old_pid) + text
    binary = KnownMembers({"__type__": "linux_binprm", "filename": filename, "interp": interp})
    return Event(("sched/sched_process_exec",), record, "sched_process_exec", (task, old_pid, binary))


def sched_process_fork(
    parent: int, parent_comm: str, child: int, child_comm: str, tasks: tuple[dict[str, object], ...], dynamic: bool
) -> Event:
    """A new task. From Linux 6.16 on the names stand after the record, before that within it."""
    if dynamic:
        first, second = parent_comm.encode() + b"\0", child_comm.encode() + b"\0"
        start = 8 + 16
        record = _common(parent) + struct.pack(
            "<IiIi", len(first) << 16 | start, parent, len(second) << 16 | start + len(first), child
        )
        record += first + second
    else:
        record = _common(parent) + struct.pack("<16si16si", parent_comm.encode(), parent, child_comm.encode(), child)
    return Event(("sched/sched_process_fork",), record, "sched_process_fork", tasks)


def sched_process_exit(pid: int, comm: str, group_dead: bool, task: dict[str, object]) -> Event:
    """A task ends."""
    record = _common(pid) + struct.pack("<16sii?7x", comm.encode(), pid, PRIORITY, group_dead)
    return Event(("sched/sched_process_exit",), record, "sched_process_exit", (task, group_dead))
