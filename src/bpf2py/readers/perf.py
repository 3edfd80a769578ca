"""`PerfReader`: records of perf buffers (BPF_MAP_TYPE_PERF_EVENT_ARRAY, bpf_perf_event_output(), Linux 4.3)."""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import Any

from bpf2py.btf.codec import BytesCodec, Codec
from bpf2py.errors import BpfError, BpfOSError, IndexOutOfRange, NotSupported, ObjectError
from bpf2py.kernel.link import PERF_EVENT_IOC_DISABLE, PERF_EVENT_IOC_ENABLE
from bpf2py.kernel.perf_event import PERF_TYPE_SOFTWARE, open_event
from bpf2py.kernel.syscall import Fd, libc
from bpf2py.maps.base import Map
from bpf2py.maps.fd_values import PerfEventArrayMap
from bpf2py.readers.batch import MIN_RUN, Batch, Run, owned_copy, same_words
from bpf2py.readers.waiter import EventReader
from bpf2py.uapi.cpus import online_cpus

PERF_COUNT_SW_BPF_OUTPUT = 10
PERF_RECORD_LOST, PERF_RECORD_SAMPLE = 2, 9
PERF_EVENT_IOC_PAUSE_OUTPUT = 0x40042409
WATERMARK_BIT, WRITE_BACKWARD_BIT = 1 << 14, 1 << 27
# struct perf_event_mmap_page (include/uapi/linux/perf_event.h).
_HEAD, _TAIL = 1024, 1032
_SAMPLE_HEADER = 12  # struct perf_event_header and the u32 size of the raw data


class PerfRing:
    """The mapped buffer of one CPU."""

    def __init__(self, fd: Fd, pages: int, cpu: int, overwritable: bool) -> None:
        self.fd = fd
        self.cpu = cpu
        self.size = pages * mmap.PAGESIZE
        protection = mmap.PROT_READ if overwritable else mmap.PROT_READ | mmap.PROT_WRITE
        self._memory = mmap.mmap(fd.number, self.size + mmap.PAGESIZE, mmap.MAP_SHARED, protection)
        view = memoryview(self._memory)
        self._head = view[_HEAD : _HEAD + 8].cast("Q")
        self._tail = view[_TAIL : _TAIL + 8].cast("Q")
        self._data = view[mmap.PAGESIZE :]

    def take(self) -> bytes | memoryview:
        """Everything written since the last time, in order; the space is free again."""
        head, tail = self._head[0], self._tail[0]
        if head == tail:
            return b""
        data = self._linear(tail, head)
        self._tail[0] = head
        return data

    def snapshot(self) -> bytes:
        """The newest records of an overwritable buffer, newest first, while output is paused."""
        head = self._head[0]
        start = head % self.size
        # Records grow downwards: the newest one starts at head.
        return bytes(self._data[start:]) + bytes(self._data[:start])

    def _linear(self, start: int, end: int) -> memoryview:
        first, last = start % self.size, end % self.size
        if first < last:
            return owned_copy(self._data[first:last])
        return owned_copy(self._data[first:], self._data[:last])

    def close(self) -> None:
        """Unmap and close."""
        for view in (self._head, self._tail, self._data):
            view.release()
        try:
            self._memory.close()
        except BufferError:
            pass
        self.fd.close()


def parse(data: bytes | memoryview, stop_at_gap: bool = False) -> tuple[list[Run], int]:
    """(runs of samples, records lost) of a stretch of perf records; with `stop_at_gap` it ends where no record can be."""
    runs: list[Run] = []
    lost = at = 0
    end = len(data)
    while at + 8 <= end:
        kind, _misc, size = struct.unpack_from("<IHH", data, at)
        if size < 8 or at + size > end:
            if stop_at_gap:
                break
            raise ObjectError("a perf buffer holds a damaged record", offset=at)
        if kind == PERF_RECORD_SAMPLE and size >= _SAMPLE_HEADER:
            (length,) = struct.unpack_from("<I", data, at + 8)
            length = min(length, size - _SAMPLE_HEADER)
            count = 1
            possible = (end - at) // size
            if possible >= MIN_RUN:
                # type and size both must agree; misc is part of the word with size
                (word,) = struct.unpack_from("<I", data, at + 4)
                count = same_words(data, at, possible, size, kind)
                count = same_words(data, at + 4, count, size, word)
                count = same_words(data, at + 8, count, size, struct.unpack_from("<I", data, at + 8)[0])
            runs.append(Run(at + _SAMPLE_HEADER, count, size, length))
            at += count * size
            continue
        if kind == PERF_RECORD_LOST:
            lost += struct.unpack_from("<Q", data, at + 16)[0]
        elif stop_at_gap and kind == 0:
            break
        at += size
    return runs, lost


