"""`Batch`: records read together, and the walk that finds them."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Iterator

from bpf2py._typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from bpf2py.btf.codec import BytesCodec, Codec
from bpf2py.btf.least_size import least_size
from bpf2py.errors import EncodeError
from bpf2py.maps.frames import Frames, events_html, flat_columns
from bpf2py.owned import Owned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike

    from bpf2py.seam.protocol import Buffer

    Strided = bytes | bytearray | memoryview | mmap.mmap | ctypes.Array[ctypes.c_char]

E = TypeVar("E")  # what an event is

PIECE = 512  # records decoded at a time
MIN_RUN = 8  # records from which on it pays to look for more like them at once
LOOKED_AT = 2048  # of them at a time


class Run(NamedTuple):
    """`count` records of the same length, `stride` bytes apart; `start` is the first one's payload."""

    start: int
    count: int  # type: ignore[assignment]
    stride: int
    length: int


class Batch(Owned, Frames, Generic[E]):
    """Records that were read together, in order.

    A batch is a sequence of events: ``len(batch)``, ``for event in batch``. `to_numpy()` gives all of them as an array
    without Python code per record.

    A record may be shorter than its type by elements of the array at its end, a union's larger members, or padding:
    programs send ``offsetof(struct event, args) + n`` bytes. What is missing reads as zeros; a record that lacks more than
    that raises EncodeError.

    Attributes:
        source: name of the map they come from.
        cpu: the CPU they come from (perf buffers), or None.
        lost: records the kernel dropped just before or within this batch (perf buffers).
    """

    __slots__ = ("_codec", "_commit", "_data", "_runs", "cpu", "lost", "source")

    def __init__(
        self,
        source: str,
        data: Buffer,
        runs: list[Run],
        codec: Codec[E],
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

    def __iter__(self) -> Iterator[E]:
        for run in self._runs:
            yield from self._decoded(run)

    def events(self) -> list[E]:
        """All events, typed by the map's BTF; bytes where no type is known. Raises EncodeError for a record that is too short."""
        return list(self)

    def _decoded(self, run: Run) -> list[E]:
        codec, size = self._codec, self._codec.size
        if size and run.length < size:
            return codec.decode_many(self._filled(run, size))
        if size and not getattr(codec, "flexible", None):
            spread = getattr(codec, "decode_spread", None)
            found: list[E] | None = spread(memoryview(self._data), *run[:3]) if spread is not None else None
            return codec.decode_many(self._packed(run, size)) if found is None else found
        decode: Callable[[Any], Any] = codec.decode if size else bytes
        view = memoryview(self._data)
        starts = range(run.start, run.start + run.count * run.stride, run.stride)
        return [decode(view[at : at + run.length]) for at in starts]

    def records(self) -> Iterator[memoryview]:
        """Each record's bytes, without a copy; of a lease only valid until `commit()`."""
        view = memoryview(self._data)
        for run in self._runs:
            for at in range(run.start, run.start + run.count * run.stride, run.stride):
                yield view[at : at + run.length]

    def _packed(self, run: Run, size: int) -> bytes:
        """The records of a run cut to `size` bytes, back to back."""
        view = memoryview(self._data)
        starts = range(run.start, run.start + run.count * run.stride, run.stride)
        return b"".join([view[at : at + size] for at in starts])

    def _filled(self, run: Run, size: int) -> bytes:
        """The records of a run filled with zeros up to `size` bytes, back to back."""
        if run.length < least_size(self._codec):
            raise EncodeError(
                f"{self.source}: a record of {run.length} bytes is too short for {self._codec.name} ({size} bytes)"
            )
        view, missing = memoryview(self._data), bytes(size - run.length)
        starts = range(run.start, run.start + run.count * run.stride, run.stride)
        return b"".join([piece for at in starts for piece in (view[at : at + run.length], missing)])

    def offsets(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """(offsets, lengths) of the records in `data`, for records of different lengths. Both int64, shape (len(batch),)."""
        import numpy as np

        starts = [np.arange(r.count, dtype=np.int64) * r.stride + r.start for r in self._runs]
        lengths = [np.full(r.count, r.length, np.int64) for r in self._runs]
        if not starts:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return np.concatenate(starts), np.concatenate(lengths)

    @property
    def nbytes(self) -> int:
        """Size of the memory it keeps, in bytes: the records, and what is between them."""
        return memoryview(self._data).nbytes

    @property
    def data(self) -> memoryview:
        """The memory `offsets()` speaks of."""
        return memoryview(self._data)

    def to_numpy(self, dtype: DTypeLike | None = None) -> np.ndarray[Any, Any]:
        """All events as an array of shape (len(batch),) that owns its memory.

        The first call imports numpy if nobody did: import it before the reader is made where a pause of 0.1 s could cost records.

        Args:
            dtype: a numpy dtype, or None for that of the map's BTF type.

        Raises:
            EncodeError: no type is known, or a record is too short for it.
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
        size = self._codec.size
        parts = []
        for run in self._runs:
            if dtype is not None:
                if run.length < wanted.itemsize:
                    raise EncodeError(
                        f"{self.source}: a record of {run.length} bytes is too short for {wanted.itemsize}"
                    )
                view: np.ndarray[Any, Any] = np.ndarray((run.count,), wanted, self._data, run.start, (run.stride,))
                parts.append(view.copy())
            elif run.length < size:
                parts.append(array_from(self._codec, self._filled(run, size), run.count))
            else:
                tail = memoryview(self._data)[run.start :]
                parts.append(array_from(self._codec, tail, run.count, run.stride))
        if not parts:
            return np.empty(0, wanted)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _columns(self) -> dict[str, Any]:
        return flat_columns(self.to_numpy())

    def _repr_html_(self) -> str:
        return events_html(repr(self), self, len(self))

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


class Pieces(Generic[E]):
    """A batch whose events are handed out one by one, decoded a piece at a time.

    The events of a piece are handed out by one list iterator, which every consumer shares: what one of them did not take is
    there for the next, and nobody gets what another one had.
    """

    __slots__ = ("_at", "_batch", "_left", "_piece", "_started")

    def __init__(self, batch: Batch[E]) -> None:
        self._batch = batch
        self._at = 0  # index of the run that is decoded next
        self._left = batch._runs[0].count if batch._runs else 0  # records of it that are not decoded yet
        self._started: list[Run] = []  # of the current piece
        self._piece: Iterator[E] = iter(())

    def next_piece(self) -> Iterator[E] | None:
        """Events to hand out, of the current piece as long as it has some; None at the end.

        Raises EncodeError for a record that is too short: for that one alone, the next call goes on after it.
        """
        if self._remaining():
            return self._piece
        runs = self._take(PIECE)
        if not runs:
            return None
        self._started = runs
        batch = self._batch
        self._piece = iter(Batch(batch.source, batch._data, runs, batch._codec).events())
        return self._piece

    def _remaining(self) -> int:
        return self._piece.__length_hint__()  # type: ignore[attr-defined, no-any-return]

    def _take(self, most: int) -> list[Run]:
        """The next runs, of at most so many records; a record that cannot be decoded alone."""
        runs: list[Run] = []
        all_runs, size = self._batch._runs, self._batch._codec.size
        least = least_size(self._batch._codec) if size else 0
        while most and self._at < len(all_runs):
            run = all_runs[self._at]
            bad = run.length < least
            if bad and runs:
                break
            count = min(self._left, 1 if bad else most)
            skipped = run.count - self._left
            runs.append(run._replace(start=run.start + skipped * run.stride, count=count))
            most -= count
            self._left -= count
            if not self._left:
                self._at += 1
                self._left = all_runs[self._at].count if self._at < len(all_runs) else 0
            if bad:
                break
        return runs

    def rest(self) -> Batch[E] | None:
        """Everything not handed out yet as a batch, which is the caller's from now on."""
        undelivered = len(list(self._piece))  # in one step, so that no other thread gets one of them too
        runs = _last(self._started, undelivered)
        while taken := self._take(len(self._batch)):
            runs += taken
        batch = self._batch
        return Batch(batch.source, batch._data, runs, batch._codec, batch.cpu) if runs else None


def _last(runs: list[Run], count: int) -> list[Run]:
    """The last `count` records of some runs."""
    found: list[Run] = []
    for run in reversed(runs):
        if not count:
            break
        kept = min(run.count, count)
        found.insert(0, run._replace(start=run.start + (run.count - kept) * run.stride, count=kept))
        count -= kept
    return found


def same_words(data: Strided, start: int, count: int, stride: int, word: int) -> int:
    """How many of `count` 32-bit words, `stride` bytes apart from `start` on, equal `word` before the first that does not."""
    numpy: Any = sys.modules.get("numpy")
    if hasattr(numpy, "ndarray"):  # twice as fast, where it is there anyway
        different = numpy.ndarray((count,), "<u4", data, start, (stride,)) != word
        found = int(different.argmax())
        return found if different[found] else count
    octets = [bytes([octet]) for octet in word.to_bytes(4, "little")]
    at, most = 0, 64
    while at < count:
        some = min(count - at, most)
        most = LOOKED_AT
        first = start + at * stride
        end = first + (some - 1) * stride + 1
        # Slices with steps and comparisons are loops of C's; the last three find what the first one read in the cache.
        pieces = [bytes(data[first + k : end + k : stride]) for k in range(4)]  # type: ignore[arg-type]
        if any(piece != octet * some for piece, octet in zip(pieces, octets, strict=True)):
            return at + min(some - len(piece.lstrip(octet)) for piece, octet in zip(pieces, octets, strict=True))
        at += some
    return count


def get_ready() -> None:
    """Import what `Batch.to_numpy()` needs for who uses numpy: in a new process that takes longer than a ring takes to overflow."""
    if "numpy" in sys.modules:
        import bpf2py.btf.dtype  # noqa: F401
