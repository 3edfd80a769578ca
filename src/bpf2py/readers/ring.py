"""`RingReader`: records of ring buffers (BPF_MAP_TYPE_RINGBUF, Linux 5.8)."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager

from bpf2py._typing import TYPE_CHECKING, Any, Generic, overload
from bpf2py.btf.codec import Codec
from bpf2py.errors import BpfOSError, NotSupported
from bpf2py.maps.base import Map
from bpf2py.maps.ringbuf import BUSY, DISCARD, HEADER, RingbufMap
from bpf2py.readers.batch import MIN_RUN, Batch, E, Run, same_words
from bpf2py.readers.waiter import Deadline, EventReader
from bpf2py.shared_memory import Copies, new_fence

if TYPE_CHECKING:
    from bpf2py.btf.declare import Typed, TypeName

MOST = 1 << 22  # bytes of a batch: the memory two of them are copied to in turns stays in the CPU's cache


class Ring(Generic[E]):
    """One mapped ring buffer: the consumer's page, the producer's page and the data twice in a row."""

    def __init__(self, bpf_map: RingbufMap[Any], codec: Codec[E], most: int = MOST) -> None:
        self.name = bpf_map.name
        self.codec = codec
        bpf_map.fileno()
        self.size = bpf_map.size
        page = bpf_map._handle.page_size
        try:
            self._consumer = bpf_map._handle.mmap(page, True)
            self._producer = bpf_map._handle.mmap(page + 2 * self.size, False, page)
        except (OSError, ValueError) as error:
            raise BpfOSError(
                f"map {self.name}: mmap failed: {error}", errno=getattr(error, "errno", None), command="mmap"
            ) from None
        self.position = memoryview(self._consumer).cast("B")[:8].cast("Q")
        producer = memoryview(self._producer).cast("B")
        self.produced = producer[:8].cast("Q")
        self.data = producer[page:]
        self.heads = self.data.cast("I")
        self._fence = new_fence()
        self.leased = False
        self._copies = Copies(min(self.size, most))
        # What gives bytes for a slice with steps, and where its data begins.
        self._strided: tuple[mmap.mmap | memoryview, int]
        self._strided = (self._producer, page) if isinstance(self._producer, mmap.mmap) else (self.data, 0)

    def committed(self, most: int) -> tuple[int, int, list[Run]]:
        """(consumer position, bytes that may be consumed, runs of records among them), at most about `most` bytes."""
        start = self.position[0]
        end = min(self.produced[0], start + most)
        self._fence()  # what the producer wrote before its position is read after it
        if start == end:
            return start, 0, []
        base = start % self.size
        available = end - start
        heads, at = self.heads, 0
        strided, begin = self._strided
        runs: list[Run] = []
        while at < available:
            head = heads[(base + at) >> 2]
            if head & BUSY:
                break
            length = head & ~DISCARD
            stride = (length + HEADER + 7) & ~7
            if head & DISCARD:
                at += stride
                continue
            count = (available - at) // stride or 1
            count = same_words(strided, begin + base + at, count, stride, head) if count >= MIN_RUN else 1
            if runs and runs[-1].stride == stride and runs[-1].length == length:
                last = runs[-1]
                if last.start + last.count * stride == base + at + HEADER:
                    runs[-1] = last._replace(count=last.count + count)
                    at += count * stride
                    continue
            runs.append(Run(base + at + HEADER, count, stride, length))
            at += count * stride
        self._fence()  # what was written before a header said that it was, is read after it
        return start, at, runs

    def take(self, most: int) -> Batch[E] | None:
        """What is there now, copied out of the ring, whose space is free again at once."""
        if self.leased:
            return None  # what is there belongs to the lease; committing it would take the position back
        start, length, runs = self.committed(most)
        if not length:
            return None
        base = start % self.size
        data = self._copies.copy(self.data[base : base + length])
        self._fence()  # the space is free only after it was read
        self.position[0] = start + length
        if not runs:
            return None
        return Batch(self.name, data, [run._replace(start=run.start - base) for run in runs], self.codec)

    def has_until(self, end: int) -> bool:
        """Whether a record can be taken that was reserved before the producer was there."""
        return not self.leased and self.position[0] < end and not self.heads[self.position[0] % self.size >> 2] & BUSY

    def lease(self, most: int) -> Batch[E] | None:
        """What is there now, in place; its space is the producer's again after `Batch.commit()`."""
        if self.leased:
            return None
        start, length, runs = self.committed(most)
        if not length:
            return None

        def commit() -> None:
            self._fence()
            self.position[0] = start + length
            self.leased = False

        if not runs:
            commit()
            return None
        self.leased = True
        return Batch(self.name, self.data, runs, self.codec, commit=commit)

    def close(self) -> None:
        """Unmap; memory views a lease handed out keep their mapping alive."""
        for view in (self.position, self.produced, self.heads, self.data):
            view.release()
        for mapping in (self._consumer, self._producer):
            if isinstance(mapping, mmap.mmap):  # the engine's memory is not a mapping of its own
                try:
                    mapping.close()
                except BufferError:
                    pass  # somebody still looks at a leased record
        self._consumer = self._producer = None
        self._strided = (memoryview(b""), 0)