class PerfReader(EventReader):
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

    def __init__(
        self,
        map: Map[Any, Any],
        *,
        pages: int = 64,
        type: Codec[Any] | str | None = None,
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
        self.name = map.name
        self._map = map
        self.lost = 0
        self.overwritable = overwritable
        self._codec: Codec[Any] = map.codec_named(type) if type is not None else _event_codec(map)
        self._rings: list[Any] = []
        # The engine's maps make buffers of their own kind, with the same methods.
        make = getattr(map._handle, "open_perf_buffer", None)
        if cpus is None:
            online = online_cpus() if make is None else list(range(map._handle.possible_cpus))
        wakeup = watermark if watermark is not None else wakeup_events
        bits = (WRITE_BACKWARD_BIT if overwritable else 0) | (WATERMARK_BIT if watermark is not None else 0)
        try:
            for cpu in cpus if cpus is not None else online:
                if cpu >= map.max_entries and cpus is None:
                    continue
                if cpu >= map.max_entries:
                    raise IndexOutOfRange(
                        f"map {map.name}: PerfReader: CPU {cpu} has no entry: max_entries is {map.max_entries}"
                    )
                if make is not None:
                    ring = make(pages, cpu, overwritable, (wakeup, watermark is not None))
                else:
                    ring = PerfRing(self._open(cpu, wakeup, bits), pages, cpu, overwritable)
                self._rings.append(ring)
                map[cpu] = ring.fd.number
                map.opened_for[cpu] = ring
                self._ioctl(ring, PERF_EVENT_IOC_ENABLE, 0)
            super().__init__([ring.fd.number if isinstance(ring, PerfRing) else ring for ring in self._rings])
        except BaseException:
            for ring in self._rings:
                ring.close()
            raise

    def _open(self, cpu: int, wakeup: int, bits: int) -> Fd:
        return open_event(
            f"map {self.name}: PerfReader: CPU {cpu}",
            PERF_TYPE_SOFTWARE,
            PERF_COUNT_SW_BPF_OUTPUT,
            wakeup_events=wakeup,
            bits=bits,
            cpu=cpu,
        )

    @staticmethod
    def _ioctl(ring: Any, request: int, argument: int) -> None:
        if not isinstance(ring, PerfRing):
            ring.control(request, argument)
        elif libc().ioctl(ring.fd.number, request, argument) < 0:
            raise BpfOSError(f"PerfReader: CPU {ring.cpu}: ioctl failed", errno=ctypes.get_errno(), command="ioctl")

    @staticmethod
    def _disable(ring: Any) -> None:
        if isinstance(ring, PerfRing):
            libc().ioctl(ring.fd.number, PERF_EVENT_IOC_DISABLE, 0)

    def flush(self) -> list[Batch]:
        """What is there now, without waiting: at most one batch for each CPU; lost records are counted."""
        self._require_open()
        if self.overwritable:
            raise NotSupported("PerfReader: an overwritable buffer is read with snapshot()", feature="PerfReader.flush")
        found = []
        for ring in self._rings:
            data = ring.take()
            if not data:
                continue
            runs, lost = parse(data)
            self.lost += lost
            if runs or lost:
                found.append(Batch(self.name, data, runs, self._codec, ring.cpu, lost))
        return found

    def snapshot(self) -> list[Batch]:
        """The newest records of an overwritable reader, newest first, one batch for each CPU; output pauses meanwhile."""
        self._require_open()
        if not self.overwritable:
            raise NotSupported("PerfReader: snapshot() needs overwritable=True", feature="PerfReader.snapshot")
        self.pause()
        try:
            found = []
            for ring in self._rings:
                data = ring.snapshot()
                runs, _ = parse(data, stop_at_gap=True)
                if runs:
                    found.append(Batch(self.name, data, runs, self._codec, ring.cpu))
            return found
        finally:
            self.resume()

    def pause(self) -> None:
        """Stop recording (Linux 4.7): programs' bpf_perf_event_output() fails meanwhile."""
        self._require_open()
        for ring in self._rings:
            self._ioctl(ring, PERF_EVENT_IOC_PAUSE_OUTPUT, 1)

    def resume(self) -> None:
        """Record again."""
        self._require_open()
        for ring in self._rings:
            self._ioctl(ring, PERF_EVENT_IOC_PAUSE_OUTPUT, 0)

    def _release(self) -> None:
        for ring in self._rings:
            self._disable(ring)
            cpu: int = ring.cpu
            if self._map.opened_for.get(cpu) is ring:
                # Else programs go on writing into a buffer nobody reads.
                del self._map.opened_for[cpu]
                try:
                    self._map.delete(cpu)
                except BpfError:
                    pass  # the map is closed
            ring.close()


def _event_codec(map: Map[Any, Any]) -> Codec[Any]:
    spec = map.spec
    if spec is not None and spec.btf is not None and spec.value_type_id:
        from bpf2py.btf.codec import codec_for

        return codec_for(spec.btf, spec.value_type_id)
    return BytesCodec(0)
