"""Kernel functions the engine has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bpf2py.engine.helpers.memory import _kernel, kernel_error

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


def _nothing(engine: Machine, *_: int) -> int:
    return 0


def _same(engine: Machine, pointer: int, *_: int) -> int:
    return pointer


bpf_rcu_read_lock = bpf_rcu_read_unlock = bpf_preempt_disable = bpf_preempt_enable = _nothing
bpf_local_irq_save = bpf_local_irq_restore = bpf_task_release = bpf_get_task_exe_file = _nothing
bpf_cast_to_kern_ctx = bpf_rdonly_cast = bpf_task_acquire = _same


# -- text (Linux 6.17) ------------------------------------------------------------------------------------------------

ENOENT, E2BIG = 2, 7
MAX_TEXT = 1 << 16  # XATTR_SIZE_MAX


class _Bad(Exception):
    """An address that cannot be read, or text without an end; with what the kernel answers."""


def _text(engine: Machine, address: int, limit: int = MAX_TEXT) -> bytes:
    """The text at an address, with its NUL unless that is beyond the limit. Raises _Bad."""
    found = b""
    while len(found) < limit:
        step = min(limit - len(found), 256 - (address + len(found) & 255))
        part = _kernel(engine, address + len(found), step)
        if part is None:
            raise _Bad(kernel_error(address + len(found)))
        end = part.find(b"\0")
        if end >= 0:
            return found + part[: end + 1]
        found += part
    return found


def _whole(engine: Machine, address: int) -> bytes:
    found = _text(engine, address)
    if not found.endswith(b"\0"):
        raise _Bad(-E2BIG)
    return found


def _answers(function: Callable[..., int]) -> Callable[..., int]:
    def call(engine: Machine, *arguments: int) -> int:
        try:
            return function(engine, *arguments)
        except _Bad as bad:
            return int(bad.args[0])

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    return call


def _index(found: int) -> int:
    return found if found >= 0 else -ENOENT


@_answers
def bpf_strlen(engine: Machine, text: int, *_: int) -> int:
    """Characters in front of the NUL."""
    return len(_whole(engine, text)) - 1


@_answers
def bpf_strnlen(engine: Machine, text: int, limit: int, *_: int) -> int:
    """The same, at most `limit`."""
    found = _text(engine, text, min(limit, MAX_TEXT))
    if limit > MAX_TEXT and not found.endswith(b"\0"):
        return -E2BIG
    return len(found) - found.endswith(b"\0")


@_answers
def bpf_strcmp(engine: Machine, a: int, b: int, *_: int) -> int:
    """-1, 0 or 1."""
    left, right = _whole(engine, a), _whole(engine, b)
    return (left > right) - (left < right)


@_answers
def bpf_strcasecmp(engine: Machine, a: int, b: int, *_: int) -> int:
    """The same whatever the case (Linux 6.18)."""
    left, right = _whole(engine, a).lower(), _whole(engine, b).lower()
    return (left > right) - (left < right)


@_answers
def bpf_strchr(engine: Machine, text: int, character: int, *_: int) -> int:
    """The index of a character, -ENOENT without it; the NUL counts."""
    return _index(_whole(engine, text).find(character & 0xFF))


@_answers
def bpf_strnchr(engine: Machine, text: int, limit: int, character: int, *_: int) -> int:
    """The same within `limit` characters."""
    found = _text(engine, text, min(limit, MAX_TEXT)).find(character & 0xFF)
    return -E2BIG if found < 0 and limit > MAX_TEXT else _index(found)


@_answers
def bpf_strchrnul(engine: Machine, text: int, character: int, *_: int) -> int:
    """The index of a character, or of the NUL."""
    found = _whole(engine, text)
    at = found.find(character & 0xFF)
    return at if at >= 0 else len(found) - 1


@_answers
def bpf_strrchr(engine: Machine, text: int, character: int, *_: int) -> int:
    """The index of the last such character, -ENOENT without one."""
    return _index(_whole(engine, text).rfind(character & 0xFF))


@_answers
def bpf_strspn(engine: Machine, text: int, accept: int, *_: int) -> int:
    """How many characters at the beginning are among others."""
    found, others = _whole(engine, text)[:-1], _whole(engine, accept)[:-1]
    return len(found) - len(found.lstrip(others)) if others else 0


@_answers
def bpf_strcspn(engine: Machine, text: int, reject: int, *_: int) -> int:
    """How many characters at the beginning are not among others."""
    found, others = _whole(engine, text)[:-1], _whole(engine, reject)[:-1]
    return next((at for at, byte in enumerate(found) if byte in others), len(found))


@_answers
def bpf_strstr(engine: Machine, text: int, part: int, *_: int) -> int:
    """The index of a text in another, -ENOENT without it."""
    return _index(_whole(engine, text)[:-1].find(_whole(engine, part)[:-1]))


@_answers
def bpf_strnstr(engine: Machine, text: int, part: int, limit: int, *_: int) -> int:
    """The same within the first `limit` characters."""
    wanted = _whole(engine, part)[:-1]
    found = _text(engine, text, min(limit, MAX_TEXT)).removesuffix(b"\0")
    return _index(found.find(wanted))
