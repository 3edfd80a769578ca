"""Kernel functions the engine has."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


def _nothing(engine: Machine, *_: int) -> int:
    return 0


def _same(engine: Machine, pointer: int, *_: int) -> int:
    return pointer


bpf_rcu_read_lock = bpf_rcu_read_unlock = bpf_preempt_disable = bpf_preempt_enable = _nothing
bpf_local_irq_save = bpf_local_irq_restore = bpf_task_release = bpf_get_task_exe_file = _nothing
bpf_cast_to_kern_ctx = bpf_rdonly_cast = bpf_task_acquire = _same


def _text(engine: Machine, address: int, limit: int = 1 << 12) -> bytes:
    found = bytearray()
    while len(found) < limit:
        part = engine.read(address + len(found), 1)
        if part == b"\0":
            break
        found += part
    return bytes(found)


def bpf_strlen(engine: Machine, text: int, *_: int) -> int:
    """Characters in front of the NUL (Linux 6.17)."""
    return len(_text(engine, text))


def bpf_strnlen(engine: Machine, text: int, limit: int, *_: int) -> int:
    """The same, at most `limit` (Linux 6.17)."""
    return len(_text(engine, text, limit & 0xFFFFFFFF))


def bpf_strcmp(engine: Machine, a: int, b: int, *_: int) -> int:
    """-1, 0 or 1 (Linux 6.17)."""
    left, right = _text(engine, a), _text(engine, b)
    return (left > right) - (left < right)


def bpf_strchr(engine: Machine, text: int, character: int, *_: int) -> int:
    """The index of a character, -ENOENT without it (Linux 6.17)."""
    found = (_text(engine, text) + b"\0").find(bytes([character & 0xFF]))
    return found if found >= 0 else -2
