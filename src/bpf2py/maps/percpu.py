"""PERCPU_HASH, PERCPU_ARRAY and LRU_PERCPU_HASH: one value for each possible CPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any, Generic, TypeVar, overload
from bpf2py.btf.codec import Codec, IntCodec
from bpf2py.btf.values import StructValue
from bpf2py.errors import ENOTSUPP, EncodeError, IndexOutOfRange, NotSupported
from bpf2py.maps.array import ArrayMap
from bpf2py.maps.base import Map
from bpf2py.maps.batch import LAST_BATCH, Chunk
from bpf2py.maps.mapping import MappingMap
from bpf2py.maps.one_cpu import OneCpu, by_cpu
from bpf2py.spec.map_spec import MapSpec
from bpf2py.uapi.errno import EEXIST, EINVAL, ENOENT, EOPNOTSUPP
from bpf2py.uapi.map_types import UpdateFlags

if TYPE_CHECKING:
    import numpy as np

    from bpf2py.btf import dtype as dtypes
    from bpf2py.seam.protocol import MapHandle, MapSlot
else:
    dtypes = module("bpf2py.btf.dtype")

K = TypeVar("K")
V = TypeVar("V")


class PerCpu(Sequence[V], Generic[V]):
    """The values of one element, by CPU number.

    Attributes:
        values: a list with one value for each possible CPU.

    >>> PerCpu([1, 2, 3]).sum(), PerCpu([1, 2, 3]).max(), PerCpu([1, 2, 3])[1]
    (6, 3, 2)
    """

    __slots__ = ("values",)

    def __init__(self, values: Iterable[V]) -> None:
        self.values = list(values)

    @overload
    def __getitem__(self, cpu: int) -> V: ...
    @overload
    def __getitem__(self, cpu: slice) -> list[V]: ...
    def __getitem__(self, cpu: int | slice) -> V | list[V]:
        return self.values[cpu]

    def __len__(self) -> int:
        return len(self.values)

    def sum(self) -> V:
        """The sum over the CPUs; of structs a struct of the sums of their integer members (of other members CPU 0's)."""
        total: V = self._fold(sum)
        return total

    def max(self) -> V:
        """The largest over the CPUs; of structs member by member."""
        largest: V = self._fold(max)
        return largest

    def _fold(self, function: Any) -> Any:
        first = self.values[0]
        if not isinstance(first, StructValue):
            return function(self.values)
        numbers = {
            name: function(getattr(value, name) for value in self.values)
            for name in first._fields
            if isinstance(getattr(first, name), int | float)
        }
        return first._replace(**numbers)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PerCpu):
            return self.values == other.values
        return self.values == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"PerCpu({self.values!r})"


