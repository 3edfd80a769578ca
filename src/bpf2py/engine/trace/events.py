"""Tracepoints of the traced child: the bytes the kernel would give a program.

Source of facts: the format files in tracefs and the TRACE_EVENT definitions of include/trace/events/{syscalls,sched,task}.h.
Every record starts with the eight common bytes (type, flags, preempt count, pid).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from bpf2py.engine.kernel_objects import KnownMembers
from bpf2py.engine.trace.ptrace import Registers

__all__ = [
    "Event",
    "pt_regs",
    "sched_process_exec",
    "sched_process_exit",
    "sched_process_fork",
    "sys_enter",
    "sys_exit",
]

# struct pt_regs of arch/x86/include/asm/ptrace.h, in order
_PT_REGS = "r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip cs flags sp ss".split()
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
    """struct pt_regs."""
    return struct.pack("<21Q", *(registers.get(name, 0) & (1 << 64) - 1 for name in _PT_REGS))


def sys_enter(pid: int, name: str, number: int, arguments: tuple[int, ...], registers: Registers) -> Event:
    """A system call begins. Of both tracepoints the number is at 8 and the arguments from 16 on."""
    record = _common(pid) + struct.pack("<q6Q", number, *arguments)
    return Event(
        (f"syscalls/sys_enter_{name}", "raw_syscalls/sys_enter"), record, "sys_enter", (pt_regs(registers), number)
    )


def sys_exit(pid: int, name: str, number: int, result: int, registers: Registers) -> Event:
    """A system call is over."""
    record = _common(pid) + struct.pack("<qq", number, result)
    return Event(
        (f"syscalls/sys_exit_{name}", "raw_syscalls/sys_exit"), record, "sys_exit", (pt_regs(registers), result)
    )


def sched_process_exec(pid: int, filename: str, old_pid: int, task: dict[str, object]) -> Event:
    """Another program is run; the file's name stands behind the record."""
    text = filename.encode("utf-8", "surrogateescape") + b"\0"
    record = _common(pid) + struct.pack("<Iii", len(text) << 16 | 20, pid, old_pid) + text
    binary = KnownMembers({"__type__": "linux_binprm", "filename": filename, "interp": filename})
    return Event(("sched/sched_process_exec",), record, "sched_process_exec", (task, old_pid, binary))


def sched_process_fork(
    parent: int, parent_comm: str, child: int, child_comm: str, tasks: tuple[dict[str, object], ...], dynamic: bool
) -> Event:
    """A new task. From Linux 6.16 on the names stand behind the record, before that within it."""
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
