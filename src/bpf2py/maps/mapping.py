"""Maps with keys as Python mappings."""

from __future__ import annotations

from collections import deque
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, MutableMapping, ValuesView

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any, TypeVar, overload
from bpf2py.errors import EncodeError, IterationAborted, KeyExists, KeyNotFound
from bpf2py.maps import batch
from bpf2py.maps.base import NOEXIST, K, Map, V
from bpf2py.maps.frames import Frames, elements_html, flat_columns
from bpf2py.uapi.errno import EINVAL, ENOENT, ENOTSUPP, EOPNOTSUPP
from bpf2py.uapi.map_types import UpdateFlags

if TYPE_CHECKING:
    import numpy as np

    from bpf2py.btf import dtype as dtypes
    from bpf2py.maps import arrays
    from bpf2py.maps import errors as map_errors
else:
    dtypes = module("bpf2py.btf.dtype")
    arrays = module("bpf2py.maps.arrays")
    map_errors = module("bpf2py.maps.errors")

T = TypeVar("T")
COUNT_BY_READING = 4096  # up to here one batch call is cheaper than loading the counting program
MOST_TRIES = 1000
_MISSING: Any = object()


class MapKeys(KeysView[K]):
    """The keys of a map, read anew on each iteration."""

    _mapping: MappingMap[K, Any]

    def __iter__(self) -> Iterator[K]:
        return iter(self._mapping)


