"""`struct engine` of sources/engine.h: what the library knows of the machine and of the program that runs."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Protocol

from bpf2py.engine.memory import ENGINE

if TYPE_CHECKING:
    from bpf2py.engine.memory import Memory
    from bpf2py.engine.task import Task

__all__ = [
    "FROZEN", "PYTHON", "REAL", "Place", "has_logged", "logged", "note_clock", "note_memory", "note_packet", "note_pid_namespace",
    "note_run", "note_task_struct",
]  # fmt: skip

PYTHON, FROZEN, REAL = range(3)  # CLOCK_...
_NOW = ENGINE + 24 >> 3
_RUN = ENGINE + 40
_TASK_STRUCT = ENGINE + 72 >> 3
_PACKET = ENGINE + 80
_END = ENGINE + 144 >> 3
_PID_NAMESPACE = ENGINE + 152 >> 3
_LOG = ENGINE + 168 >> 3
_LOG_USED = ENGINE + 176 >> 2
_CLOCK = ENGINE + 180 >> 2
LOG_SIZE = 1 << 16  # as in sources/format.h
# pid_tgid, uid_gid, cgroup_id, cookie, task, packet, packet_end, mac, skb, frame, comm, own_memory, named
_store = struct.Struct("<10Q16sII").pack_into
_store_place = struct.Struct("<5Q").pack_into
_M64 = (1 << 64) - 1
_NO_PACKET = (0, 0, 0, 0, 0)

Place = tuple[int, int, int, int, int]  # packet, packet_end, mac, skb, frame


class _Packet(Protocol):
    @property
    def place(self) -> Place: ...


class Run(Protocol):
    """What is asked of a run: see `bpf2py.engine.run.Run`."""

    @property
    def task(self) -> Task: ...

    @property
    def packet(self) -> _Packet | None: ...

    @property
    def cookie(self) -> int: ...

    @property
    def task_address(self) -> int: ...


def note_memory(memory: Memory) -> None:
    """Say how large the memory is, and where lines of bpf_trace_printk are kept in it."""
    memory.u64[_END] = memory.size
    memory.u64[_LOG] = memory.allocate(LOG_SIZE, private=True)


def has_logged(memory: Memory) -> bool:
    """Whether there are lines of bpf_trace_printk that `logged` would give."""
    return memory.u32[_LOG_USED] != 0


def logged(memory: Memory) -> list[bytes]:
    """Lines of bpf_trace_printk since the last time."""
    used = memory.u32[_LOG_USED]
    if not used:
        return []
    memory.u32[_LOG_USED] = 0
    start = memory.u64[_LOG]
    log, lines, at = bytes(memory.view[start : start + used]), [], 0
    while at < used:
        end = at + 2 + int.from_bytes(log[at : at + 2], "little")
        lines.append(log[at + 2 : end])
        at = end
    return lines


def note_clock(memory: Memory, kind: int, now: int) -> None:
    """Say where the time comes from."""
    memory.u64[_NOW] = now
    memory.u32[_CLOCK] = kind


def note_run(memory: Memory, run: Run) -> None:
    """Say what runs from now on."""
    task, packet = run.task, run.packet
    place = packet.place if packet is not None else _NO_PACKET
    try:
        comm, named = task.comm.encode()[:15], 1
    except (UnicodeEncodeError, AttributeError):
        comm, named = b"", 0  # the helper that is asked for it says so
    _store(
        memory.view,
        _RUN,
        (task.tgid << 32 | task.pid & 0xFFFFFFFF) & _M64,
        (task.gid << 32 | task.uid & 0xFFFFFFFF) & _M64,
        task.cgroup_id & _M64,
        run.cookie & _M64,
        run.task_address,
        *place,
        comm,
        task.memory is None,
        named,
    )


def note_packet(memory: Memory, place: Place) -> None:
    """Say where the packet of what runs is now."""
    _store_place(memory.view, _PACKET, *place)


def note_pid_namespace(memory: Memory, device: int, inode: int) -> None:
    """Say which PID namespace there is."""
    memory.u64[_PID_NAMESPACE], memory.u64[_PID_NAMESPACE + 1] = device, inode


def note_task_struct(memory: Memory, address: int) -> None:
    """Say where the struct task_struct of the task is."""
    memory.u64[_TASK_STRUCT] = address
