"""`OneCpu`: what one CPU has in a per-CPU map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any, TypeVar, overload
from bpf2py.errors import IndexOutOfRange, KeyNotFound
from bpf2py.maps import batch
from bpf2py.uapi.map_types import UpdateFlags

if TYPE_CHECKING:
    import numpy as np

    from bpf2py.maps import arrays
    from bpf2py.maps.base import Map
else:
    arrays = module("bpf2py.maps.arrays")

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")


def by_cpu(cpu: int) -> int:
    """The flags of a command on one CPU's value."""
    return int(UpdateFlags.CPU) | cpu << 32


class OneCpu(Mapping[K, V]):
    """The values of one CPU, by key or index; `on_cpu()` of a per-CPU map gives it.

    Reading copies that CPU's values alone from Linux 7.0 on (BPF_F_CPU), single ones and whole maps; older kernels give
    all CPUs' and one is picked. Setting raises NotSupported on older kernels.

    Attributes:
        cpu: its number.

    Example:
        >>> busiest = max(range(counts.possible_cpus), key=lambda cpu: sum(counts.on_cpu(cpu).values()))  # doctest: +SKIP
    """

    __slots__ = ("_map", "cpu")

    def __init__(self, of: Map[Any, Any], cpu: int) -> None:
        self._map: Any = of  # one of `PerCpuValues`; keys and values are the subclasses'
        self.cpu = cpu

    def __getitem__(self, key: K) -> V:
        value: V = self._map.lookup_cpu(key, self.cpu)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        self._map.update_cpu(key, value, self.cpu)

    def __contains__(self, key: object) -> bool:
        return key in self._map

    def __iter__(self) -> Iterator[K]:
        return iter(self._map.keys())

    def __len__(self) -> int:
        return len(self._map)

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, default: V | D, /) -> V | D: ...
    def get(self, key: K, default: Any = None, /) -> Any:
        """The value of a key, or `default`."""
        try:
            return self[key]
        except (KeyNotFound, IndexOutOfRange):
            return default

    def items(self) -> Iterator[tuple[K, V]]:  # type: ignore[override]
        """The (key, value) pairs, read now, in batches."""
        keys, element = self._map.key_codec, self._map.value_codec.element
        for chunk in self._chunks():
            yield from zip(keys.decode_many(chunk.keys), element.decode_many(chunk.values), strict=True)

    def values(self) -> Iterator[V]:  # type: ignore[override]
        """The values, read now, in batches."""
        return (value for _, value in self.items())

    def snapshot(self) -> dict[K, V]:
        """All elements as a dict."""
        return dict(self.items())

    def update(self, other: Mapping[K, V] | Iterable[tuple[K, V]], /) -> None:
        """Set many values of this CPU: with one BPF_MAP_UPDATE_BATCH per 64k, one by one on kernels before Linux 7.2.

        A new key has zeros for the other CPUs. Raises NotSupported before Linux 7.0.
        """
        pairs = list(other.items() if isinstance(other, Mapping) else other)
        at_once = self._map._handle.zeroes_other_cpus
        for start in range(0, len(pairs), batch.LAST_BATCH):
            part = pairs[start : start + batch.LAST_BATCH]
            if not at_once or not self._map._set_on_cpus(part, by_cpu(self.cpu)):
                for key, value in part:
                    self[key] = value

    def to_numpy(self) -> np.ndarray[Any, Any]:
        """All elements as a structured array of shape (count,) with the fields ``key`` and ``value``."""
        of = self._map
        return arrays.keyed(
            of.key_codec, self._chunks(), lambda chunk: arrays.packed(of.value_codec.element, chunk), batch.EMPTY
        )

    def __repr__(self) -> str:
        return f"<CPU {self.cpu} of {self._map!r}>"

    def _chunks(self) -> Iterator[batch.Chunk]:
        """Keys, and this CPU's values packed."""
        of = self._map
        of.fileno()
        try:
            yield from batch.read_chunks(of.name, of._handle, by_cpu(self.cpu), value_bytes=of.value_size)
            return
        except batch.BatchUnsupported:
            pass
        start = of._position(self.cpu) * of.value_codec.stride
        for chunk in of._raw_chunks():
            values = bytearray(chunk.count * of.value_size)
            for index in range(chunk.count):
                at = index * of.value_codec.size + start
                values[index * of.value_size : (index + 1) * of.value_size] = chunk.values[at : at + of.value_size]
            yield batch.Chunk(chunk.keys, memoryview(values), chunk.count)
