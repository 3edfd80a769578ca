"""Helpers that send events to user space, and that walk stacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine

EINVAL, ENOENT, E2BIG, EFAULT, ENOSPC, EBADF = 22, 2, 7, 14, 28, 9
BPF_F_INDEX_MASK = CURRENT_CPU = 0xFFFFFFFF
BPF_F_CTXLEN = 0xFFFFF  # BPF_F_CTXLEN_MASK, in the upper half of the flags
SKIP_MASK, USER_STACK, BUILD_ID = 0xFF, 256, 2048
MAX_STACK_DEPTH = 127


def perf_event_output(engine: Machine, _context: int, header: int, flags: int, data: int, size: int, *_: int) -> int:
    """A record for the reader of the map's buffer of a CPU; of packet programs with part of the packet after the data."""
    packet = engine.current.packet
    if packet is None:
        return -EINVAL if flags & ~BPF_F_INDEX_MASK else _output(engine, header, flags, engine.read(data, size))
    return skb_output(engine, _context, header, flags, data, size)


def _output(engine: Machine, header: int, flags: int, data: bytes) -> int:
    cpu = flags & BPF_F_INDEX_MASK
    cpu = engine.current_cpu if cpu == CURRENT_CPU else cpu
    core = engine.core_at(header)
    if cpu >= core.info.max_entries:
        return -E2BIG
    return core.perf_output(cpu, data)


def skb_output(engine: Machine, _context: int, header: int, flags: int, data: int, size: int, *_: int) -> int:
    """The same with part of the packet behind the data: bits 32 to 51 of the flags say how much."""
    packet = engine.current.packet
    length = flags >> 32 & BPF_F_CTXLEN
    if flags & ~(BPF_F_CTXLEN << 32 | BPF_F_INDEX_MASK):
        return -EINVAL
    if length and (packet is None or length > len(packet)):
        return -EFAULT
    tail = packet.content()[:length] if length else b""
    return _output(engine, header, flags, engine.read(data, size) + tail)


xdp_output = skb_output


def perf_event_read(engine: Machine, header: int, flags: int, *_: int) -> int:
    """The engine counts no hardware events."""
    return -ENOENT


def perf_event_read_value(engine: Machine, header: int, flags: int, buffer: int, size: int, *_: int) -> int:
    """The engine counts no hardware events: zeros."""
    if size != 24:
        return -EINVAL
    engine.write(buffer, bytes(24))
    return -ENOENT


def _frames(engine: Machine, user: bool) -> list[int]:
    frames = engine.current.task.user_stack if user else engine.current.task.kernel_stack
    return list(frames)[:MAX_STACK_DEPTH]


def get_stackid(engine: Machine, _context: int, header: int, flags: int, *_: int) -> int:
    """The number of the task's stack in the map: the frames the task was given (`Task.user_stack`, `kernel_stack`)."""
    frames = _frames(engine, bool(flags & USER_STACK))
    skip = flags & SKIP_MASK
    core = engine.core_at(header)
    kept = frames[skip : skip + core.info.value_size // 8]
    if not kept:
        return -EFAULT
    block = engine.memory.allocate(8 * len(kept))
    try:
        engine.memory.write(block, b"".join((f & (1 << 64) - 1).to_bytes(8, "little") for f in kept))
        return engine.function("stackmap_store")(header, block, len(kept), flags)
    finally:
        engine.memory.free(block)


def get_stack(engine: Machine, _context: int, buffer: int, size: int, flags: int, *_: int) -> int:
    """The task's stack as addresses; the bytes written."""
    if flags & ~(SKIP_MASK | USER_STACK | BUILD_ID) or size % 8:
        return -EINVAL
    frames = _frames(engine, bool(flags & USER_STACK))[flags & SKIP_MASK :][: size // 8]
    size = engine.length(size)
    raw = b"".join((f & (1 << 64) - 1).to_bytes(8, "little") for f in frames)
    engine.write(buffer, raw.ljust(size, b"\0"))
    return len(raw)


def get_task_stack(engine: Machine, _task: int, buffer: int, size: int, flags: int, *_: int) -> int:
    """The same of a task that is given: there is one."""
    return get_stack(engine, 0, buffer, size, flags)
