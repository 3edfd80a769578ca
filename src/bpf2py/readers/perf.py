"""`PerfReader`: records of perf buffers (BPF_MAP_TYPE_PERF_EVENT_ARRAY, bpf_perf_event_output(), Linux 4.3)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

from bpf2py._typing import TYPE_CHECKING, Any, TypedDict, overload
from bpf2py.btf.codec import Codec
from bpf2py.errors import BpfError, BpfOSError, EncodeError, IndexOutOfRange, NotSupported, ObjectError
from bpf2py.maps.base import Map
from bpf2py.maps.fd_values import PerfEventArrayMap, event_codec_of
from bpf2py.readers.batch import MIN_RUN, Batch, E, Run, same_words
from bpf2py.readers.waiter import Claim, EventReader

if TYPE_CHECKING:
    from typing import Unpack

    from bpf2py.btf.declare import Typed, TypeName
    from bpf2py.maps.base import AnyMap
    from bpf2py.seam.protocol import PerfBuffer

PERF_RECORD_LOST, PERF_RECORD_SAMPLE = 2, 9  # include/uapi/linux/perf_event.h
PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_PAUSE_OUTPUT = 0x2400, 0x40042409
_SAMPLE_HEADER = 12  # struct perf_event_header and the u32 size of the raw data


class PerfOptions(TypedDict, total=False):
    """Options of `PerfReader` besides the type; see there."""

    pages: int
    wakeup_events: int
    watermark: int | None
    overwritable: bool
    cpus: list[int] | None


def parse(data: bytes | memoryview) -> tuple[list[Run], int, int | None]:
    """(runs of samples, records lost, offset of what is not a record) of a stretch of perf records."""
    runs: list[Run] = []
    lost = at = 0
    end = len(data)
    strided = data.obj if isinstance(data, memoryview) and isinstance(data.obj, bytes | ctypes.Array) else data
    while at + 8 <= end:
        kind, _misc, size = struct.unpack_from("<IHH", data, at)
        if size < 8 or at + size > end or (kind == PERF_RECORD_LOST and size < 24):
            return runs, lost, at
        if kind == PERF_RECORD_SAMPLE and size >= _SAMPLE_HEADER:
            (length,) = struct.unpack_from("<I", data, at + 8)
            length = min(length, size - _SAMPLE_HEADER)
            count = 1
            possible = (end - at) // size
            if possible >= MIN_RUN:
                # type and size both must agree; misc is part of the word with size
                (word,) = struct.unpack_from("<I", data, at + 4)
                count = same_words(strided, at, possible, size, kind)
                count = same_words(strided, at + 4, count, size, word)
                count = same_words(strided, at + 8, count, size, struct.unpack_from("<I", data, at + 8)[0])
            runs.append(Run(at + _SAMPLE_HEADER, count, size, length))
            at += count * size
            continue
        if kind == PERF_RECORD_LOST:
            lost += struct.unpack_from("<Q", data, at + 16)[0]
        elif kind == 0:
            return runs, lost, at
        at += size
    return runs, lost, None


class PerfReader(EventReader[E]):
    """Reads the perf buffers behind a PERF_EVENT_ARRAY: one for each online CPU, opened and put into the map here.

    Records are in order for each CPU only. What the kernel had no room for is counted: `lost` in all, `Batch.lost` by batch. The
    kernel pads records to 8 bytes (less 4): untyped records may have up to 7 bytes more than the program wrote.

    Args:
        map: the PERF_EVENT_ARRAY.
        pages: memory of each CPU's buffer; a power of two pages.
        type: the records' type, by its name (``"event"``, ``"u64"``), a codec, or a generated class; None for the map's BTF value
            type; bytes without either.
        wakeup_events: wake the reader only every so many records.
        watermark: wake the reader only when so many bytes are there (instead of `wakeup_events`).
        overwritable: keep the newest records instead of dropping new ones; they are read with `snapshot()`.
        cpus: CPUs to read, or None for all online ones.

    Example:
        >>> with bpf2py.PerfReader(obj.maps["events"]) as reader:        # doctest: +SKIP
        ...     for event in reader:
        ...         print(event.pid, reader.lost)
    """

    @overload
    def __init__(self: PerfReader[Any], map: AnyMap, *, type: None = None, **options: Unpack[PerfOptions]) -> None: ...
    @overload
    def __init__(self, map: PerfEventArrayMap[E], *, type: None = None, **options: Unpack[PerfOptions]) -> None: ...
    @overload
    def __init__(self, map: Map[Any, Any], *, type: Typed[E], **options: Unpack[PerfOptions]) -> None: ...
    @overload
    def __init__(
        self: PerfReader[Any], map: Map[Any, Any], *, type: str | int, **options: Unpack[PerfOptions]
    ) -> None: ...
    def __init__(
        self,
        map: Map[Any, Any],
        *,
        pages: int = 64,
        type: TypeName | None = None,
        wakeup_events: int = 1,
        watermark: int | None = None,
        overwritable: bool = False,
        cpus: list[int] | None = None,
    ) -> None:
        if not isinstance(map, PerfEventArrayMap):
            raise NotSupported(
                f"map {map.name}: PerfReader reads PERF_EVENT_ARRAY maps, this is {map!r}", feature="PerfReader"
            )
        if pages < 1 or pages & (pages - 1):
            raise BpfOSError(f"map {map.name}: PerfReader: pages must be a power of two, is {pages}")
        map.fileno()
        handle = map._handle
        cpus = [cpu for cpu in handle.online_cpus if cpu < map.max_entries] if cpus is None else list(cpus)
        for cpu in cpus:
            if not 0 <= cpu < map.max_entries:
                raise IndexOutOfRange(
                    f"map {map.name}: PerfReader: CPU {cpu} has no entry: max_entries is {map.max_entries}"
                )
        wakeup = (watermark, True) if watermark is not None else (wakeup_events, False)
        if not 0 <= wakeup[0] < 1 << 32:
            raise EncodeError(f"map {map.name}: PerfReader: wakeup_events and watermark are unsigned 32-bit numbers")
        codec: Codec[E] = map.codec_named(type) if type is not None else event_codec_of(map.spec)
        # From here on the buffers are this reader's: what is wrong must have been found before.
        super().__init__(f"map {map.name}", [(handle.identity, cpu) for cpu in cpus])
        self.name = map.name
        self.lost = 0
        self.overwritable = overwritable
        self._codec = codec
        self._rings: list[PerfBuffer] = []
        try:
            for cpu in cpus:
                ring = handle.open_perf_buffer(pages, cpu, overwritable, wakeup)
                self._wait_for(ring)
                map[cpu] = ring.fd.number
                self._resources.callback(_take_out, map, cpu, self._claimed)
                self._rings.append(ring)
                ring.control(PERF_EVENT_IOC_ENABLE, 0)
        except BaseException:
            self.close()
            raise

    def _take(self) -> Iterator[Batch[E]]:
        if self.overwritable:
            raise NotSupported("PerfReader: an overwritable buffer is read with snapshot()", feature="PerfReader.flush")
        for ring in self._rings:
            data = ring.take()
            if not data:
                continue
            runs, lost, damage = parse(data)
            self.lost += lost
            if runs or lost:
                yield Batch(self.name, data, runs, self._codec, ring.cpu, lost)
            if damage is not None:
                raise ObjectError("a perf buffer holds a damaged record", offset=damage)

    def snapshot(self) -> list[Batch[E]]:
        """The newest records of an overwritable reader, newest first, one batch for each CPU; output pauses meanwhile."""
        with self._in_use(), self._taking:
            if not self.overwritable:
                raise NotSupported("PerfReader: snapshot() needs overwritable=True", feature="PerfReader.snapshot")
            self._control(PERF_EVENT_IOC_PAUSE_OUTPUT, 1)
            try:
                found = []
                for ring in self._rings:
                    data = ring.snapshot()
                    runs, _, _ = parse(data)
                    if runs:
                        found.append(Batch(self.name, data, runs, self._codec, ring.cpu))
                return found
            finally:
                self._control(PERF_EVENT_IOC_PAUSE_OUTPUT, 0)

    def pause(self) -> None:
        """Stop recording (Linux 4.7): programs' bpf_perf_event_output() fails meanwhile."""
        with self._in_use():
            self._control(PERF_EVENT_IOC_PAUSE_OUTPUT, 1)

    def resume(self) -> None:
        """Record again."""
        with self._in_use():
            self._control(PERF_EVENT_IOC_PAUSE_OUTPUT, 0)

    def _control(self, request: int, argument: int) -> None:
        for ring in self._rings:
            ring.control(request, argument)


def _take_out(bpf_map: Map[int, Any], cpu: int, claim: Claim) -> None:
    """Take a buffer out of the map: else programs go on writing into one that nobody reads."""
    if claim.process != os.getpid() or not claim.holds((bpf_map._handle.identity, cpu)):
        return  # a forked child, whose parent goes on reading; or another reader's buffer is there by now
    try:
        bpf_map._delete(cpu)
    except BpfError:
        pass  # the map is closed
