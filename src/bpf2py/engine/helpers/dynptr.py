"""Dynptrs: pointers with a length, which the helpers check (Linux 5.19).

struct bpf_dynptr is 16 bytes: here the address, then the length, with what else is known in the top bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.engine.memory import PUBLIC
from bpf2py.engine.programs.packet import SkBuff
from bpf2py.uapi.errno import E2BIG, EAGAIN, EINVAL, ENODATA, ERANGE
from bpf2py.uapi.program_types import ProgramType as P

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


MAX_SIZE = (1 << 24) - 1  # DYNPTR_SIZE_MASK
READ_ONLY, OF_PACKET = 1 << 63, 1 << 62
STORE_FLAGS = 3  # BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH
# Programs that may not write to packets (may_access_direct_pkt_data() in kernel/bpf/verifier.c).
_READERS = (P.SOCKET_FILTER, P.CGROUP_SKB, P.LWT_IN, P.LWT_OUT, P.LWT_SEG6LOCAL, P.SK_REUSEPORT, P.FLOW_DISSECTOR)


def _set(engine: Machine, pointer: int, address: int, size: int) -> None:
    engine.write(pointer, address.to_bytes(8, "little") + size.to_bytes(8, "little"))


def _get(engine: Machine, pointer: int) -> tuple[int, int]:
    return _facts(engine, pointer)[:2]


def _facts(engine: Machine, pointer: int) -> tuple[int, int, int]:
    """(address, 0 for a null dynptr; size; READ_ONLY and OF_PACKET)."""
    raw = engine.read(pointer, 16)
    size = int.from_bytes(raw[8:], "little")
    return int.from_bytes(raw[:8], "little"), size & (OF_PACKET - 1), size & (READ_ONLY | OF_PACKET)


def _part(engine: Machine, pointer: int, offset: int, size: int) -> int:
    """The address of a part, 0 when it is not all there."""
    address, length = _get(engine, pointer)
    offset &= 0xFFFFFFFF
    if not address or size > length or offset > length - size:
        return 0
    return address + offset


def dynptr_from_mem(engine: Machine, data: int, size: int, flags: int, pointer: int, *_: int) -> int:
    """Of memory of the program, such as a map's value."""
    if flags or size > MAX_SIZE:
        _set(engine, pointer, 0, 0)
        return -EINVAL if flags else -E2BIG
    _set(engine, pointer, data, size)
    return 0


def dynptr_read(engine: Machine, target: int, size: int, pointer: int, offset: int, flags: int, *_: int) -> int:
    """Copy out of it."""
    address, length = _get(engine, pointer)
    size, offset = engine.length(size), offset & 0xFFFFFFFF
    if not address or flags:
        return -EINVAL
    if size > length or offset > length - size:
        return -E2BIG
    engine.write(target, engine.read(address + offset, size))
    return 0


def dynptr_write(engine: Machine, pointer: int, offset: int, source: int, size: int, flags: int, *_: int) -> int:
    """Copy into it."""
    address, length, kind = _facts(engine, pointer)
    size, offset = engine.length(size), offset & 0xFFFFFFFF
    if not address or kind & READ_ONLY:
        return -EINVAL
    if size > length or offset > length - size:
        return -E2BIG
    allowed = STORE_FLAGS if kind & OF_PACKET and isinstance(engine.current.packet, SkBuff) else 0
    if flags & ~allowed:
        return -EINVAL
    engine.write(address + offset, engine.read(source, size))
    return 0


def dynptr_data(engine: Machine, pointer: int, offset: int, size: int, *_: int) -> int:
    """The address of a part, null when it is not all there; of packets there are slices only."""
    return 0 if _facts(engine, pointer)[2] else _part(engine, pointer, offset, engine.length(size))


