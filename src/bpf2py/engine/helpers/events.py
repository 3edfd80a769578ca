"""Helpers that send events to user space, and that walk stacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.uapi.errno import E2BIG, EFAULT, EINVAL, ENOENT

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


BPF_F_INDEX_MASK = CURRENT_CPU = 0xFFFFFFFF
BPF_F_CTXLEN = 0xFFFFF  # BPF_F_CTXLEN_MASK, in the upper half of the flags
SKIP_MASK, USER_STACK, FAST_STACK_CMP, REUSE_STACKID, BUILD_ID = 0xFF, 256, 512, 1024, 2048
STACK_BUILD_ID_IP = b"\2\0\0\0" + bytes(20)
EVENT_VALUE = 24  # sizeof(struct bpf_perf_event_value)
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
    """The same with part of the packet after the data: bits 32 to 51 of the flags say how much."""
    packet = engine.current.packet
    length = flags >> 32 & BPF_F_CTXLEN
    if flags & ~(BPF_F_CTXLEN << 32 | BPF_F_INDEX_MASK):
        return -EINVAL
    if length and (packet is None or length > len(packet)):
        return -EFAULT
    tail = packet.content()[:length] if length else b""
    return _output(engine, header, flags, engine.read(data, size) + tail)


xdp_output = skb_output


def _no_event(engine: Machine, header: int, flags: int) -> int:
    index = flags & BPF_F_INDEX_MASK
    if flags & ~BPF_F_INDEX_MASK:
        return -EINVAL
    index = engine.current_cpu if index == CURRENT_CPU else index
    return -E2BIG if index >= engine.core_at(header).info.max_entries else -ENOENT


def perf_event_read(engine: Machine, header: int, flags: int, *_: int) -> int:
    """The engine counts no hardware events."""
    return _no_event(engine, header, flags)


def perf_event_read_value(engine: Machine, header: int, flags: int, buffer: int, size: int, *_: int) -> int:
    """The engine counts no hardware events: zeros."""
    size = engine.length(size)
    engine.write(buffer, bytes(size))
    return _no_event(engine, header, flags) if size == EVENT_VALUE else -EINVAL


def _frames(engine: Machine, user: bool) -> list[int]:
    frames = engine.current.task.user_stack if user else engine.current.task.kernel_stack
    return list(frames)[:MAX_STACK_DEPTH]


def get_stackid(engine: Machine, _context: int, header: int, flags: int, *_: int) -> int:
    """The number of the task's stack in the map: the frames the task was given (`Task.user_stack`, `kernel_stack`)."""
    if flags & ~(SKIP_MASK | USER_STACK | FAST_STACK_CMP | REUSE_STACKID):
        return -EINVAL
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
    """The task's stack as addresses, or as structs bpf_stack_build_id; the bytes written."""
    size = engine.length(size)
    user, build_id = bool(flags & USER_STACK), bool(flags & BUILD_ID)
    step = 32 if build_id and user else 8
    error = 0
    frames: list[int] = []
    if flags & ~(SKIP_MASK | USER_STACK | BUILD_ID) or (build_id and not user) or size % step:
        error = -EINVAL
    else:
        frames = _frames(engine, user)
        error = -EFAULT if len(frames) < flags & SKIP_MASK else 0
    if error:
        engine.write(buffer, bytes(size))
        return error
    kept = [(f & (1 << 64) - 1).to_bytes(8, "little") for f in frames[flags & SKIP_MASK :][: size // step]]
    # No file is known that an address would be in: BPF_STACK_BUILD_ID_IP.
    raw = b"".join(STACK_BUILD_ID_IP + address if step == 32 else address for address in kept)
    engine.write(buffer, raw.ljust(size, b"\0"))
    return len(raw)


def get_task_stack(engine: Machine, _task: int, buffer: int, size: int, flags: int, *_: int) -> int:
    """The same of a task that is given: there is one."""
    return get_stack(engine, 0, buffer, size, flags)