class MapItems(ItemsView[K, V]):
    """The (key, value) pairs of a map, read anew on each iteration."""

    _mapping: MappingMap[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return self._mapping._iter_items()


class MapValues(ValuesView[V]):
    """The values of a map, read anew on each iteration."""

    _mapping: MappingMap[Any, V]

    def __iter__(self) -> Iterator[V]:
        return (value for _, value in self._mapping._iter_items())


class MappingMap(Map[K, V], MutableMapping[K, V], Frames):
    """A map with keys, as a Python mapping.

    Iteration reads whole batches (Linux 5.6): it ends and yields no key twice, also while programs insert and
    delete; a key inserted meanwhile may or may not appear. `len()` counts the elements.
    """

    _drained: deque[Iterator[tuple[K, V]]] | None = None  # removed by `drain()` and not yielded yet, for all who drain

    # -- one element ---------------------------------------------------------------------------------------------

    def __getitem__(self, key: K) -> V:
        call = self._lookup_call
        if call is not None:
            found: Any = call(key)
            if found is not None and found is not False:
                return found  # type: ignore[no-any-return]
        # `_lookup` once more without its frame: the single lookup is what loops are made of.
        try:
            slot = self._slots.pop()
        except IndexError:
            slot = self._slot()
        try:
            try:
                slot.key_view[0] = key
            except (TypeError, ValueError):
                self._put_key(slot, key, "lookup")
            if slot.fast_lookup():
                self._check("lookup", slot.lookup(), key)
            view = slot.value_view
            return self._decode_value(slot.value) if view is None else view[0]
        finally:
            self._slots.append(slot)

    def __setitem__(self, key: K, value: V) -> None:
        call = self._update_call
        if call is not None and call(key, value):
            return
        try:
            slot = self._slots.pop()
        except IndexError:
            slot = self._slot()
        try:
            try:
                slot.key_view[0] = key
            except (TypeError, ValueError):
                self._put_key(slot, key, "update")
            try:
                slot.value_view[0] = value
            except (TypeError, ValueError):
                self._put_value(slot, value, "update")
            if slot.fast_update():
                self._check("update", slot.update(), key)
        finally:
            self._slots.append(slot)

    def __delitem__(self, key: K) -> None:
        self._delete(key)

    def __contains__(self, key: object) -> bool:
        call = self._lookup_call
        if call is not None:
            found = call(key)
            if found is not None:
                return found is not False
        slot = self._slot()
        try:
            self._put_key(slot, key, "lookup")
            result = slot.lookup()
            if result and result != -ENOENT:
                raise map_errors.map_error(self.name, self._info, "lookup", -result, key)
            return result == 0
        finally:
            self._slots.append(slot)

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, default: V | T, /) -> V | T: ...
    def get(self, key: K, default: Any = None, /) -> Any:
        """The value of a key, or `default`."""
        call = self._lookup_call
        if call is not None:
            found: Any = call(key)
            if found is not None:
                return default if found is False else found
        slot = self._slot()
        try:
            self._put_key(slot, key, "lookup")
            result = slot.lookup()
            if result == -ENOENT:
                return default
            if result:
                raise map_errors.map_error(self.name, self._info, "lookup", -result, key)
            return self._decode_value(slot.value)
        finally:
            self._slots.append(slot)

    def lookup(self, key: K, flags: UpdateFlags | int = 0) -> V:
        """The value of a key. `flags`: `UpdateFlags.LOCK` takes the value's bpf_spin_lock (Linux 5.1).

        Raises KeyNotFound.
        """
        return self._lookup(key, int(flags))

    def put(self, key: K, value: V, flags: UpdateFlags | int = 0) -> None:
        """Set a value with update flags: NOEXIST creates only, EXIST replaces only, LOCK takes the value's bpf_spin_lock.

        Raises:
            KeyExists: NOEXIST and the key is there.
            KeyNotFound: EXIST and the key is not there.
            MapFull: a new key and no room.
        """
        self._update(key, value, int(flags))

    def delete(self, key: K) -> None:
        """Remove a key. Raises KeyNotFound."""
        self._delete(key)

    def setdefault(self, key: K, default: V, /) -> V:
        """The value of a key, inserted first if it is missing, atomically by BPF_NOEXIST.

        Raises IterationAborted when programs insert and delete the key whenever it is looked at.
        """
        for _ in range(MOST_TRIES):
            try:
                self.put(key, default, NOEXIST)
                return default
            except KeyExists:
                found = self.get(key, _MISSING)
                if found is not _MISSING:  # else it was deleted in between
                    return found
        raise IterationAborted(
            f"map {self.name}: setdefault: {key!r} was there for each of {MOST_TRIES} insertions, and for no lookup after it"
        )

    def popitem(self) -> tuple[K, V]:
        """Remove some key and return it with its value, as `pop` does. Raises KeyNotFound when the map is empty."""
        for key in self:
            value = self.pop(key, _MISSING)
            if value is not _MISSING:
                return key, value
        raise KeyNotFound(f"map {self.name}: popitem: the map is empty")

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, default: V | T, /) -> V | T: ...
    def pop(self, key: K, default: Any = _MISSING, /) -> Any:
        """Remove a key and return its value, atomically by BPF_MAP_LOOKUP_AND_DELETE_ELEM (hash maps: Linux 5.14).

        On older kernels and types without the command: lookup, then delete, which may lose an update in between.

        Raises:
            KeyNotFound: the key is missing and no default is given.
        """
        slot = self._slot()
        try:
            self._put_key(slot, key, "pop")
            result = slot.lookup_and_delete()
            if result in (-EINVAL, -ENOTSUPP, -EOPNOTSUPP):
                result = slot.lookup()
                if result == 0:
                    value = self._decode_value(slot.value)
                    result = slot.delete()
                    if result == 0:
                        return value
            if result == 0:
                return self._decode_value(slot.value)
            if result == -ENOENT and default is not _MISSING:
                return default
            raise map_errors.map_error(self.name, self._info, "pop", -result, key)
        finally:
            self._slots.append(slot)

    def next_key(self, key: K | None = None, /) -> K:
        """The key behind `key` in the map's own order, by BPF_MAP_GET_NEXT_KEY; the first one without it (None: Linux 4.12).

        A hash map answers with its first key when `key` is not there. Iterating over the map is many times as fast.

        Raises:
            KeyNotFound: there is none behind it.
        """
        slot = self._slot()
        try:
            if key is not None:
                self._put_key(slot, key, "next key")
            self._check("next key", slot.get_next_key(key is None), key)
            return self._decode_key(slot.next_key)
        finally:
            self._slots.append(slot)

    # -- the whole map -------------------------------------------------------------------------------------------

    def _chunks(self, delete: bool = False, small: bool = False) -> Iterator[batch.Chunk]:
        self.fileno()
        return batch.read_chunks(self.name, self._handle, 0, delete, small)

    def _decode_values(self, values: memoryview) -> list[V]:
        return self.value_codec.decode_many(values)

    def _iter_items(self) -> Iterator[tuple[K, V]]:
        try:
            for chunk in self._chunks():
                yield from zip(self.key_codec.decode_many(chunk.keys), self._decode_values(chunk.values), strict=True)
            return
        except batch.BatchUnsupported:
            pass
        slot = self._handle.slot()
        for key in batch.walk(self.name, self._handle):
            slot.key[:] = key
            result = slot.lookup()
            if result == -ENOENT:
                continue  # deleted meanwhile
            self._check("lookup", result, key)
            yield self._decode_key(key), self._decode_value(slot.value)

    def _pairs(self) -> Iterator[tuple[K, V]]:
        return self._iter_items()

    def __iter__(self) -> Iterator[K]:
        try:
            for chunk in self._chunks():
                yield from self.key_codec.decode_many(chunk.keys)
        except batch.BatchUnsupported:
            yield from map(self._decode_key, batch.walk(self.name, self._handle))

    def keys(self) -> MapKeys[K]:
        """The keys, as a view."""
        return MapKeys(self)

    def items(self) -> MapItems[K, V]:
        """The (key, value) pairs, as a view."""
        return MapItems(self)

    def values(self) -> MapValues[V]:
        """The values, as a view."""
        return MapValues(self)

    def count(self) -> int:
        """Number of elements.

        Maps of up to 4096 entries are read in batches and counted: exact at the moment each bucket was read. Larger hash maps are
        counted by the kernel (bpf_map_sum_elem_count(), Linux 6.6): a tiny program is loaded once for the map, after that
        a count costs microseconds however large the map is; changes of that very moment may be in it or not. Older
        kernels, other types and processes that may not load programs read everything, or walk the keys where there are
        no batch commands.
        """
        if self.max_entries > COUNT_BY_READING:
            self.fileno()
            counted = self._handle.count()
            if counted is not None:
                return counted
        try:
            return sum(chunk.count for chunk in self._chunks())
        except batch.BatchUnsupported:
            return sum(1 for _ in batch.walk(self.name, self._handle))

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        slot = self._slot()
        try:
            result = slot.get_next_key(True)
            if result and result != -ENOENT:
                raise map_errors.map_error(self.name, self._info, "iterate", -result)
            return result == 0
        finally:
            self._slots.append(slot)

    def pressure(self) -> float:
        """Elements as a share of `max_entries`: 1.0 means the next new key fails (or evicts, in LRU maps)."""
        return self.count() / self.max_entries if self.max_entries else 0.0

    def snapshot(self) -> dict[K, V]:
        """All elements as a dict."""
        return dict(self._iter_items())

    def update(self, other: Mapping[K, V] | Iterable[tuple[K, V]] = (), /, **kwargs: V) -> None:  # type: ignore[override]
        """Set many elements with one BPF_MAP_UPDATE_BATCH per 64k of them.

        Args:
            other: a mapping, or pairs.

        Raises:
            MapFull: no room; the elements before the failing one are set.
        """
        pairs: Iterable[tuple[Any, Any]] = other.items() if isinstance(other, Mapping) else other
        self._update_many([*pairs, *kwargs.items()])

    def _encode_values(self, values: list[Any]) -> bytes:
        return self.value_codec.encode_many(values)

    def _update_many(self, pairs: list[tuple[Any, Any]], flags: int = 0) -> None:
        for start in range(0, len(pairs), batch.LAST_BATCH):
            part = pairs[start : start + batch.LAST_BATCH]
            try:
                keys = self.key_codec.encode_many([key for key, _ in part])
                values = self._encode_values([value for _, value in part])
            except EncodeError as error:
                raise EncodeError(f"map {self.name}: update: {error.message}") from None
            done = self._update_batch(keys, values, len(part), flags, part)
            if done is None:
                for key, value in part:
                    self._update(key, value, flags)

    def _update_batch(self, keys: Any, values: Any, count: int, flags: int, pairs: Any = None) -> int | None:
        """Elements set, or None when the type has no batch update."""
        self.fileno()
        if not count:
            return 0
        result, done = self._handle.update_batch(keys, values, count, flags)
        if result in (-EINVAL, -ENOTSUPP, -EOPNOTSUPP) and done in (0, count):
            return None
        if result < 0:
            key = pairs[done][0] if pairs is not None and done < len(pairs) else None
            raise map_errors.map_error(self.name, self._info, "update", -result, key, flags)
        return done

    def delete_many(self, keys: Iterable[K]) -> int:
        """Remove keys with BPF_MAP_DELETE_BATCH; missing ones are skipped. The number removed."""
        self.fileno()
        try:
            encoded = [self.key_codec.encode(key) for key in keys]
        except EncodeError as error:
            raise EncodeError(f"map {self.name}: delete: key: {error.message}") from None
        removed = start = 0
        while start < len(encoded):
            part = encoded[start : start + batch.LAST_BATCH]
            result, done = self._handle.delete_batch(b"".join(part), len(part), 0)
            if result in (-EINVAL, -ENOTSUPP, -EOPNOTSUPP):
                return removed + self._delete_singly(encoded[start:])
            if result < 0 and result != -ENOENT:
                raise map_errors.map_error(self.name, self._info, "delete batch", -result)
            removed += done
            start += done + (1 if result == -ENOENT else 0)
        return removed

    def _delete_singly(self, keys: list[bytes]) -> int:
        slot, removed = self._handle.slot(), 0
        for key in keys:
            slot.key[:] = key
            result = slot.delete()
            if result == 0:
                removed += 1
            elif result != -ENOENT:
                raise map_errors.map_error(self.name, self._info, "delete", -result, key)
        return removed

    def drain(self) -> Iterator[tuple[K, V]]:
        """Remove all elements and yield them, without losing one that changes meanwhile.

        Uses BPF_MAP_LOOKUP_AND_DELETE_BATCH (Linux 5.6): each bucket is read and emptied under its lock, so counters that
        programs keep adding to start again at their next insertion and no count is lost. Elements are removed in pieces of 32
        at first, later of up to 4096. What an iteration that was stopped early removed and did not yield (the rest of its
        piece) is not in the map any more: this object keeps it, and the next `drain()` yields it first.
        """
        pieces = self._drained
        if pieces is None:
            pieces = self._drained = deque()
        try:
            chunks = self._chunks(delete=True, small=True)
            while True:
                while pieces:
                    piece = pieces[0]
                    yield from piece
                    if piece in pieces:  # else another thread came to its end, too
                        pieces.remove(piece)
                chunk = next(chunks, None)
                if chunk is None:
                    return
                keys, values = self.key_codec.decode_many(chunk.keys), self._decode_values(chunk.values)
                pieces.append(zip(keys, values, strict=True))
        except batch.BatchUnsupported:
            for key in [*batch.walk(self.name, self._handle)]:
                decoded = self._decode_key(key)
                try:
                    yield decoded, self.pop(decoded)
                except KeyNotFound:
                    continue

    def clear(self) -> None:
        """Remove all elements that are there now."""
        try:
            for _ in self._chunks(delete=True):
                pass
        except batch.BatchUnsupported:
            self._delete_singly(list(batch.walk(self.name, self._handle)))

    # -- numpy ---------------------------------------------------------------------------------------------------

    def _value_array(self, chunk: batch.Chunk) -> np.ndarray[Any, Any]:
        return arrays.packed(self.value_codec, chunk)

    def to_numpy(self) -> np.ndarray[Any, Any]:
        """All elements as a structured array of shape (count,) with the fields ``key`` and ``value``.

        Straight from the batch buffers, no Python code per element. Per-CPU maps have a value axis of possible CPUs.
        """
        return arrays.keyed(self.key_codec, self._raw_chunks(), self._value_array, batch.EMPTY)

    def _raw_chunks(self) -> Iterator[batch.Chunk]:
        try:
            yield from self._chunks()
        except batch.BatchUnsupported:
            yield self._walked_chunk()

    def _walked_chunk(self) -> batch.Chunk:
        slot, keys, values = self._handle.slot(), bytearray(), bytearray()
        count = 0
        for key in batch.walk(self.name, self._handle):
            slot.key[:] = key
            if slot.lookup() == 0:
                keys += key
                values += slot.value[: self._handle.value_bytes]
                count += 1
        return batch.Chunk(memoryview(keys), memoryview(values), count)

    def _columns(self) -> dict[str, Any]:
        return flat_columns(self.to_numpy())

    def _repr_html_(self) -> str:
        return elements_html(repr(self), self.items(), "key", self.count())

    def to_arrow(self) -> Any:
        """All elements as a pyarrow Table, by way of `to_numpy` (extra ``arrow``). Raises NotSupported without pyarrow."""
        from bpf2py.maps.arrow import table

        return table(self.to_numpy())

    def from_numpy(self, array: np.ndarray[Any, Any], values: np.ndarray[Any, Any] | None = None) -> None:
        """Set many elements from arrays, in batches.

        Args:
            array: a structured array with the fields ``key`` and ``value``, or the keys.
            values: the values, where `array` holds the keys.
        """
        keys = array["key"] if values is None else array
        values = array["value"] if values is None else values
        if len(keys) != len(values):
            raise EncodeError(f"map {self.name}: update: {len(keys)} keys but {len(values)} values")
        for start in range(0, len(keys), batch.LAST_BATCH):
            part, value_part = keys[start : start + batch.LAST_BATCH], values[start : start + batch.LAST_BATCH]
            raw_keys, raw_values = dtypes.bytes_of(self.key_codec, part), self._array_bytes(value_part)
            if self._update_batch(raw_keys, raw_values, len(part), 0) is None:
                width, size = self.key_size, self._handle.value_bytes
                slot = self._handle.slot()
                for i in range(len(part)):
                    slot.key[:] = raw_keys[i * width : (i + 1) * width]
                    slot.value[:] = raw_values[i * size : (i + 1) * size]
                    self._check("update", slot.update(), part[i])

    def _array_bytes(self, values: np.ndarray[Any, Any]) -> bytes:
        return dtypes.bytes_of(self.value_codec, values)
