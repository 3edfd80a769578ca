"""What is recorded: events of a ring or perf buffer as they come, or all elements of a map every so often."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bpf2py.btf.codec import BytesCodec, Codec
from bpf2py.btf.values import StructCodec
from bpf2py.errors import BpfError, EncodeError, NotSupported
from bpf2py.export.arrow import column, import_pyarrow
from bpf2py.export.recording import Recording
from bpf2py.maps.array import ArrayMap
from bpf2py.maps.base import AnyMap
from bpf2py.maps.mapping import MappingMap
from bpf2py.readers import PerfReader, RingReader
from bpf2py.readers.batch import Batch
from bpf2py.uapi.map_types import MapType, type_name

__all__ = ["EventRecorder", "SnapshotRecorder", "recorder"]

STRETCH = 0.2  # seconds of events in a batch of the file, where they are few


class EventRecorder:
    """Records of a ring or perf buffer: a row each, with the time it was taken, or that a member of it says.

    Attributes:
        lost: records of a perf buffer that found no room; ring buffers do not count them.
    """

    def __init__(
        self, bpf_map: AnyMap, codec: Codec[Any] | None, recording: Recording, time_of: str | None = None
    ) -> None:
        known = codec is not None and not isinstance(codec, BytesCodec)
        if time_of is not None and (not isinstance(codec, StructCodec) or time_of not in codec.cls._fields):
            raise EncodeError(f"map {bpf_map.name}: its records have no member {time_of!r} that could be their time")
        self._codec = codec if known else None
        self._time_of = time_of
        self._recording = recording
        self._perf = bpf_map.type == MapType.PERF_EVENT_ARRAY
        options: Any = {"type": codec} if known else {}
        self._reader: Any = PerfReader(bpf_map, **options) if self._perf else RingReader(bpf_map, **options)
        # What bpf_ktime_get_ns() says is since the machine started.
        self._since = time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    @property
    def lost(self) -> int:
        """Records that found no room."""
        return int(getattr(self._reader, "lost", 0))

    def step(self, seconds: float) -> None:
        """Wait for records at most so long, and write those that are there."""
        until = time.monotonic() + seconds
        for batch in self._reader.poll(min(seconds, STRETCH)):
            self._write(batch)
        while (left := until - time.monotonic()) > 0:
            for batch in self._reader.poll(min(left, STRETCH)):
                self._write(batch)
        self._recording.say(lost=self.lost)
        self._recording.rotate()

    def _write(self, batch: Batch[Any]) -> None:
        pa = import_pyarrow()
        now = time.time_ns()
        if self._codec is not None:
            array = batch.to_numpy()
            events = column(self._codec, array)
        else:
            array = np.empty(0)
            events = pa.array([bytes(record) for record in batch.records()], pa.binary())
        times = np.full(len(events), now, np.int64)
        if self._time_of is not None:
            times = array[self._time_of].astype(np.int64) + self._since
        columns = {"time": pa.array(times).cast(pa.timestamp("ns", "UTC"))}
        if self._perf:
            columns["cpu"] = pa.array(np.full(len(events), batch.cpu or 0, np.int32))
        self._recording.add(columns | {"event": events})

    def close(self) -> None:
        """Take what is there, and end."""
        for batch in self._reader.flush():
            self._write(batch)
        self._recording.say(lost=self.lost)
        self._reader.close()


class SnapshotRecorder:
    """All elements of a map, a row each, every so many seconds."""

    lost = 0

    def __init__(
        self, bpf_map: AnyMap, recording: Recording, every: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not isinstance(bpf_map, MappingMap | ArrayMap):
            raise NotSupported(
                f"map {bpf_map.name}: a {type_name(bpf_map.info.type)} has no elements to record", feature="record"
            )
        self._map: Any = bpf_map
        self._recording = recording
        self._every = every
        self._clock = clock
        self._next = clock()
        self._taken: float | None = None

    def step(self, seconds: float) -> None:
        """Wait at most so long, and take a snapshot if it is time."""
        wait = min(seconds, max(0.0, self._next - self._clock()))
        if wait:
            time.sleep(wait)
        if self._clock() >= self._next:
            self._next += self._every
            self.take()
        self._recording.rotate()

    def take(self) -> None:
        """Write the elements as they are now."""
        pa = import_pyarrow()
        self._taken = self._clock()
        now, array = time.time_ns(), self._map.to_numpy()
        if isinstance(self._map, ArrayMap):
            keys, values = pa.array(np.arange(len(array), dtype=np.uint32)), array
        else:
            keys, values = column(self._map.key_codec, array["key"]), array["value"]
        times = pa.array(np.full(len(array), now, np.int64)).cast(pa.timestamp("ns", "UTC"))
        self._recording.add({"time": times, "key": keys, "value": column(self._map.value_codec, values)})

    def close(self) -> None:
        """Take a last snapshot, if the last one is not of just now."""
        if self._taken is None or self._clock() - self._taken > self._every / 10:
            self.take()


def recorder(
    bpf_map: AnyMap, codec: Codec[Any] | None, recording: Recording, every: float | None, time_of: str | None
) -> EventRecorder | SnapshotRecorder:
    """What records a map of this type. Raises BpfError for options that are not for it."""
    if bpf_map.type in (MapType.RINGBUF, MapType.PERF_EVENT_ARRAY):
        if every is not None:
            raise BpfError(f"map {bpf_map.name}: --every is for maps with elements; events are recorded as they come")
        return EventRecorder(bpf_map, codec, recording, time_of)
    if time_of is not None:
        raise BpfError(f"map {bpf_map.name}: --time is for events; a snapshot has the time it was taken")
    return SnapshotRecorder(bpf_map, recording, every if every is not None else 1.0)