class RingReader(EventReader[E]):
    """Reads one or several ring buffers, batch first.

    Losses: a program that finds the ring full gets NULL or -EAGAIN and has to count that itself; nothing that was
    reserved and submitted is ever lost. Records come in the order of reservation within a ring; a record still being
    written holds back those behind it.

    Args:
        maps: RINGBUF maps.
        type: the records' type, by its name (``"event"``, ``"u64"``), a codec, or a generated class; None for the map's BTF value
            type (``__type(value, struct event)``); bytes without either.
        most: bytes of a batch, about: a larger ring is emptied in several.

    Example:
        >>> with bpf2py.RingReader(obj.maps["events"]) as reader:       # doctest: +SKIP
        ...     for batch in reader.batches(timeout=10):
        ...         print(batch.to_numpy()["bytes"].sum())
    """

    @overload
    def __init__(self, *maps: Map[Any, E], type: None = None, most: int = ...) -> None: ...
    @overload
    def __init__(self, *maps: Map[Any, Any], type: Typed[E], most: int = ...) -> None: ...
    @overload
    def __init__(self: RingReader[Any], *maps: Map[Any, Any], type: str | int, most: int = ...) -> None: ...
    def __init__(self, *maps: Map[Any, Any], type: TypeName | None = None, most: int = MOST) -> None:
        if not maps:
            raise NotSupported("RingReader: no map given", feature="RingReader")
        rings = []
        for bpf_map in maps:
            if not isinstance(bpf_map, RingbufMap):
                raise NotSupported(
                    f"map {bpf_map.name}: RingReader reads RINGBUF maps, this is {bpf_map!r}", feature="RingReader"
                )
            rings.append(bpf_map)
        self._rings: list[Ring[E]] = []
        self._most = most
        claims = [bpf_map._handle.identity for bpf_map in maps]
        if len(set(claims)) < len(claims):
            raise NotSupported("RingReader: a map is given twice", feature="RingReader")
        super().__init__(" and ".join(f"map {bpf_map.name}" for bpf_map in maps), claims)
        try:
            for bpf_map in rings:
                ring = Ring(bpf_map, bpf_map.codec_named(type) if type is not None else bpf_map.value_codec, most)
                self._resources.callback(ring.close)
                self._rings.append(ring)
                # The map may be closed while it is read: the mapping and a descriptor of our own stay.
                self._wait_for(bpf_map._handle.event_source())
        except BaseException:
            self.close()
            raise

    def _take(self) -> Iterator[Batch[E]]:
        for ring in self._rings:
            batch = ring.take(self._most)
            if batch is not None:
                yield batch

    def _ends(self) -> list[int]:
        return [ring.produced[0] for ring in self._rings]

    def _reached(self, ends: list[int]) -> bool:
        return not any(ring.has_until(end) for ring, end in zip(self._rings, ends, strict=True))

    def _blocked(self) -> bool:
        return any(ring.leased for ring in self._rings)

    @contextmanager
    def lease(self, timeout: float | None = None) -> Iterator[Batch[E] | None]:
        """Records in place, without a copy; their space is free again at the end of the block (or after `Batch.commit()`).

        Gives None when nothing came within `timeout` seconds or the reader was closed. Memory views of the records must
        not be kept. What earlier calls took and did not hand out comes first, as a batch of its own. While records are on lease
        other threads read other rings only.
        """
        deadline = Deadline(timeout)
        with self._in_use():
            batch = self._lease_one()
            while batch is None and not deadline.passed() and not self._closing:
                self._wait(deadline.left())
                batch = self._lease_one()
            try:
                yield batch
            finally:
                if batch is not None:
                    batch.commit()

    def _lease_one(self) -> Batch[E] | None:
        with self._taking:
            left = self._next_batch()
            if left is not None:
                return left
            return next((b for b in (ring.lease(self._most) for ring in self._rings) if b is not None), None)
