"""Elements of maps as they are: keys as bytes, values as the numbers a metric is made of."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from bpf2py.errors import ENOTSUPP, NotSupported
from bpf2py.export.config import Number
from bpf2py.maps.array import ArrayMap
from bpf2py.maps.base import AnyMap, Map
from bpf2py.maps.batch import Chunk
from bpf2py.maps.mapping import MappingMap
from bpf2py.maps.percpu import PerCpuValues
from bpf2py.uapi.errno import EINVAL, EOPNOTSUPP

__all__ = ["elements", "numbers_of", "take"]

Numbers = tuple[int, ...]
CPU = 2  # bytes of a CPU's number, which is the end of the key where there is a label cpu


def elements(bpf_map: AnyMap, numbers: Sequence[Number], by_cpu: bool = False) -> Iterator[tuple[bytes, Numbers]]:
    """(key, numbers of its value) of all elements.

    Values of all CPUs are added; with `by_cpu` they are told apart by two more bytes of key.
    """
    cpus = bpf_map.possible_cpus if isinstance(bpf_map, PerCpuValues) else 0
    stride = (bpf_map.value_size + 7) // 8 * 8 if cpus else bpf_map.value_size
    cpu_numbers = bpf_map._handle.cpu_numbers if cpus else ()
    for chunk, keys in _chunks(bpf_map):
        columns = [_column(chunk.values, value, stride) for value in numbers]
        if not cpus:
            yield from zip(keys, zip(*columns, strict=True), strict=True)
            continue
        for index, key in enumerate(keys):
            part = slice(index * cpus, index * cpus + cpus)
            if by_cpu:
                by_number = zip(cpu_numbers, zip(*[column[part] for column in columns], strict=True), strict=True)
                for cpu, found in by_number:
                    yield key + cpu.to_bytes(CPU, sys.byteorder), found
            else:
                yield key, tuple(sum(column[part]) for column in columns)


def numbers_of(bpf_map: AnyMap, raw: bytes, numbers: Sequence[Number]) -> Numbers:
    """The numbers of one value's bytes."""
    cpus = bpf_map.possible_cpus if isinstance(bpf_map, PerCpuValues) else 0
    stride = (bpf_map.value_size + 7) // 8 * 8 if cpus else bpf_map.value_size
    return tuple(sum(_column(memoryview(raw)[: stride * max(cpus, 1)], value, stride)) for value in numbers)


def _chunks(bpf_map: Map[object, object]) -> Iterator[tuple[Chunk, list[bytes]]]:
    size = bpf_map.key_size
    if isinstance(bpf_map, ArrayMap | MappingMap):
        for chunk in bpf_map._raw_chunks():
            yield chunk, _cut(chunk.keys, size, chunk.count)
    else:
        raise NotSupported(f"map {bpf_map.name}: {bpf_map!r} has no elements to export", feature="export")


def _cut(keys: memoryview, size: int, count: int) -> list[bytes]:
    whole = bytes(keys)
    return [whole[at : at + size] for at in range(0, size * count, size)]


def _column(values: memoryview, value: Number, stride: int) -> list[int]:
    """A number of all values."""
    if value.size in (1, 2, 4, 8) and not (value.offset | stride) % value.size:
        letter = {1: "b", 2: "h", 4: "i", 8: "q"}[value.size]
        step = stride // value.size
        view = values.cast("B").cast(letter if value.signed else letter.upper())  # type: ignore[call-overload]
        found: list[int] = view[value.offset // value.size :: step].tolist()
        return found
    return [
        int.from_bytes(values[at : at + value.size], sys.byteorder, signed=value.signed)
        for at in range(value.offset, len(values), stride)
    ]


def take(bpf_map: AnyMap, key: bytes) -> bytes:
    """Remove an element, and return its value's bytes. Raises KeyNotFound.

    BPF_MAP_LOOKUP_AND_DELETE_ELEM (hash maps: Linux 5.14) reads and removes in one step; without it, what is counted in between
    is lost.
    """
    slot = bpf_map._slot()
    try:
        slot.key[:] = key
        result = slot.lookup_and_delete()
        if result in (-EINVAL, -ENOTSUPP, -EOPNOTSUPP):
            bpf_map._check("lookup", slot.lookup(), key)
            raw = bytes(slot.value)
            bpf_map._check("delete", slot.delete(), key)
            return raw
        bpf_map._check("lookup and delete", result, key)
        return bytes(slot.value)
    finally:
        bpf_map._slots.append(slot)
