"""ARRAY: BPF_MAP_TYPE_ARRAY, Linux 3.19."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any, TypeVar, overload
from bpf2py.errors import BpfOSError, EncodeError, IndexOutOfRange, NotSupported
from bpf2py.maps import batch
from bpf2py.maps.base import Map, V
from bpf2py.maps.frames import Frames, elements_html, flat_columns
from bpf2py.uapi.errno import EINVAL, ENOTSUPP, EOPNOTSUPP
from bpf2py.uapi.map_types import MapFlags, UpdateFlags

if TYPE_CHECKING:
    import numpy as np

    from bpf2py.btf import dtype as dtypes
    from bpf2py.maps import errors as map_errors
else:
    dtypes = module("bpf2py.btf.dtype")
    map_errors = module("bpf2py.maps.errors")

D = TypeVar("D")


class ArrayMap(Map[int, V], Frames):
    """`max_entries` elements that are always there, zero at first, by index.

    A sequence: ``array[3]``, ``array[-1]``, ``array[2:5]``, ``len(array)``, iteration over the values. ``i in array`` and `keys()`
    speak of indices, as for all maps. Elements cannot be deleted.

    Example:
        >>> totals[0] += 1              # doctest: +SKIP
    """

    _by_calls = True

    def _index(self, index: Any, operation: str) -> int:
        try:
            number = index.__index__()
        except AttributeError:
            raise EncodeError(f"map {self.name}: {operation}: {index!r} is not an index") from None
        if number < 0:
            number += self.max_entries
        if not 0 <= number < self.max_entries:
            raise IndexOutOfRange(
                f"map {self.name}: {operation}: index {index} >= max_entries {self.max_entries}"
                if index >= 0
                else f"map {self.name}: {operation}: index {index} is before the first of {self.max_entries} elements"
            )
        return int(number)

    @overload
    def __getitem__(self, index: int) -> V: ...
    @overload
    def __getitem__(self, index: slice) -> list[V]: ...
    def __getitem__(self, index: int | slice) -> V | list[V]:
        call = self._lookup_call
        if call is not None:
            found: Any = call(index)
            if found is not None and found is not False:
                return found  # type: ignore[no-any-return]
        if isinstance(index, slice):
            return [self._lookup(i) for i in range(*index.indices(self.max_entries))]
        return self._lookup(self._index(index, "lookup"))

    @overload
    def __setitem__(self, index: int, value: V) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[V]) -> None: ...
    def __setitem__(self, index: int | slice, value: Any) -> None:
        call = self._update_call
        if call is not None and call(index, value):
            return
        if isinstance(index, slice):
            indices, values = range(*index.indices(self.max_entries)), list(value)
            if len(indices) != len(values):
                raise EncodeError(f"map {self.name}: update: {len(values)} values for {len(indices)} elements")
            self._update_many(list(zip(indices, values, strict=True)))
            return
        self._update(self._index(index, "update"), value)

    def __delitem__(self, index: int) -> None:
        self._delete(self._index(index, "delete"))

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and 0 <= index < self.max_entries

    def __len__(self) -> int:
        return self.max_entries

    @overload
    def get(self, index: int) -> V | None: ...
    @overload
    def get(self, index: int, default: V | D) -> V | D: ...
    def get(self, index: int, default: Any = None) -> Any:
        """The element, or `default` beyond the end."""
        return self._lookup(index) if index in self else default

    def lookup(self, index: int, flags: UpdateFlags | int = 0) -> V:
        """The element; `flags`: `UpdateFlags.LOCK` takes the value's bpf_spin_lock (Linux 5.1)."""
        return self._lookup(self._index(index, "lookup"), int(flags))

    def put(self, index: int, value: V, flags: UpdateFlags | int = 0) -> None:
        """Set an element with update flags. NOEXIST raises KeyExists: all elements exist."""
        self._update(self._index(index, "update"), value, int(flags))

    # -- the whole map -------------------------------------------------------------------------------------------

    def _decode_values(self, values: memoryview) -> list[V]:
        return self.value_codec.decode_many(values)

    def _encode_values(self, values: Sequence[Any]) -> bytes:
        return self.value_codec.encode_many(values)

    def _raw_chunks(self) -> Iterator[batch.Chunk]:
        """All values in order of their index."""
        self.fileno()
        try:
            yield from batch.read_chunks(self.name, self._handle)
            return
        except batch.BatchUnsupported:
            pass
        slot, size = self._handle.slot(), self._handle.value_bytes
        values = bytearray()
        for index in range(self.max_entries):
            slot.key[:] = index.to_bytes(4, "little")
            self._check("lookup", slot.lookup(), index)
            values += slot.value[:size]
        keys = self.key_codec.encode_many(range(self.max_entries))
        yield batch.Chunk(memoryview(keys), memoryview(values), self.max_entries)

    def __iter__(self) -> Iterator[V]:
        for chunk in self._raw_chunks():
            yield from self._decode_values(chunk.values)

    def __reversed__(self) -> Iterator[V]:
        return iter(list(self)[::-1])

    def keys(self) -> range:
        """The indices."""
        return range(self.max_entries)

    def values(self) -> list[V]:
        """All elements, read now."""
        return list(self)

    def items(self) -> Iterator[tuple[int, V]]:
        """(index, value) of every element."""
        return enumerate(self)

    def _pairs(self) -> Iterator[tuple[int, V]]:
        return self.items()

    def count(self) -> int:
        """Number of elements: always `max_entries`."""
        return self.max_entries

    def pressure(self) -> float:
        """1.0: all elements of an array are always there."""
        return 1.0

    def snapshot(self) -> list[V]:
        """All elements as a list."""
        return list(self)

    def update(self, values: Mapping[int, V] | Iterable[V]) -> None:
        """Set many elements in batches: a mapping of indices, or a sequence for the elements from 0 on."""
        pairs = values.items() if isinstance(values, Mapping) else enumerate(values)
        self._update_many([(self._index(index, "update"), value) for index, value in pairs])

    def _update_many(self, pairs: list[tuple[int, Any]]) -> None:
        for start in range(0, len(pairs), batch.LAST_BATCH):
            part = pairs[start : start + batch.LAST_BATCH]
            try:
                keys = self.key_codec.encode_many([index for index, _ in part])
                values = self._encode_values([value for _, value in part])
            except EncodeError as error:
                raise EncodeError(f"map {self.name}: update: {error.message}") from None
            self._update_batch(keys, values, len(part))

    def _update_batch(self, keys: bytes, values: bytes, count: int) -> None:
        self.fileno()
        if not count:
            return
        result, done = self._handle.update_batch(keys, values, count, 0)
        if result in (-EINVAL, -ENOTSUPP, -EOPNOTSUPP):
            slot, size = self._handle.slot(), self._handle.value_bytes
            for i in range(count):
                slot.key[:] = keys[4 * i : 4 * i + 4]
                slot.value[:] = values[size * i : size * i + size]
                self._check("update", slot.update(), i)
        elif result < 0:
            raise map_errors.map_error(self.name, self._info, "update", -result, done)

    def clear(self) -> None:
        """Set all elements to zero."""
        size = self._handle.value_bytes
        step = max(1, min(batch.LAST_BATCH, batch.MAX_BUFFER // size))
        for start in range(0, self.max_entries, step):
            count = min(step, self.max_entries - start)
            self._update_batch(self.key_codec.encode_many(range(start, start + count)), bytes(size * count), count)

    # -- numpy ---------------------------------------------------------------------------------------------------

    def _value_array(self, chunk: batch.Chunk) -> np.ndarray[Any, Any]:
        return dtypes.array_from(self.value_codec, chunk.values, chunk.count)

    def to_numpy(self) -> np.ndarray[Any, Any]:
        """All elements as an array of shape (max_entries,); per-CPU arrays: (max_entries, possible CPUs)."""
        import numpy as np

        parts = [self._value_array(chunk) for chunk in self._raw_chunks()]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def mmap(self, writable: bool = True) -> np.ndarray[Any, Any]:
        """The elements themselves as an array, shared with programs (maps with BPF_F_MMAPABLE, Linux 5.5).

        Reading and writing it needs no system call. The mapping lives as long as the array does, also when the map is closed; a
        writable one must be gone before `freeze()`.

        Raises:
            NotSupported: the map lacks the flag, or its values have bitfields, which no array can show in place.
            BpfOSError: the map is frozen and `writable` was asked for.
        """

        import numpy as np

        where = f"map {self.name}: mmap"
        self.fileno()
        if not self.flags & MapFlags.MMAPABLE:
            raise NotSupported(f"{where}: the map was made without map_flags BPF_F_MMAPABLE", feature="mmap")
        if dtypes.has_bitfields(self.value_codec):
            raise NotSupported(
                f"{where}: values with bitfields cannot be shown in place; use to_numpy()", feature="mmap"
            )
        stride = (self.value_size + 7) // 8 * 8
        page = self._handle.page_size
        length = (stride * self.max_entries + page - 1) // page * page
        try:
            memory = self._handle.mmap(length, writable)
        except OSError as error:
            hint = " (a frozen or read-only map takes writable=False)" if writable else ""
            raise BpfOSError(f"{where}: mmap failed{hint}", errno=error.errno, command="mmap") from None
        dtype = dtypes.dtype_of(self.value_codec)
        inner = [dtype.base.itemsize]
        for extent in dtype.shape[:0:-1]:
            inner.insert(0, inner[0] * extent)
        strides = (stride, *(inner if dtype.shape else ()))
        array: np.ndarray[Any, Any] = np.ndarray((self.max_entries, *dtype.shape), dtype.base, memory, 0, strides)
        array.flags.writeable = writable
        return array

    def _columns(self) -> dict[str, Any]:
        return {"index": range(self.max_entries)} | flat_columns(self.to_numpy(), "value")

    def _repr_html_(self) -> str:
        return elements_html(repr(self), self.items(), "index", self.max_entries)

    def to_arrow(self) -> Any:
        """All elements as a pyarrow Table, by way of `to_numpy` (extra ``arrow``). Raises NotSupported without pyarrow."""
        from bpf2py.maps.arrow import table

        return table(self.to_numpy())

    def from_numpy(self, array: np.ndarray[Any, Any]) -> None:
        """Set the elements from index 0 on, in batches."""
        if len(array) > self.max_entries:
            raise IndexOutOfRange(f"map {self.name}: update: {len(array)} elements, max_entries {self.max_entries}")
        for start in range(0, len(array), batch.LAST_BATCH):
            part = array[start : start + batch.LAST_BATCH]
            keys = self.key_codec.encode_many(range(start, start + len(part)))
            self._update_batch(keys, self._array_bytes(part), len(part))

    def _array_bytes(self, values: np.ndarray[Any, Any]) -> bytes:
        return dtypes.bytes_of(self.value_codec, values)
