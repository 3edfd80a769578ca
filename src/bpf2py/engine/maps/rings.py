"""Memory of ring buffers as user space maps it, and the list of rings the library finds a record's ring by."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from bpf2py.engine.maps.core import OWN
from bpf2py.engine.memory import ENGINE
from bpf2py.uapi.map_types import MapType

if TYPE_CHECKING:
    from bpf2py.engine.maps.core import MapCore
    from bpf2py.engine.memory import Memory

__all__ = ["enlist", "ring_memory"]

EPERM, EINVAL = 1, 22
PAGE = 4096
FIRST_RING = ENGINE + 32 >> 3  # struct engine: rings


def enlist(core: MapCore) -> int:
    """Put a ring at the head of the list, which it leaves when it goes; the header that follows it."""
    memory = core.engine.memory
    following = memory.u64[FIRST_RING]
    memory.u64[FIRST_RING] = core.header
    # Finalizers run newest first, so that the header still says what follows.
    weakref.finalize(core, _leave, memory, core.header).atexit = False
    return following


def _leave(memory: Memory, header: int) -> None:
    place = FIRST_RING
    while memory.u64[place] and memory.u64[place] != header:
        place = memory.u64[place] + OWN >> 3
    if memory.u64[place]:
        memory.u64[place] = memory.u64[header + OWN >> 3]


def ring_memory(core: MapCore, positions: int, size: int) -> Callable[[int, bool, int], int]:
    """Where mappings start, by the kernel's rules of who may write what."""
    programs_write = core.info.type == MapType.RINGBUF

    def place(length: int, writable: bool, offset: int) -> int:
        if writable and (offset != 0 or length != PAGE if programs_write else offset == 0):
            raise OSError(EPERM, "that part of a ring is read-only for user space")
        if offset % PAGE or offset + length > size:
            raise OSError(EINVAL, "beyond the end of the ring")
        return positions + offset

    return place
