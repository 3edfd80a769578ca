"""PERCPU_HASH, PERCPU_ARRAY and LRU_PERCPU_HASH: one value for each possible CPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any, Generic, TypeVar, overload
from bpf2py.btf.codec import Codec, IntCodec
from bpf2py.btf.values import StructValue
from bpf2py.errors import EncodeError, IndexOutOfRange, NotSupported
from bpf2py.maps.array import ArrayMap
from bpf2py.maps.base import Map
from bpf2py.maps.batch import Chunk
from bpf2py.maps.mapping import MappingMap
from bpf2py.spec.map_spec import MapSpec
from bpf2py.uapi.errno import EINVAL
from bpf2py.uapi.map_types import UpdateFlags

if TYPE_CHECKING:
    import numpy as np

    from bpf2py.btf import dtype as dtypes
    from bpf2py.seam.protocol import MapHandle
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

    def encode(self, value: object) -> bytes:
        if isinstance(value, bytes | bytearray) and len(value) == self.size:
            return bytes(value)
        if isinstance(value, PerCpu):
            values: Sequence[Any] = value.values
        elif isinstance(value, list) or (isinstance(value, tuple) and not hasattr(self.element, "cls")):
            values = value
        else:
            values = [value] * self.cpus
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

    def __init__(
        self, handle: MapHandle, name: str, key: Codec[Any], value: Codec[Any], spec: MapSpec | None = None
    ) -> None:
        super().__init__(handle, name, key, PerCpuCodec(value, handle.possible_cpus), spec)

    @property
    def possible_cpus(self) -> int:
        """Values of each element: one for each CPU that may be online, in the order of their numbers, which may have gaps."""
        return self.value_codec.cpus

    def lookup_cpu(self, key: object, cpu: int) -> Any:
        """The value of one CPU: with BPF_F_CPU (Linux 6.19) only that is copied, before all are and one is picked.

        Raises IndexOutOfRange for a CPU the machine cannot have, KeyNotFound.
        """
        position = self._position(cpu)
        slot = self._slot()
        try:
            self._put_key(slot, key, "lookup")
            if slot.lookup(int(UpdateFlags.CPU) | cpu << 32) == 0:
                return self.value_codec.element.decode(memoryview(slot.value)[: self.value_size])
            result = slot.lookup()
            self._check("lookup", result, key)
            start = position * self.value_codec.stride
            return self.value_codec.element.decode(memoryview(slot.value)[start : start + self.value_size])
        finally:
            self._slots.append(slot)

    def update_cpu(self, key: object, value: object, cpu: int) -> None:
        """Set the value of one CPU alone, by BPF_F_CPU (Linux 6.19). Raises NotSupported on older kernels."""
        self._position(cpu)
        slot = self._slot()
        try:
            self._put_key(slot, key, "update")
            slot.value[: self.value_size] = self.value_codec.element.encode(value)
            result = slot.update(int(UpdateFlags.CPU) | cpu << 32)
            if result == -EINVAL:
                raise NotSupported(
                    f"map {self.name}: update: setting one CPU's value needs BPF_F_CPU, which came with Linux 6.19; "
                    "set all CPUs' values, or let a program do it",
                    feature="BPF_F_CPU",
                    since="6.19",
                    errno=EINVAL,
                    command="BPF_MAP_UPDATE_ELEM",
                )
            self._check("update", result, key)
        finally:
            self._slots.append(slot)

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
    """

    if TYPE_CHECKING:  # what is set may also be one value for all CPUs, or a list

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

        @overload
        def __setitem__(self, index: int, value: V | Sequence[V]) -> None: ...
        @overload
        def __setitem__(self, index: slice, value: Iterable[V | Sequence[V]]) -> None: ...
        def __setitem__(self, index: int | slice, value: Any) -> None: ...
        def put(self, index: int, value: V | Sequence[V], flags: UpdateFlags | int = 0) -> None: ...
        def update(self, values: Mapping[int, V | Sequence[V]] | Iterable[V | Sequence[V]]) -> None: ...
