"""Whether a config fits its object: sizes and offsets of labels against the members of the map's key, from BTF alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Kind, Struct
from bpf2py.errors import BtfError
from bpf2py.export.config import Config, Label, Source
from bpf2py.export.decoder_table import DECODERS
from bpf2py.export.reading import CPU
from bpf2py.spec.map_spec import MapSpec
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.uapi.map_types import MapType

__all__ = ["Problem", "problems"]

PER_CPU = (MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH)
READABLE = (MapType.HASH, MapType.ARRAY, MapType.LRU_HASH, MapType.LPM_TRIE, *PER_CPU)


class Problem(NamedTuple):
    """What does not fit. A `fatal` one makes the whole metric wrong, or unreadable."""

    metric: str
    text: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.metric}: {self.text}"


class Leaf(NamedTuple):
    """A member of a key that has no members itself."""

    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.name} (offset {self.offset}, size {self.size})"


def problems(config: Config, spec: ObjectSpec) -> Iterator[Problem]:
    """What of a config does not fit an object."""
    for name in config.kaddrs:
        variable = spec.variables.get(f"kaddr_{name}")
        if variable is None or variable.size != 8:
            yield Problem(
                f"kaddrs: {name}", f"the object has no variable 'const volatile u64 kaddr_{name}' to put the address in"
            )
    id_map = config.cgroup_id_map
    if id_map is not None:
        yield from _cgroup_map(id_map.name, id_map.type, spec)
    yield from _spans(config, spec)
    for metric in config.sources:
        if metric.kind == "variable":
            continue
        found = spec.maps.get(metric.map)
        if found is None:
            near = ", ".join(name for name, each in spec.maps.items() if not each.is_section) or "none"
            yield Problem(metric.map, f"the object has no map of that name; there are: {near}")
        elif metric.kind == "perf":
            if found.type != MapType.PERF_EVENT_ARRAY:
                yield Problem(metric.map, f"perf_event_array: the map is of type {found.type_name}")
            yield from _decoders(metric.map, metric.labels)
        elif found.type not in READABLE:
            yield Problem(metric.map, f"a map of type {found.type_name} cannot be exported")
        else:
            yield from _map(metric, found)


def _spans(config: Config, spec: ObjectSpec) -> Iterator[Problem]:
    for span in config.spans:
        found = spec.maps.get(span.ringbuf)
        if found is None:
            yield Problem(f"span {span.name}", f"the object has no map {span.ringbuf}")
        elif found.type != MapType.RINGBUF:
            yield Problem(f"span {span.name}", f"spans are records of a RINGBUF; {span.ringbuf} is a {found.type_name}")
        yield from _decoders(f"span {span.name}", span.labels)


def _cgroup_map(name: str, kind: str, spec: ObjectSpec) -> Iterator[Problem]:
    where, found = f"cgroup_id_map: {name}", spec.maps.get(name)
    if found is None:
        yield Problem(where, "the object has no map of that name")
        return
    key = 8 if kind == "hash" else 4
    if (found.type == MapType.CGRP_STORAGE) != (kind == "cgrp_storage"):
        yield Problem(where, f"type {kind} is not for a map of type {found.type_name}")
    elif found.key_size != key or found.value_size != 8:
        yield Problem(
            where,
            f"key and value must have {key} and 8 bytes; they have {found.key_size} and {found.value_size}",
        )


def _map(source: Source, found: MapSpec) -> Iterator[Problem]:
    for index, number in enumerate(source.numbers):
        if number.offset + number.size > found.value_size:
            yield Problem(
                source.map,
                f"number {index + 1} is the {number.size} bytes at offset {number.offset} of the value, which has "
                f"{found.value_size} bytes",
            )
    if len(source.numbers) == 1 and found.value_size > 8 == source.numbers[0].size and not _is_struct(found):
        yield Problem(source.map, f"the value must be a number of 8 bytes; it has {found.value_size} bytes")
    labels = list(source.labels)
    yield from _decoders(source.map, labels)
    if found.type in PER_CPU and labels and labels[-1].name == "cpu":
        if labels[-1].size != CPU:
            yield Problem(source.map, f"label cpu of a per-CPU map has {CPU} bytes, not {labels[-1].size}")
        labels.pop()
    elif source.last_is_bucket and labels[-1].decoders[-1].name != "uint":
        yield Problem(source.map, f"label {labels[-1].name}: the bucket must be a number: its last decoder is uint")
    if labels:
        yield from _key(source.map, labels, found)


def _is_struct(found: MapSpec) -> bool:
    if found.btf is None or not found.value_type_id:
        return False
    return isinstance(found.btf.resolved(found.value_type_id), Struct)


def _decoders(metric: str, labels: Sequence[Label]) -> Iterator[Problem]:
    for label in labels:
        before = ""
        for decoder in label.decoders:
            facts = DECODERS[decoder.name]
            if facts.takes == "number" and before != "number":
                yield Problem(
                    metric, f"label {label.name}: decoder {decoder.name} takes a number as text: put uint before it"
                )
            elif facts.takes == "bytes" and not before:
                size = label.size
                if (facts.sizes and size not in facts.sizes) or size < facts.least or size % facts.unit:
                    wanted = (
                        f"{', '.join(map(str, facts.sizes[:-1]))} or {facts.sizes[-1]}"
                        if facts.sizes
                        else f"{facts.least} at least"
                        if facts.least
                        else f"a multiple of {facts.unit}"
                    )
                    yield Problem(
                        metric, f"label {label.name}: decoder {decoder.name} does not take {size} bytes: {wanted}"
                    )
            if decoder.name != "regexp":  # which passes on what it took
                before = "number" if decoder.name == "uint" else "text"


def _key(metric: str, labels: Sequence[Label], found: MapSpec) -> Iterator[Problem]:
    leaves = _leaves_of(found)
    at = 0
    for label in labels:
        start, end = at, at + label.size
        at = end + label.padding
        where = f"label {label.name} (offset {start}, size {label.size})"
        starting = next((leaf for leaf in leaves if leaf.offset <= start < leaf.offset + leaf.size), None)
        if start >= found.key_size:
            yield Problem(metric, f"{where} is beyond the key, which has {found.key_size} bytes")
            return
        if leaves and starting is None:
            yield Problem(metric, f"{where} starts in padding of the key", fatal=False)
        elif starting is not None and starting.offset != start:
            yield Problem(metric, f"{where} starts within member {starting}", fatal=False)
        ending = next((leaf for leaf in leaves if leaf.offset < end < leaf.offset + leaf.size), None)
        if ending is not None:
            yield Problem(metric, f"{where} ends within member {ending}", fatal=False)
        over = [leaf for leaf in leaves if start < leaf.offset < end]
        if over and starting is not None and label.decoders[0].name == "uint":
            yield Problem(
                metric, f"{where} takes member {starting.name} and member {over[0]} for one number", fatal=False
            )
    if at != found.key_size:
        following = next((leaf for leaf in leaves if leaf.offset + leaf.size > at), None)
        rest = f": what follows is member {following}" if following is not None and at < found.key_size else ""
        yield Problem(metric, f"the labels have {at} bytes, and the key has {found.key_size}{rest}")


def _leaves_of(found: MapSpec) -> list[Leaf]:
    if found.btf is None or not found.key_type_id:
        return []
    try:
        return list(leaves(found.btf, found.key_type_id))
    except BtfError:
        return []


def leaves(btf: Btf, type_id: int, name: str = "", offset: int = 0, depth: int = 0) -> Iterator[Leaf]:
    """Members that have no members, in order; unions and arrays are one each. Raises BtfError."""
    kind = btf.resolved(type_id)
    if isinstance(kind, Struct) and kind.kind == Kind.STRUCT and depth < 16:
        for member in kind.members:
            inner = f"{name}.{member.name}" if name and member.name else name or member.name
            if member.bits:
                first = member.bit_offset // 8
                yield Leaf(inner, offset + first, (member.bit_offset + member.bits + 7) // 8 - first)
            else:
                yield from leaves(btf, member.type_id, inner, offset + member.bit_offset // 8, depth + 1)
    else:
        yield Leaf(name or "key", offset, btf.size_of(type_id))
