"""RINGBUF (Linux 5.8) and USER_RINGBUF (Linux 6.1)."""

from __future__ import annotations

import mmap
import threading

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.btf.codec import Codec
from bpf2py.errors import BpfOSError, EncodeError, MapFull
from bpf2py.maps.base import Map, V
from bpf2py.shared_memory import new_fence
from bpf2py.spec.map_spec import MapSpec
from bpf2py.uapi.errno import E2BIG

if TYPE_CHECKING:
    from bpf2py.seam.protocol import MapHandle

BUSY, DISCARD = 1 << 31, 1 << 30
HEADER = 8


class RingbufMap(Map[None, V]):
    """Records from programs to user space, in order, shared by all CPUs; read with `bpf2py.RingReader`.

    `max_entries` is the size in bytes. A program whose bpf_ringbuf_reserve() or bpf_ringbuf_output() finds no room gets
    NULL or -EAGAIN and must count that itself (for instance in a global variable): the ring keeps no count of what it
    could not take.
    """

    @property
    def size(self) -> int:
        """Bytes of the ring."""
        return self.max_entries


class UserRingbufMap(Map[None, V]):
    """Records from user space to programs, which take them with bpf_user_ringbuf_drain().

    One producer: calls from several threads are serialised.

    Example:
        >>> commands.push({"op": 1, "value": 5})        # doctest: +SKIP
    """

    _memory: tuple[Any, memoryview, memoryview, memoryview] | None = None

    def __init__(
        self, handle: MapHandle, name: str, key: Codec[None], value: Codec[V], spec: MapSpec | None = None
    ) -> None:
        super().__init__(handle, name, key, value, spec)
        self._lock = threading.RLock()  # re-entrant: a signal handler may close the map
        self._fence = new_fence()

    @property
    def size(self) -> int:
        """Bytes of the ring."""
        return self.max_entries

    def _map(self) -> tuple[Any, memoryview, memoryview, memoryview]:
        """(mappings, consumer position, producer position, data of the ring twice in a row)."""
        if self._memory is None:
            self.fileno()
            page = self._handle.page_size
            try:
                consumer = self._handle.mmap(page, False)
                rest = self._handle.mmap(page + 2 * self.size, True, page)
            except (OSError, ValueError) as error:
                raise BpfOSError(
                    f"map {self.name}: mmap failed: {error}", errno=getattr(error, "errno", None), command="mmap"
                ) from None
            view = memoryview(rest).cast("B")
            position = memoryview(consumer).cast("B")[:8].cast("Q")
            self._memory = ((consumer, rest), position, view[:8].cast("Q"), view[page:])
        return self._memory

    def push(self, value: V | bytes) -> None:
        """Add a record: a value of the map's type, or bytes of any length.

        Raises MapFull when the program has not yet drained enough.
        """
        data = bytes(value) if isinstance(value, bytes | bytearray | memoryview) else self._encoded(value)
        total = (HEADER + len(data) + 7) // 8 * 8
        with self._lock:
            _, consumer, producer, ring = self._map()
            at = producer[0]
            if total > self.size - (at - consumer[0]) or total > self.size:
                raise MapFull(
                    f"map {self.name}: push: no room for {len(data)} bytes: the ring of {self.size} bytes is not drained",
                    errno=E2BIG,
                    command="user_ringbuf",
                )
            self._fence()  # the space is written to after it was found to be free
            start = at % self.size
            ring[start + HEADER : start + HEADER + len(data)] = data
            ring[start : start + HEADER] = len(data).to_bytes(4, "little") + bytes(4)
            self._fence()  # the kernel reads the position before it reads the record
            producer[0] = at + total

    def _encoded(self, value: Any) -> bytes:
        try:
            return self.value_codec.encode(value)
        except EncodeError as error:
            raise EncodeError(f"map {self.name}: push: {error.message}") from None

    def pending(self) -> int:
        """Bytes pushed that no program has drained yet, headers included."""
        with self._lock:
            _, consumer, producer, _ = self._map()
            return int(producer[0] - consumer[0])

    def close(self) -> None:
        """Unmap and close the descriptor."""
        super().close()
        with self._lock:
            memory, self._memory = self._memory, None
        if memory is not None:
            mappings, *views = memory
            for view in views:
                view.release()
            del views
            for mapping in mappings:
                if isinstance(mapping, mmap.mmap):  # the engine's memory is not a mapping of its own
                    try:
                        mapping.close()
                    except BufferError:
                        pass  # a view is still in use; the mapping goes with it