def ringbuf_reserve_dynptr(engine: Machine, header: int, size: int, flags: int, pointer: int, *_: int) -> int:
    """Of a new record."""
    size &= 0xFFFFFFFF
    if flags or size > MAX_SIZE:
        _set(engine, pointer, 0, 0)
        return -EINVAL if flags else -E2BIG
    address = engine.function("ringbuf_reserve")(header, size, 0)
    if address < PUBLIC:
        _set(engine, pointer, 0, 0)
        return -EINVAL
    _set(engine, pointer, address, size)
    return 0


def _finish(engine: Machine, pointer: int, flags: int, name: str) -> int:
    address, _ = _get(engine, pointer)
    if address:
        engine.function(name)(address, flags)
        _set(engine, pointer, 0, 0)
    return 0


def ringbuf_submit_dynptr(engine: Machine, pointer: int, flags: int, *_: int) -> int:
    """Hand the record over."""
    return _finish(engine, pointer, flags, "ringbuf_submit")


def ringbuf_discard_dynptr(engine: Machine, pointer: int, flags: int, *_: int) -> int:
    """Give the record up."""
    return _finish(engine, pointer, flags, "ringbuf_discard")


# -- kernel functions (Linux 6.4 and 6.5) ------------------------------------------------------------------------------


def bpf_dynptr_from_skb(engine: Machine, _context: int, flags: int, pointer: int, *_: int) -> int:
    """Of the packet."""
    run = engine.current
    if flags or run.packet is None:
        _set(engine, pointer, 0, 0)
        return -EINVAL
    kind = OF_PACKET | (READ_ONLY if run.program.type in _READERS else 0)
    _set(engine, pointer, run.packet.data, len(run.packet) | kind)
    return 0


bpf_dynptr_from_xdp = bpf_dynptr_from_skb


def bpf_dynptr_slice(engine: Machine, pointer: int, offset: int, _buffer: int, size: int, *_: int) -> int:
    """The address of a part, null when it is not all there; packets of the engine are in one piece, so that no copy is made."""
    return _part(engine, pointer, offset, size & 0xFFFFFFFF)


def bpf_dynptr_slice_rdwr(engine: Machine, pointer: int, offset: int, buffer: int, size: int, *_: int) -> int:
    """The same to be written to: null where that is not allowed."""
    if _facts(engine, pointer)[2] & READ_ONLY:
        return 0
    return bpf_dynptr_slice(engine, pointer, offset, buffer, size)


def bpf_dynptr_adjust(engine: Machine, pointer: int, start: int, end: int, *_: int) -> int:
    """Only the part from `start` to `end` from now on."""
    address, length, kind = _facts(engine, pointer)
    start, end = start & 0xFFFFFFFF, end & 0xFFFFFFFF
    if not address or start > end:
        return -EINVAL
    if start > length or end > length:
        return -ERANGE
    _set(engine, pointer, address + start, end - start | kind)
    return 0


def bpf_dynptr_is_null(engine: Machine, pointer: int, *_: int) -> int:
    """Whether it leads nowhere."""
    return int(not _get(engine, pointer)[0])


def bpf_dynptr_is_rdonly(engine: Machine, pointer: int, *_: int) -> int:
    """Whether it may only be read."""
    address, _length, kind = _facts(engine, pointer)
    return int(bool(address and kind & READ_ONLY))


def bpf_dynptr_size(engine: Machine, pointer: int, *_: int) -> int:
    """Bytes."""
    address, length = _get(engine, pointer)
    return length if address else -EINVAL


def bpf_dynptr_clone(engine: Machine, pointer: int, clone: int, *_: int) -> int:
    """Another one of the same."""
    address, length, kind = _facts(engine, pointer)
    if not address:
        _set(engine, clone, 0, 0)
        return -EINVAL
    _set(engine, clone, address, length | kind)
    return 0


MAX_SAMPLES = 128 * 1024  # BPF_MAX_USER_RINGBUF_SAMPLES
NO_WAKEUP, FORCE_WAKEUP = 1, 2


def user_ringbuf_drain(engine: Machine, header: int, callback: int, context: int, flags: int, *_: int) -> int:
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
