"""Memory of ring buffers as user space maps it, and the list of rings the library finds a record's ring by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from bpf2py.engine.maps.core import OWN
from bpf2py.engine.memory import ENGINE
from bpf2py.owned import Owned
from bpf2py.seam.wakeup import Wakeup
from bpf2py.uapi.errno import EINVAL, EPERM
from bpf2py.uapi.map_types import MapType

if TYPE_CHECKING:
    from bpf2py.engine.maps.core import MapCore, Waiting
    from bpf2py.engine.memory import Memory

__all__ = ["RingEvents", "enlist", "notify", "ring_memory"]


PAGE = 4096
FIRST_RING = ENGINE + 32 >> 3  # struct engine: rings
WAKEUPS = OWN + 40  # struct ring: wakeups


def enlist(core: MapCore) -> int:
    """Put a ring at the head of the list, which it leaves when it goes; the header that follows it."""
    memory = core.engine.memory
    following = memory.u64[FIRST_RING]
    memory.u64[FIRST_RING] = core.header
    core.at_free.append(partial(_leave, memory, core.header))
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


class RingEvents(Owned):
    """What a reader of a ring waits for: a descriptor that is readable once the ring woke its readers."""

    __slots__ = ("_core", "_event", "_seen")

    def __init__(self, core: MapCore) -> None:
        self._core: MapCore | None = core
        self._event = Wakeup()
        self._seen = _wakeups(core)
        core.engine.ring_events.append(self)

    def fileno(self) -> int:
        """The descriptor."""
        return self._event.fileno()

    def signal(self) -> None:
        """Make it readable if programs woke readers since the last time."""
        core = self._core
        if core is not None and self._seen != _wakeups(core):
            self._seen = _wakeups(core)
            self._event.set()

    def acknowledge(self) -> None:
        """Make it unreadable, before the ring is looked at again."""
        self._event.clear()

    def close(self) -> None:
        """Close the descriptor; closing twice is harmless."""
        core, self._core = self._core, None
        if core is not None:
            core.engine.ring_events.remove(self)
            self._event.close()


def _wakeups(core: MapCore) -> int:
    return core.engine.memory.u64[core.header + WAKEUPS >> 3]


def notify(ring_events: Sequence[Waiting]) -> None:
    """Wake the readers of the rings that programs wrote to: called after each run."""
    for events in list(ring_events):
        events.signal()
