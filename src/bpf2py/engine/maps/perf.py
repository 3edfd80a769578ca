"""Perf buffers of the engine: the entries of a PERF_EVENT_ARRAY while somebody reads them.

Records are laid out as the kernel does (include/uapi/linux/perf_event.h): PERF_RECORD_SAMPLE with raw data alone, and
PERF_RECORD_LOST before the first record that finds room again.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from bpf2py.engine.memory import anonymous
from bpf2py.errors import BpfOSError
from bpf2py.owned import Owned
from bpf2py.seam.wakeup import Wakeup
from bpf2py.uapi.errno import E2BIG, ENOENT, ENOMEM, ENOSPC, EOPNOTSUPP

if TYPE_CHECKING:
    from bpf2py.engine.maps.core import MapSystem

__all__ = ["PerfBuffer"]


MOST_PAGES = 1 << 19  # an array of their addresses is at most 4 MiB (rb_alloc() in kernel/events/ring_buffer.c)
SAMPLE, LOST = 9, 2
LOST_SIZE = 24
MOST = 0xFFFF  # a record's size has 16 bits
PAGE = 4096
ENABLE, DISABLE, PAUSE_OUTPUT = 0x2400, 0x2401, 0x40042409  # PERF_EVENT_IOC_*


class Number(NamedTuple):
    """What has a number in place of a descriptor."""

    number: int


class PerfBuffer(Owned):
    """The buffer of one CPU: programs write, a reader takes; see `bpf2py.readers.perf.PerfRing`.

    Attributes:
        fd: the number it is stored in the map by.
        cpu: the CPU whose programs write to it.
    """

    __slots__ = (
        "_data", "_engine", "_event", "_head", "_lost", "_overwritable", "_pending", "_recording", "_tail", "_wakeup", "cpu",
        "fd", "size",
    )  # fmt: skip

    def __init__(self, engine: MapSystem, pages: int, cpu: int, overwritable: bool, wakeup: tuple[int, bool]) -> None:
        self._engine = engine
        self._overwritable = overwritable
        self._wakeup = wakeup  # (number, whether of bytes rather than records)
        self.cpu = cpu
        self.size = pages * PAGE
        if pages >= MOST_PAGES:
            raise BpfOSError(
                f"a perf buffer of {pages} pages is more than the kernel allows", errno=ENOMEM, command="mmap"
            )
        try:
            self._data = anonymous(self.size)  # takes memory as it is written
        except (OSError, ValueError):
            raise BpfOSError(
                f"no address space for a perf buffer of {pages} pages", errno=ENOMEM, command="mmap"
            ) from None
        self._head = self._tail = self._lost = self._pending = 0
        self._recording = False
        self._event = Wakeup()
        self.fd = Number(engine.next_fd())
        engine.events[self.fd.number] = self

    def output(self, data: bytes) -> int:
        """What bpf_perf_event_output() does: 0, -ENOSPC when there is no room, -EOPNOTSUPP on another CPU."""
        if self._event.fileno() < 0:
            return -ENOENT
        if self._engine.current_cpu != self.cpu:
            return -EOPNOTSUPP
        length = (len(data) + 4 + 7) // 8 * 8 - 4
        total = 8 + 4 + length
        if total > MOST:
            return -E2BIG
        record = struct.pack("<IHHI", SAMPLE, 0, total, length) + data.ljust(length, b"\0")
        if not self._recording:
            self._lost += 1
            return -ENOSPC
        if self._overwritable:
            self._head -= total
            self._store(self._head, record)
            return 0
        if self._lost:
            record = struct.pack("<IHHQQ", LOST, 0, LOST_SIZE, self.fd.number, self._lost) + record
        if len(record) > self.size - 1 - (self._head - self._tail):
            self._lost += 1
            return -ENOSPC
        self._lost = 0
        self._store(self._head, record)
        self._head += len(record)
        number, of_bytes = self._wakeup
        self._pending += len(record) if of_bytes else 1
        if self._pending >= max(number, 1):
            self._pending = 0
            self._event.set()
        return 0

    def _store(self, position: int, record: bytes) -> None:
        start = position % self.size
        first = min(len(record), self.size - start)
        self._data[start : start + first] = record[:first]
        self._data[: len(record) - first] = record[first:]

    def take(self) -> bytes:
        """Everything written since the last time, in order; the space is free again."""
        start, length = self._tail % self.size, self._head - self._tail
        self._tail = self._head
        return self._data[start : start + length] + self._data[: max(0, start + length - self.size)]

    def snapshot(self) -> bytes:
        """The newest records of an overwritable buffer, newest first."""
        start, length = self._head % self.size, min(-self._head, self.size)
        end = bytes(min(8, self.size - length))  # what was never written
        return self._data[start : start + length] + self._data[: max(0, start + length - self.size)] + end

    def control(self, request: int, argument: int) -> None:
        """The ioctls readers use."""
        if request == PAUSE_OUTPUT:
            self._recording = not argument
        elif request in (ENABLE, DISABLE):
            self._recording = request == ENABLE

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
            self._event.close()
