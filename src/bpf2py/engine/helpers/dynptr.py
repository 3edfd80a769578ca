"""Dynptrs: pointers with a length, which the helpers check (Linux 5.19).

struct bpf_dynptr is 16 bytes: here the address, then the length, with the top bit for ring buffer records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.engine.memory import PUBLIC

if TYPE_CHECKING:
    from bpf2py.engine.machine import Engine

EINVAL, E2BIG, ENOMEM = 22, 7, 12
MAX_SIZE = (1 << 24) - 1  # DYNPTR_SIZE_MASK


def _set(engine: Engine, pointer: int, address: int, size: int) -> None:
    engine.write(pointer, address.to_bytes(8, "little") + size.to_bytes(8, "little"))


def _get(engine: Engine, pointer: int) -> tuple[int, int]:
    raw = engine.read(pointer, 16)
    return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")


def dynptr_from_mem(engine: Engine, data: int, size: int, flags: int, pointer: int, *_: int) -> int:
    """Of memory of the program, such as a map's value."""
    if flags or size > MAX_SIZE:
        _set(engine, pointer, 0, 0)
        return -EINVAL if flags else -E2BIG
    _set(engine, pointer, data, size)
    return 0


def dynptr_read(engine: Engine, target: int, size: int, pointer: int, offset: int, flags: int, *_: int) -> int:
    """Copy out of it."""
    address, length = _get(engine, pointer)
    size, offset = engine.length(size), offset & 0xFFFFFFFF
    if not address or flags:
        return -EINVAL
    if size > length or offset > length - size:
        return -E2BIG
    engine.write(target, engine.read(address + offset, size))
    return 0


def dynptr_write(engine: Engine, pointer: int, offset: int, source: int, size: int, flags: int, *_: int) -> int:
    """Copy into it."""
    address, length = _get(engine, pointer)
    size, offset = engine.length(size), offset & 0xFFFFFFFF
    if not address or flags:
        return -EINVAL
    if size > length or offset > length - size:
        return -E2BIG
    engine.write(address + offset, engine.read(source, size))
    return 0


def dynptr_data(engine: Engine, pointer: int, offset: int, size: int, *_: int) -> int:
    """The address of a part, null when it is not all there."""
    address, length = _get(engine, pointer)
    size, offset = engine.length(size), offset & 0xFFFFFFFF
    if not address or size > length or offset > length - size:
        return 0
    return address + offset


def ringbuf_reserve_dynptr(engine: Engine, header: int, size: int, flags: int, pointer: int, *_: int) -> int:
    """Of a new record."""
    size = engine.length(size)
    if flags or size > MAX_SIZE:
        _set(engine, pointer, 0, 0)
        return -EINVAL if flags else -E2BIG
    address = engine.function("ringbuf_reserve")(header, size, 0)
    if address < PUBLIC:
        _set(engine, pointer, 0, 0)
        return -EINVAL
    _set(engine, pointer, address, size)
    return 0


def _finish(engine: Engine, pointer: int, flags: int, name: str) -> int:
    address, _ = _get(engine, pointer)
    if address:
        engine.function(name)(address, flags)
        _set(engine, pointer, 0, 0)
    return 0


def ringbuf_submit_dynptr(engine: Engine, pointer: int, flags: int, *_: int) -> int:
    """Hand the record over."""
    return _finish(engine, pointer, flags, "ringbuf_submit")


def ringbuf_discard_dynptr(engine: Engine, pointer: int, flags: int, *_: int) -> int:
    """Give the record up."""
    return _finish(engine, pointer, flags, "ringbuf_discard")


MAX_SAMPLES = 128 * 1024  # BPF_MAX_USER_RINGBUF_SAMPLES
NO_WAKEUP, FORCE_WAKEUP = 1, 2
ENODATA, EAGAIN = 61, 11


def user_ringbuf_drain(engine: Engine, header: int, callback: int, context: int, flags: int, *_: int) -> int:
    """Give every record of a USER_RINGBUF to a function of the program, until it returns 1; how many (Linux 6.1)."""
    if flags & ~(NO_WAKEUP | FORCE_WAKEUP):
        return -EINVAL
    peek, release = engine.function("user_ringbuf_peek"), engine.function("user_ringbuf_release")
    block = engine.memory.allocate(32)
    program, count = engine.current.program, 0
    try:
        while count < MAX_SAMPLES:
            sample = peek(header, block)
            if sample == -EAGAIN:
                count += 1  # discarded by its writer
                continue
            if sample < 0:
                return count if sample == -ENODATA else sample
            size = engine.memory.u32[block >> 2]
            _set(engine, block + 16, sample, size)
            stop = engine.execute(program, block + 16, callback=(callback, context))
            release(header, size)
            count += 1
            if stop:
                break
        return count
    finally:
        engine.memory.free(block)
