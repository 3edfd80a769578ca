"""Maps and variables that are histograms, drawn as bars.

Three kinds are recognised: values with an array of counts called slots (one histogram for each key), keys with a member called slot
or bucket, and maps from a slot number to a count whose name says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from bpf2py._typing import Any, NamedTuple
from bpf2py.btf.codec import ArrayCodec, IntCodec
from bpf2py.btf.values import StructCodec, StructValue
from bpf2py.cli.render import Block, cells, elements, readable
from bpf2py.errors import BpfError
from bpf2py.maps.array import ArrayMap
from bpf2py.maps.base import Map
from bpf2py.maps.histogram import Histogram
from bpf2py.maps.percpu import PerCpu, PerCpuCodec
from bpf2py.printable import printable
from bpf2py.variables import Variable

KINDS = ("log2", "linear", "off")
_NAMED = re.compile(r"(?:^|_)(?:hist|hists|histogram|histograms|dist|log2|slots|buckets)(?:_|$)")
_LINEAR = re.compile(r"(?:^|_)(?:linear|lin)(?:_|$)")
_UNIT = re.compile(r"(?:^|_)(ns|nsecs|us|usecs|ms|msecs|bytes|kbytes)(?:_|$)")
_SLOTS, _SLOT_KEYS = ("slots", "buckets"), ("slot", "bucket")
LEAST_SLOTS = 4


def chosen(texts: list[str]) -> dict[str, str]:
    """What ``--histogram`` says: ``latency``, ``latency=linear`` or ``latency=off``, by map."""
    found = {}
    for text in texts:
        name, _, kind = text.partition("=")
        if kind not in ("", *KINDS):
            raise BpfError(f"--histogram {text}: after = comes one of {', '.join(KINDS)}")
        found[name] = kind or "log2"
    return found


class Chart(NamedTuple):
    """A histogram of a map; `hidden` more were left out after the last."""

    title: str
    histogram: Histogram
    hidden: int = 0


def charts(bpf_map: Map[Any, Any], most: int, kinds: Mapping[str, str]) -> list[Block]:
    """The histograms of a map as text, a block each; empty when it is not one."""
    return [_block(chart) for chart in histograms(bpf_map, most, kinds)]


def histograms(bpf_map: Map[Any, Any], most: int, kinds: Mapping[str, str]) -> list[Chart]:
    """The `most` fullest histograms of a map; empty when it is not one."""
    kind = kinds.get(bpf_map.name)
    if kind == "off" or not readable(bpf_map):
        return []
    codec: Any = bpf_map.value_codec
    codec = codec.element if isinstance(codec, PerCpuCodec) else codec
    name = printable(bpf_map.name)
    member = _slots_member(codec)
    if member is not None or (_is_counts(codec) and (kind is not None or _NAMED.search(bpf_map.name))):
        found = sorted(elements(bpf_map), key=lambda element: _total(element[1], member), reverse=True)
        single = isinstance(bpf_map, ArrayMap) and bpf_map.max_entries == 1
        made = [
            _chart(name if single else f"{name}[{_label(key)}]", kind, _summed(value, member))
            for key, value in found[:most]
        ]
        return _without(made, len(found) - most)
    if not isinstance(codec, IntCodec):
        return []
    slot = _slot_member(bpf_map.key_codec)
    if slot is not None:
        return _by_key(bpf_map, name, slot, most, kind)
    plain = isinstance(bpf_map, ArrayMap) or isinstance(bpf_map.key_codec, IntCodec)
    if plain and (kind is not None or (_NAMED.search(bpf_map.name) and bpf_map.max_entries >= LEAST_SLOTS)):
        return [_chart(name, kind, _slots({key: _number(value) for key, value in elements(bpf_map)}))]
    return []


def _without(made: list[Chart], hidden: int) -> list[Chart]:
    return [*made[:-1], made[-1]._replace(hidden=max(0, hidden))] if made else []


def variable_chart(variable: Variable, value: Any, kinds: Mapping[str, str]) -> Block | None:
    """A global variable as a histogram, None when it is not one."""
    kind, codec = kinds.get(variable.name), variable.spec.codec
    if kind == "off":
        return None
    member = _slots_member(codec)
    if member is not None or (_is_counts(codec) and (kind is not None or _NAMED.search(variable.name))):
        counts = _summed(value, member)
        return _block(_chart(printable(variable.name), kind, counts)) if any(counts) else None
    return None


def _block(chart: Chart) -> Block:
    title = f"{chart.title} ({chart.histogram.total} values)"
    return Block(title, None, chart.histogram.lines(), chart.hidden, bars=True)


def _chart(title: str, kind: str | None, counts: list[int]) -> Chart:
    name = title.partition("[")[0]
    found = _UNIT.search(name)
    unit = found[1] if found is not None else "value"
    linear = kind == "linear" or (kind is None and _LINEAR.search(name) is not None)
    return Chart(title, Histogram.linear(counts, unit=unit) if linear else Histogram.log2(counts, unit))


def _is_counts(codec: Any) -> bool:
    return isinstance(codec, ArrayCodec) and isinstance(codec.element, IntCodec) and codec.count >= LEAST_SLOTS


def _slots_member(codec: Any) -> str | None:
    """The member of a struct that holds the counts."""
    if not isinstance(codec, StructCodec):
        return None
    return next((f.name for f in codec.fields if f.name in _SLOTS and _is_counts(f.codec)), None)


def _slot_member(codec: Any) -> str | None:
    """The member of a key that is the number of the slot."""
    if not isinstance(codec, StructCodec):
        return None
    return next((f.name for f in codec.fields if f.name in _SLOT_KEYS and isinstance(f.codec, IntCodec)), None)


def _by_key(bpf_map: Map[Any, Any], name: str, slot: str, most: int, kind: str | None) -> list[Chart]:
    parts: dict[str, dict[int, int]] = {}
    for key, value in elements(bpf_map):
        label = " ".join(text for field, text in zip(key._fields, cells(key), strict=True) if field != slot)
        parts.setdefault(label, {})[getattr(key, slot)] = _number(value)
    order = sorted(parts, key=lambda label: sum(parts[label].values()), reverse=True)
    made = [_chart(f"{name}[{label}]" if label else name, kind, _slots(parts[label])) for label in order[:most]]
    return _without(made, len(order) - most)


def _slots(counts: dict[int, int]) -> list[int]:
    """Counts by slot as a list; numbers no histogram has are left out."""
    known = {slot: count for slot, count in counts.items() if 0 <= slot < 4096}
    return [known.get(slot, 0) for slot in range(max(known, default=-1) + 1)]


def _number(value: Any) -> int:
    total = value.sum() if isinstance(value, PerCpu) else value
    return total if isinstance(total, int) else 0


def _summed(value: Any, member: str | None) -> list[int]:
    """The counts of a value, summed over the CPUs."""
    values = value if isinstance(value, PerCpu) else [value]
    lists = [getattr(item, member) if member is not None else item for item in values]
    return [sum(column) for column in zip(*lists, strict=True)]


def _total(value: Any, member: str | None) -> int:
    return sum(_summed(value, member))


def _label(key: Any) -> str:
    return (
        ", ".join(f"{name}={text}" for name, text in zip(key._fields, cells(key), strict=True))
        if isinstance(key, StructValue) and len(key._fields) > 1
        else cells(key)[0]
    )
