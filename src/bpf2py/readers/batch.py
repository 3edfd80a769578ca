"""`Batch`: records read together, and the walk that finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from bpf2py.btf.codec import BytesCodec, Codec
from bpf2py.errors import EncodeError

if TYPE_CHECKING:
    import numpy as np


class Run(NamedTuple):
    """`count` records of the same length, `stride` bytes apart; `start` is the first one's payload."""

    start: int
    count: int  # type: ignore[assignment]
    stride: int
    length: int


class Batch:
    """Records that were read together, in order.

    A batch is a sequence of events: ``len(batch)``, ``for event in batch``. `to_numpy()` gives all of them as an array
    without Python code per record.

    Attributes:
        source: name of the map they come from.
        cpu: the CPU they come from (perf buffers), or None.
        lost: records the kernel dropped just before or within this batch (perf buffers).
    """

    __slots__ = ("_codec", "_commit", "_data", "_runs", "cpu", "lost", "source")

    def __init__(
        self,
        source: str,
        data: Any,
        runs: list[Run],
        codec: Codec[Any],
        cpu: int | None = None,
        lost: int = 0,
        commit: Callable[[], None] | None = None,
    ) -> None:
        self.source = source
        self.cpu = cpu
        self.lost = lost
        self._data = data
        self._runs = runs
        self._codec = codec
        self._commit = commit

    def __len__(self) -> int:
        return sum(run.count for run in self._runs)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.events())

    def events(self) -> list[Any]:
        """All events, typed by the map's BTF; bytes where no type is known."""
        codec, size = self._codec, self._codec.size
        found: list[Any] = []
        for run in self._runs:
            if size and run.length >= size and not getattr(codec, "flexible", None):
                found += codec.decode_many(self._packed(run, size))
            elif size and run.length < size:
                raise EncodeError(
                    f"{self.source}: a record of {run.length} bytes is too short for {codec.name} ({size} bytes)"
                )
            else:
                decode: Callable[[Any], Any] = codec.decode if size else bytes
                view = memoryview(self._data)
                starts = range(run.start, run.start + run.count * run.stride, run.stride)
                found += [decode(view[at : at + run.length]) for at in starts]
        return found

    def records(self) -> Iterator[memoryview]:
        """Each record's bytes, without a copy; of a lease only valid until `commit()`."""
        view = memoryview(self._data)
        for run in self._runs:
            for at in range(run.start, run.start + run.count * run.stride, run.stride):
                yield view[at : at + run.length]

    def _packed(self, run: Run, size: int) -> bytes | memoryview:
        """The records of a run cut to `size` bytes, back to back."""
        import numpy as np

        view: np.ndarray[Any, Any] = np.ndarray((run.count, size), np.uint8, self._data, run.start, (run.stride, 1))
        return view.tobytes()

    def offsets(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """(offsets, lengths) of the records in `data`, for records of different lengths. Both int64, shape (len(batch),)."""
        import numpy as np

        starts = [np.arange(r.count, dtype=np.int64) * r.stride + r.start for r in self._runs]
        lengths = [np.full(r.count, r.length, np.int64) for r in self._runs]
        if not starts:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return np.concatenate(starts), np.concatenate(lengths)

    @property
    def data(self) -> memoryview:
        """The memory `offsets()` speaks of."""
        return memoryview(self._data)

    def to_numpy(self, dtype: Any = None) -> np.ndarray[Any, Any]:
        """All events as an array of shape (len(batch),) that owns its memory.

        Args:
            dtype: a numpy dtype, or None for that of the map's BTF type.

        Raises:
            EncodeError: no type is known, or a record is shorter than the type.
        """
        import numpy as np

        from bpf2py.btf.dtype import array_from, dtype_of

        if dtype is None and isinstance(self._codec, BytesCodec):
            lengths = {run.length for run in self._runs}
            if len(lengths) > 1:
                raise EncodeError(
                    f"{self.source}: records of different lengths and no type: use offsets() or give a dtype"
                )
            dtype = np.dtype(f"V{lengths.pop() if lengths else 0}")
        wanted = np.dtype(dtype) if dtype is not None else dtype_of(self._codec)
        size = wanted.itemsize if dtype is not None else self._codec.size
        parts = []
        for run in self._runs:
            if run.length < size:
                raise EncodeError(f"{self.source}: a record of {run.length} bytes is too short for {size}")
            if dtype is not None:
                view: np.ndarray[Any, Any] = np.ndarray((run.count,), wanted, self._data, run.start, (run.stride,))
                parts.append(view.copy())
            else:
                tail = memoryview(self._data)[run.start :]
                parts.append(array_from(self._codec, tail, run.count, run.stride))
        if not parts:
            return np.empty(0, wanted)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def commit(self) -> None:
        """Give the memory of a lease back to the producer; the batch is empty then. Harmless for other batches."""
        commit, self._commit = self._commit, None
        if commit is not None:
            self._runs = []
            self._data = b""
            commit()

    def __repr__(self) -> str:
        where = f" CPU {self.cpu}" if self.cpu is not None else ""
        return f"<Batch of {len(self)} events from {self.source}{where}{f', {self.lost} lost' if self.lost else ''}>"


MIN_RUN = 8


def same_words(data: Any, start: int, count: int, stride: int, word: int) -> int:
    """How many of `count` 32-bit words, `stride` bytes apart from `start` on, equal `word` before the first that does not."""
    import numpy as np

    words: np.ndarray[Any, Any] = np.ndarray((count,), "<u4", data, start, (stride,))
    different = words != word
    first = int(different.argmax())
    return first if different[first] else count


def owned_copy(*parts: memoryview) -> memoryview:
    """The parts in one piece of memory of its own.

    numpy's allocator asks for huge pages, which makes a copy of megabytes several times faster than one into `bytes`.
    """
    import numpy as np

    copy = np.empty(sum(len(part) for part in parts), np.uint8)
    start = 0
    for part in parts:
        copy[start : start + len(part)] = np.frombuffer(part, np.uint8)
        start += len(part)
    return copy.data
