"""Helpers for the checksums of the Internet protocols (RFC 1071, RFC 1624)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.uapi.errno import EFAULT, EINVAL, ENOTSUPP

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


# BPF_F_* of include/uapi/linux/bpf.h
HEADER_FIELD_MASK, PSEUDO_HEADER, MARK_MANGLED_0, MARK_ENFORCE, IPV6 = 0xF, 1 << 4, 1 << 5, 1 << 6, 1 << 7
MAX_DIFF = 512


def add(a: int, b: int) -> int:
    """32-bit sum with the carry added back (csum_add)."""
    total = a + b
    return (total & 0xFFFFFFFF) + (total >> 32)


def partial(data: bytes, seed: int = 0) -> int:
    """The 32-bit sum of 16-bit words in the machine's order (csum_partial): any that folds to the same is as good."""
    if len(data) % 2:
        data += b"\0"
    total = seed
    for i in range(0, len(data) & ~3, 4):
        total += int.from_bytes(data[i : i + 4], "little")
    if len(data) % 4:
        total += int.from_bytes(data[-2:], "little")
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def fold(total: int) -> int:
    """The 16-bit checksum of a 32-bit sum (csum_fold)."""
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def csum_diff(engine: Machine, old: int, old_size: int, new: int, new_size: int, seed: int, *_: int) -> int:
    """What replacing `old` by `new` changes, on top of a seed; folded to 16 bits from Linux 6.13 on.

    Before, kernels of other processors than x86-64 may give another sum that folds to the same.
    """
    old_size, new_size = old_size & 0xFFFFFFFF, new_size & 0xFFFFFFFF
    if old_size & 3 or new_size & 3:
        return -EINVAL
    removed = engine.read(old, old_size) if old_size else b""
    added = engine.read(new, new_size) if new_size else b""
    seed &= 0xFFFFFFFF
    if engine.version >= (6, 13, 0):
        if old_size and new_size:
            total = add(partial(added, seed), ~partial(removed) & 0xFFFFFFFF)
        elif old_size:
            total = ~partial(removed, ~seed & 0xFFFFFFFF) & 0xFFFFFFFF
        else:
            total = partial(added, seed)
        return _from32to16(total)
    if old_size + new_size > MAX_DIFF:
        return -14
    return partial(bytes(b ^ 0xFF for b in removed) + added, seed)


def _from32to16(total: int) -> int:
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


def csum_update(engine: Machine, _skb: int, _csum: int, *_: int) -> int:
    """Packets of the engine have no checksum of hardware: -ENOTSUPP."""
    return -ENOTSUPP


def csum_level(engine: Machine, _skb: int, level: int, *_: int) -> int:
    """Packets of the engine have no checksum of hardware."""
    return -EINVAL if level > 3 else -13 if level == 0 else 0


def _outside(engine: Machine, offset: int) -> bool:
    packet = engine.current.packet
    return packet is None or offset > 0xFFFF or bool(offset & 1) or offset + 2 > len(packet)


def _replace(engine: Machine, offset: int, difference: int | None, old: int, new: int, size: int, zero: bool) -> int:
    packet = engine.current.packet
    at = packet.data + offset
    current = int.from_bytes(engine.memory.read(at, 2), "little")
    if difference is None:
        mask = (1 << 8 * size) - 1
        difference = add(~old & mask if size == 4 else ~old & 0xFFFF, new & mask)
        total = add(~current & 0xFFFF, difference)
    else:
        total = add(~current & 0xFFFF, difference & 0xFFFFFFFF)
    folded = fold(total)
    if zero and not folded:
        folded = 0xFFFF  # CSUM_MANGLED_0
    engine.memory.write(at, folded.to_bytes(2, "little"))
    return 0


def l3_csum_replace(engine: Machine, _skb: int, offset: int, old: int, new: int, size: int, *_: int) -> int:
    """Correct the checksum at an offset for a member that changed; with size 0 `new` is a difference."""
    offset &= 0xFFFFFFFF
    if size & ~HEADER_FIELD_MASK:
        return -EINVAL
    if _outside(engine, offset):
        return -EFAULT
    return _change(engine, offset, old, new, size, False)


def _change(engine: Machine, offset: int, old: int, new: int, size: int, zero: bool) -> int:
    if size == 0:
        return -EINVAL if old else _replace(engine, offset, new, 0, 0, 0, zero)
    if size not in (2, 4):
        return -EINVAL
    return _replace(engine, offset, None, old, new, size, zero)


def l4_csum_replace(engine: Machine, _skb: int, offset: int, old: int, new: int, flags: int, *_: int) -> int:
    """The same for TCP and UDP; BPF_F_MARK_MANGLED_0 keeps UDP's "no checksum"."""
    offset &= 0xFFFFFFFF
    if flags & ~(MARK_MANGLED_0 | MARK_ENFORCE | PSEUDO_HEADER | IPV6 | HEADER_FIELD_MASK):
        return -EINVAL
    if _outside(engine, offset):
        return -EFAULT
    mangled = bool(flags & MARK_MANGLED_0)
    at = engine.current.packet.data + offset
    if mangled and not flags & MARK_ENFORCE and not any(engine.memory.read(at, 2)):
        return 0
    return _change(engine, offset, old, new, flags & HEADER_FIELD_MASK, mangled)
