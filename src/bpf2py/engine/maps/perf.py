"""Perf buffers of the engine: the entries of a PERF_EVENT_ARRAY while somebody reads them; see sources/perf.h."""

from __future__ import annotations

import mmap
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from bpf2py.engine.memory import anonymous
from bpf2py.errors import BpfOSError
from bpf2py.owned import Owned
from bpf2py.seam.wakeup import Wakeup
from bpf2py.uapi.errno import ENOENT, ENOMEM

if TYPE_CHECKING:
    from bpf2py.engine.maps.core import MapSystem
    from bpf2py.engine.memory import Memory

__all__ = ["PerfBuffer"]


MOST_PAGES = 1 << 19  # an array of their addresses is at most 4 MiB (rb_alloc() in kernel/events/ring_buffer.c)
PAGE = 4096
ENABLE, DISABLE, PAUSE_OUTPUT = 0x2400, 0x2401, 0x40042409  # PERF_EVENT_IOC_*


class Number(NamedTuple):
    """What has a number in place of a descriptor."""

    number: int


# struct perf of sources/perf.h: indexes of its 64-bit numbers, and of the 32-bit ones after them
_DATA, _SIZE, _ROOM, _HEAD, _TAIL, _LOST, _NUMBER, _PENDING, _WAKEUP, _WAKEUPS = range(10)
_CPU, _OPEN, _RECORDING, _OVERWRITABLE, _OF_BYTES = range(20, 25)
_STRUCT = 104
_INSIDE = (
    1 << 26
)  # bytes; larger buffers are memory of their own, of which the library knows a part that holds any record
_PART = 1 << 17


class PerfBuffer(Owned):
    """The buffer of one CPU: programs write, a reader takes; see `bpf2py.readers.perf.PerfRing`.

    Attributes:
        fd: the number it is stored in the map by.
        cpu: the CPU whose programs write to it.
        address: of its struct perf.
    """

    __slots__ = (
        "__weakref__",
        "_data",
        "_engine",
        "_event",
        "_memory",
        "_outside",
        "_room",
        "_seen",
        "address",
        "cpu",
        "fd",
        "size",
    )

    def __init__(self, engine: MapSystem, pages: int, cpu: int, overwritable: bool, wakeup: tuple[int, bool]) -> None:
        self._engine = engine
        self._memory = memory = engine.memory
        self.cpu = cpu
        self.size = pages * PAGE
        if pages >= MOST_PAGES:
            raise BpfOSError(
                f"a perf buffer of {pages} pages is more than the kernel allows", errno=ENOMEM, command="mmap"
            )
        self._outside: Any = None
        self._room = self.size
        try:
            if self.size > _INSIDE:
                self._outside, self._room = anonymous(self.size), _PART
            self._data = memory.allocate(self._room, private=True)  # either takes memory as it is written
        except (BpfOSError, OSError, ValueError):
            raise BpfOSError(
                f"no address space for a perf buffer of {pages} pages", errno=ENOMEM, command="mmap"
            ) from None
        self.address = memory.allocate(_STRUCT, private=True)
        self._seen = 0
        self._event = Wakeup()
        self.fd = Number(engine.next_fd())
        for index, value in (
            (_DATA, self._data),
            (_SIZE, self.size),
            (_ROOM, self._room),
            (_NUMBER, self.fd.number),
            (_WAKEUP, max(wakeup[0], 1)),
        ):
            memory.u64[(self.address >> 3) + index] = value
        for index, value in ((_CPU, cpu), (_OPEN, 1), (_OVERWRITABLE, overwritable), (_OF_BYTES, wakeup[1])):
            memory.u32[(self.address >> 2) + index] = value
        engine.events[self.fd.number] = self
        engine.ring_events.append(self)
        # Maps may hold it longer than its reader.
        weakref.finalize(self, _free, memory, self.address, self._data).atexit = False

    def _number(self, index: int) -> int:
        return self._memory.u64[(self.address >> 3) + index]

    def output(self, data: bytes) -> int:
        """What bpf_perf_event_output() does: 0, -ENOSPC when there is no room, -EOPNOTSUPP on another CPU."""
        if self._event.fileno() < 0:
            return -ENOENT
        block = self._memory.allocate(len(data))
        try:
            self._memory.write(block, data)
            before = self._number(_HEAD)
            result = self._engine.function("perf_output")(self.address, block, len(data))
            if self._outside is not None and not result:
                self._take_over(before, self._number(_HEAD))
        finally:
            self._memory.free(block)
        self.signal()
        return result

    def signal(self) -> None:
        """Make its descriptor readable if programs woke readers since the last time."""
        wakeups = self._number(_WAKEUPS)
        if self._seen != wakeups and self._event.fileno() >= 0:
            self._seen = wakeups
            self._event.set()

    def _take_over(self, before: int, after: int) -> None:
        """Copy what the library wrote into its part of a larger buffer."""
        length = (after - before + (1 << 63)) % (1 << 64) - (1 << 63)
        start = before if length > 0 else after
        record = _between(self._inside, start, abs(length), self._room)
        start %= self.size
        first = min(len(record), self.size - start)
        self._outside[start : start + first] = record[:first]
        self._outside[: len(record) - first] = record[first:]

    @property
    def _inside(self) -> memoryview:
        return self._memory.view[self._data : self._data + self._room]

    def _read(self, position: int, length: int) -> bytes:
        return _between(self._inside if self._outside is None else self._outside, position, length, self.size)

    def take(self) -> bytes:
        """Everything written since the last time, in order; the space is free again."""
        tail, head = self._number(_TAIL), self._number(_HEAD)
        self._memory.u64[(self.address >> 3) + _TAIL] = head
        return self._read(tail, head - tail)

    def snapshot(self) -> bytes:
        """The newest records of an overwritable buffer, newest first."""
        head = self._number(_HEAD)
        length = min(-head % (1 << 64), self.size)
        return self._read(head, length) + bytes(min(8, self.size - length))  # what was never written

    def control(self, request: int, argument: int) -> None:
        """The ioctls readers use."""
        if request in (PAUSE_OUTPUT, ENABLE, DISABLE):
            recording = not argument if request == PAUSE_OUTPUT else request == ENABLE
            self._memory.u32[(self.address >> 2) + _RECORDING] = recording

    def fileno(self) -> int:
        """A descriptor that is readable once there is enough to read."""
        return self._event.fileno()

    def acknowledge(self) -> None:
        """Make it unreadable, before the buffer is looked at again."""
        self._event.clear()

    def close(self) -> None:
        """Give it up; closing twice is harmless."""
        if self._event.fileno() >= 0:
            self._engine.events.pop(self.fd.number, None)
            self._engine.ring_events.remove(self)
            self._memory.u32[(self.address >> 2) + _OPEN] = 0
            self._event.close()


def _between(data: memoryview | mmap.mmap, position: int, length: int, size: int) -> bytes:
    """Bytes of a buffer that goes round."""
    start = position % size
    return bytes(data[start : start + length]) + bytes(data[: max(0, start + length - size)])


def _free(memory: Memory, *blocks: int) -> None:
    for block in blocks:
        memory.free(block)
