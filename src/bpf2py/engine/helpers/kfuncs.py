"""Kernel functions the engine has."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bpf2py.engine.machine import Engine

EINVAL, E2BIG = 22, 7
MAX_LOOPS = 8 * 1024 * 1024  # BPF_MAX_LOOPS


def _signed(value: int) -> int:
    return (value & 0xFFFFFFFF ^ 1 << 31) - (1 << 31)


def bpf_iter_num_new(engine: Engine, iterator: int, start: int, end: int, *_: int) -> int:
    """Count from start to end: struct bpf_iter_num holds the current number and the end."""
    first, last = _signed(start), _signed(end)
    result = -EINVAL if first > last else -E2BIG if last - first > MAX_LOOPS else 0
    if result:
        first = last = 0
    engine.write(iterator, ((first - 1) & 0xFFFFFFFF).to_bytes(4, "little") + (last & 0xFFFFFFFF).to_bytes(4, "little"))
    if result:
        engine.write(iterator, bytes(8))
    return result


def bpf_iter_num_next(engine: Engine, iterator: int, *_: int) -> int:
    """The address of the next number, null at the end."""
    raw = engine.read(iterator, 8)
    current, end = int.from_bytes(raw[:4], "little", signed=True), int.from_bytes(raw[4:], "little", signed=True)
    if current + 1 >= end:
        engine.write(iterator, bytes(8))
        return 0
    engine.write(iterator, (current + 1 & 0xFFFFFFFF).to_bytes(4, "little"))
    return iterator


def bpf_iter_num_destroy(engine: Engine, iterator: int, *_: int) -> int:
    """Nothing is held."""
    engine.write(iterator, bytes(8))
    return 0


def _nothing(engine: Engine, *_: int) -> int:
    return 0


def _same(engine: Engine, pointer: int, *_: int) -> int:
    return pointer


bpf_rcu_read_lock = bpf_rcu_read_unlock = bpf_preempt_disable = bpf_preempt_enable = _nothing
bpf_local_irq_save = bpf_local_irq_restore = bpf_task_release = bpf_get_task_exe_file = _nothing
bpf_cast_to_kern_ctx = bpf_rdonly_cast = bpf_task_acquire = _same


def _text(engine: Engine, address: int, limit: int = 1 << 12) -> bytes:
    found = bytearray()
    while len(found) < limit:
        part = engine.read(address + len(found), 1)
        if part == b"\0":
            break
        found += part
    return bytes(found)


def bpf_strlen(engine: Engine, text: int, *_: int) -> int:
    """Characters in front of the NUL (Linux 6.17)."""
    return len(_text(engine, text))


def bpf_strnlen(engine: Engine, text: int, limit: int, *_: int) -> int:
    """The same, at most `limit` (Linux 6.17)."""
    return len(_text(engine, text, limit & 0xFFFFFFFF))


def bpf_strcmp(engine: Engine, a: int, b: int, *_: int) -> int:
    """-1, 0 or 1 (Linux 6.17)."""
    left, right = _text(engine, a), _text(engine, b)
    return (left > right) - (left < right)


def bpf_strchr(engine: Engine, text: int, character: int, *_: int) -> int:
    """The index of a character, -ENOENT without it (Linux 6.17)."""
    found = (_text(engine, text) + b"\0").find(bytes([character & 0xFF]))
    return found if found >= 0 else -2
