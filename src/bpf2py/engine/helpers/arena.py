"""Kernel functions that allocate pages of an arena (Linux 6.9; kernel/bpf/arena.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.engine.maps.arena import pages_of
from bpf2py.uapi.errno import EINVAL

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine

_U32 = (1 << 32) - 1


def bpf_arena_alloc_pages(engine: Machine, header: int, pointer: int, count: int, _node: int, flags: int) -> int:
    """Pages, at an address or anywhere; null if there are too few."""
    pages = pages_of(engine.core_at(header))
    return 0 if pages is None or flags else pages.allocate(pointer, count & _U32)


def bpf_arena_free_pages(engine: Machine, header: int, pointer: int, count: int, *_: int) -> int:
    """Pages go."""
    pages = pages_of(engine.core_at(header))
    if pages is not None and pointer:
        pages.free(pointer, count & _U32)
    return 0


def bpf_arena_reserve_pages(engine: Machine, header: int, pointer: int, count: int, *_: int) -> int:
    """Pages that bpf_arena_alloc_pages() is not to give (Linux 6.17)."""
    pages = pages_of(engine.core_at(header))
    return -EINVAL if pages is None else pages.reserve(pointer, count & _U32)