class PerCpuCodec(Codec[PerCpu[Any]]):
    """`cpus` values, each in a slot of a multiple of 8 bytes (kernel: bpf_percpu_hash_copy in kernel/bpf/hashtab.c)."""

    __slots__ = ("cpus", "element", "stride")

    def __init__(self, element: Codec[Any], cpus: int) -> None:
        self.element = element
        self.cpus = cpus
        self.stride = (element.size + 7) // 8 * 8
        super().__init__(f"{element.name} per CPU", self.stride * cpus)

    def stands_for_all(self, value: object) -> bool:
        """Whether this is one value, for every CPU, and not one for each."""
        if isinstance(value, bytes | bytearray):
            return len(value) != self.size
        return not isinstance(value, PerCpu | list) and (not isinstance(value, tuple) or hasattr(self.element, "cls"))

    def encode(self, value: object) -> bytes:
        if isinstance(value, bytes | bytearray) and len(value) == self.size:
            return bytes(value)
        values: Any = [value] * self.cpus if self.stands_for_all(value) else value
        if len(values) != self.cpus:
            raise EncodeError(f"{len(values)} values given, there are {self.cpus} possible CPUs")
        return b"".join(self.element.encode(v).ljust(self.stride, b"\0") for v in values)

    def decode(self, data: bytes | bytearray | memoryview) -> PerCpu[Any]:
        return PerCpu(self._slots(data))

    def _slots(self, data: bytes | bytearray | memoryview) -> list[Any]:
        element, view = self.element, memoryview(data)
        if isinstance(element, IntCodec):
            values: list[Any] = view.cast("B").cast(element.leaf)[:: self.stride // element.size].tolist()  # type: ignore[call-overload]
            return values
        return [element.decode(view[at : at + element.size]) for at in range(0, len(view), self.stride)]

    def decode_many(self, data: bytes | bytearray | memoryview) -> list[PerCpu[Any]]:
        flat, cpus = self._slots(data), self.cpus
        return [PerCpu(flat[at : at + cpus]) for at in range(0, len(flat), cpus)]


class PerCpuValues(Map[Any, Any]):
    """What the per-CPU families share."""

    value_codec: PerCpuCodec
    _all_cpus = True  # until a batch with BPF_F_ALL_CPUS is refused

    def __init__(
        self, handle: MapHandle, name: str, key: Codec[Any], value: Codec[Any], spec: MapSpec | None = None
    ) -> None:
        super().__init__(handle, name, key, PerCpuCodec(value, handle.possible_cpus), spec)

    @property
    def possible_cpus(self) -> int:
        """Values of each element: one for each CPU that may be online, in the order of their numbers, which may have gaps."""
        return self.value_codec.cpus

    def on_cpu(self, cpu: int) -> OneCpu[Any, Any]:
        """The values of one CPU alone, as a mapping: ``counts.on_cpu(3)[key]``. Raises IndexOutOfRange; see `OneCpu`."""
        self._position(cpu)
        return OneCpu(self, cpu)

    def _lookup_with(self, key: Any, flags: int) -> Any:
        if flags & UpdateFlags.CPU:
            raise EncodeError(f"map {self.name}: lookup: BPF_F_CPU gives one CPU's value: on_cpu(cpu)[key]")
        return super()._lookup_with(key, flags)

    def lookup_cpu(self, key: object, cpu: int) -> Any:
        """The value of one CPU: with BPF_F_CPU (Linux 7.0) only that is copied, before all are and one is picked.

        Raises IndexOutOfRange for a CPU the machine cannot have, KeyNotFound.
        """
        position = self._position(cpu)
        slot = self._slot()
        try:
            self._put_key(slot, key, "lookup")
            if slot.lookup(by_cpu(cpu)) == 0:
                return self.value_codec.element.decode(memoryview(slot.value)[: self.value_size])
            result = slot.lookup()
            self._check("lookup", result, key)
            start = position * self.value_codec.stride
            return self.value_codec.element.decode(memoryview(slot.value)[start : start + self.value_size])
        finally:
            self._slots.append(slot)

    def update_cpu(self, key: object, value: object, cpu: int) -> None:
        """Set the value of one CPU alone, by BPF_F_CPU; a new key has zeros for the others. Raises NotSupported before Linux 7.0.

        There is no way to do it on older kernels without undoing what programs write for the other CPUs meanwhile.
        """
        position = self._position(cpu)
        slot = self._slot()
        try:
            self._put_key(slot, key, "update")
            encoded = self._encode_one(value)
            if not self._handle.zeroes_other_cpus and self._created(slot, key, encoded, position, cpu):
                return
            slot.value[: self.value_size] = encoded
            result = slot.update(by_cpu(cpu))
            if result == -EINVAL:
                raise self._no_cpu_flags("BPF_MAP_UPDATE_ELEM")
            self._check("update", result, key)
        finally:
            self._slots.append(slot)

    def _created(self, slot: MapSlot, key: object, encoded: bytes, position: int, cpu: int) -> bool:
        """Make a key that is not there with zeros for the other CPUs, which such kernels do not."""
        result = slot.lookup(by_cpu(cpu))
        if result == -EINVAL:
            raise self._no_cpu_flags("BPF_MAP_UPDATE_ELEM")
        if result != -ENOENT:
            return False
        slot.value[:] = bytes(len(slot.value))
        start = position * self.value_codec.stride
        slot.value[start : start + self.value_size] = encoded
        result = slot.update(int(UpdateFlags.NOEXIST))
        if result == -EEXIST:  # an array's index is beyond the end, or somebody was faster
            return False
        self._check("update", result, key)
        return True

    def _encode_one(self, value: object) -> bytes:
        try:
            return self.value_codec.element.encode(value)
        except EncodeError as error:
            raise EncodeError(f"map {self.name}: update: value: {error.message}") from None

    def _no_cpu_flags(self, command: str) -> NotSupported:
        return NotSupported(
            f"map {self.name}: update: setting one CPU's value needs BPF_F_CPU, which came with Linux 7.0; "
            "set all CPUs' values, or let a program do it",
            feature="BPF_F_CPU",
            since="7.0",
            errno=EINVAL,
            command=command,
        )

    def _update_many(self, pairs: list[tuple[Any, Any]], *flags: int) -> None:
        """One value for all CPUs is copied once for each key with BPF_F_ALL_CPUS (Linux 7.0), else as often as there are CPUs."""
        codec = self.value_codec
        if self._all_cpus and not any(flags) and all(codec.stands_for_all(value) for _, value in pairs):
            for start in range(0, len(pairs), LAST_BATCH):
                part = pairs[start : start + LAST_BATCH]
                if not self._set_on_cpus(part, int(UpdateFlags.ALL_CPUS)):
                    self._all_cpus = False
                    pairs = pairs[start:]
                    break
            else:
                return
        super()._update_many(pairs, *flags)  # type: ignore[misc]  # of MappingMap and ArrayMap

    def _set_on_cpus(self, part: list[tuple[Any, Any]], flags: int) -> bool:
        """A batch of one value for each key; False where there is no such command."""
        try:
            keys = self.key_codec.encode_many([key for key, _ in part])
            values = self.value_codec.element.encode_many([value for _, value in part])
        except EncodeError as error:
            raise EncodeError(f"map {self.name}: update: {error.message}") from None
        self.fileno()
        result, done = self._handle.update_batch(keys, values, len(part), flags) if part else (0, 0)
        if result in (-EINVAL, -ENOTSUPP, -EOPNOTSUPP) and done in (0, len(part)):
            return False
        self._check("update", result, part[done][0] if done < len(part) else None, flags)
        return True

    def _position(self, cpu: int) -> int:
        """Which of an element's values is a CPU's. Raises IndexOutOfRange."""
        try:
            return self._handle.cpu_numbers.index(cpu)
        except ValueError:
            raise IndexOutOfRange(
                f"map {self.name}: CPU {cpu} is not one of the {self.possible_cpus} possible CPUs"
            ) from None

    def _value_array(self, chunk: Chunk) -> np.ndarray[Any, Any]:
        codec = self.value_codec
        return dtypes.array_from(codec.element, chunk.values, chunk.count, codec.stride, codec.cpus)

    def _array_bytes(self, values: np.ndarray[Any, Any]) -> bytes:
        import numpy as np

        codec, count = self.value_codec, len(values)
        if values.shape[:2] != (count, codec.cpus):
            raise EncodeError(
                f"map {self.name}: update: the values' shape is {values.shape}, wanted ({count}, {codec.cpus})"
            )
        flat = np.frombuffer(
            dtypes.bytes_of(codec.element, values.reshape(count * codec.cpus, *values.shape[2:])), np.uint8
        )
        padded = np.zeros((count, codec.cpus, codec.stride), np.uint8)
        padded[:, :, : codec.element.size] = flat.reshape(count, codec.cpus, codec.element.size)
        return padded.tobytes()


class PerCpuHashMap(PerCpuValues, MappingMap[K, PerCpu[V]]):
    """PERCPU_HASH (Linux 4.6): each CPU counts into its own value, without contention.

    Values are `PerCpu`; a single value assigned is stored for every CPU. A program's update writes its own CPU's value; where that
    inserts the key, the other CPUs' values are zero.

    Example:
        >>> bytes_sent[pid].sum()           # doctest: +SKIP
        >>> bytes_sent.on_cpu(3)[pid]       # doctest: +SKIP
    """

    if TYPE_CHECKING:  # what is set may also be one value for all CPUs, or a list

        def on_cpu(self, cpu: int) -> OneCpu[K, V]: ...
        def __setitem__(self, key: K, value: V | Sequence[V]) -> None: ...
        def put(self, key: K, value: V | Sequence[V], flags: UpdateFlags | int = 0) -> None: ...
        def update(  # type: ignore[override]
            self,
            other: Mapping[K, V | Sequence[V]] | Iterable[tuple[K, V | Sequence[V]]] = (),
            /,
            **kwargs: V | Sequence[V],
        ) -> None: ...


class LruPerCpuHashMap(PerCpuHashMap[K, V]):
    """LRU_PERCPU_HASH (Linux 4.10): a `PerCpuHashMap` that evicts, approximately the least recently used; see `LruHashMap`."""


class PerCpuArrayMap(PerCpuValues, ArrayMap[PerCpu[V]]):
    """PERCPU_ARRAY (Linux 4.6): an array of `PerCpu` values.

    Example:
        >>> packets[0].sum()                # doctest: +SKIP
    """

    if TYPE_CHECKING:

        def on_cpu(self, cpu: int) -> OneCpu[int, V]: ...
        @overload
        def __setitem__(self, index: int, value: V | Sequence[V]) -> None: ...
        @overload
        def __setitem__(self, index: slice, value: Iterable[V | Sequence[V]]) -> None: ...
        def __setitem__(self, index: int | slice, value: Any) -> None: ...
        def put(self, index: int, value: V | Sequence[V], flags: UpdateFlags | int = 0) -> None: ...
        def update(self, values: Mapping[int, V | Sequence[V]] | Iterable[V | Sequence[V]]) -> None: ...
