"""Reading along in somebody else's ring buffer: records are seen where they lie, and stay the consumer's."""

from __future__ import annotations

import mmap
from typing import Any, NamedTuple

from bpf2py.errors import BpfOSError
from bpf2py.maps.ringbuf import RingbufMap

__all__ = ["RingTail", "Seen"]

# include/uapi/linux/bpf.h: the header of a record is its length with two flags, and the distance of its page.
BUSY, DISCARD, HEADER = 1 << 31, 1 << 30, 8
MOST_RECORDS = 20_000  # looked at in a turn; what a faster ring has beyond is skipped, and said


class Seen(NamedTuple):
    """What came into a ring since the last look.

    Attributes:
        records: the newest of them, as bytes.
        arrived: how many there were.
        written: how many bytes were written, headers included.
        missed: bytes of it that were overwritten or skipped before they were seen.
        pending: bytes the consumer has not taken yet.
    """

    records: list[bytes]
    arrived: int
    written: int
    missed: int
    pending: int


class RingTail:
    """Follows a ring that another process consumes; a context manager.

    The kernel lets anyone who may open the map look at its data; only the consumer's position, which is never written here, says
    what may be overwritten (kernel/bpf/ringbuf.c). So nothing is taken from the consumer. Its price is that records may go
    before they were seen: those are not shown, but counted.

    Args:
        bpf_map: the ring.
        newest: records to keep of each look.

    Raises BpfOSError when the ring cannot be mapped.
    """

    def __init__(self, bpf_map: RingbufMap[Any], newest: int = 100) -> None:
        bpf_map.fileno()
        self.size = bpf_map.size
        self._newest = newest
        page = bpf_map._handle.page_size
        try:
            self._mappings = [
                bpf_map._handle.mmap(page, False),
                bpf_map._handle.mmap(page + 2 * self.size, False, page),
            ]
        except (OSError, ValueError) as error:
            raise BpfOSError(
                f"map {bpf_map.name}: mmap failed: {error}", errno=getattr(error, "errno", None), command="mmap"
            ) from None
        producer = memoryview(self._mappings[1]).cast("B")
        self._consumed = memoryview(self._mappings[0]).cast("B")[:8].cast("Q")
        self._produced = producer[:8].cast("Q")
        self._data = producer[page:]
        self._views = [self._consumed, self._produced, self._data, producer]
        # What the consumer has not taken is shown, too: its position is where a record begins.
        self._at = self._last = self._consumed[0]

    def read(self) -> Seen:
        """What is new."""
        end = self._produced[0]
        written, missed, count = end - self._last, 0, 0
        self._last = end
        records: list[bytes] = []
        while self._at < end:
            at = self._at
            if count == MOST_RECORDS or not self._intact(at):
                missed += end - at
                self._at = end
                break
            base = at % self.size
            head = int.from_bytes(self._data[base : base + 4], "little")
            length = head & ~(BUSY | DISCARD)
            stride = (length + HEADER + 7) & ~7
            if head & BUSY and self._intact(at):
                break  # it is being written
            record = bytes(self._data[base + HEADER : base + HEADER + length]) if stride <= self.size else b""
            if not self._intact(at):
                continue  # it was overwritten meanwhile
            if stride > end - at:
                missed, self._at = missed + end - at, end  # not a record: damaged
                break
            self._at = at + stride
            if not head & DISCARD:
                count += 1
                records.append(record)
                if len(records) > 2 * self._newest:
                    del records[: -self._newest]
        return Seen(records[-self._newest :], count, written, missed, end - self._consumed[0])

    def _intact(self, at: int) -> bool:
        """Whether what lies at a position is still that: the header of the next record is written before its position is."""
        return bool(self._produced[0] + HEADER <= at + self.size)

    def close(self) -> None:
        """Unmap; closing twice is harmless."""
        for view in self._views:
            view.release()
        self._views.clear()
        for mapping in self._mappings:
            if isinstance(mapping, mmap.mmap):  # the engine's memory is not a mapping of its own
                mapping.close()
        self._mappings.clear()

    def __enter__(self) -> RingTail:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
