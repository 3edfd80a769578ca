"""Maps as tables for people and as JSON for programs."""

from __future__ import annotations

from bpf2py._typing import Any, NamedTuple
from bpf2py.btf.values import StructCodec, StructValue, UnionValue, plain
from bpf2py.cli.table import aligned
from bpf2py.errors import NotSupported
from bpf2py.maps.array import ArrayMap
from bpf2py.maps.base import Map
from bpf2py.maps.mapping import MappingMap
from bpf2py.maps.percpu import PerCpu, PerCpuCodec
from bpf2py.printable import printable
from bpf2py.uapi.map_types import type_name


class MapView(NamedTuple):
    """What is shown of a map.

    Attributes:
        title: name, type and how full it is.
        columns: headings; `key_columns` of them belong to the key.
        rows: cells, busiest elements first.
        hidden: elements left out of `rows`.
    """

    title: str
    columns: list[str]
    key_columns: int
    rows: list[list[str]]
    hidden: int


class Block(NamedTuple):
    """Something with a title, as lines for a terminal: a map, a histogram, the variables.

    Attributes:
        title: the first line.
        head: headings below it, or None.
        lines: what follows.
        hidden: elements left out.
        key_width: so many characters of each line are the key.
        bars: whether the lines end with bars.
    """

    title: str
    head: str | None
    lines: list[str]
    hidden: int = 0
    key_width: int = 0
    bars: bool = False


def readable(bpf_map: Map[Any, Any]) -> bool:
    """Whether the elements of a map can be listed."""
    return isinstance(bpf_map, MappingMap | ArrayMap)


def must_be_readable(bpf_map: Map[Any, Any]) -> None:
    """Raise NotSupported for maps whose elements cannot be listed."""
    if not readable(bpf_map):
        raise NotSupported(f"map {bpf_map.name}: a {type_name(bpf_map.info.type)} has no elements to list")


def elements(bpf_map: Map[Any, Any]) -> list[tuple[Any, Any]]:
    """All elements; of arrays the ones that are not zero."""
    if isinstance(bpf_map, ArrayMap):
        zero = bpf_map.value_codec.decode(bytes(bpf_map.value_codec.size))
        return [(index, value) for index, value in bpf_map.items() if value != zero]
    assert isinstance(bpf_map, MappingMap)
    return list(bpf_map.items())


def view(bpf_map: Map[Any, Any], most: int, per_cpu: bool = False) -> MapView:
    """The `most` busiest elements of a map as text; values per CPU as their sums, or with `per_cpu` a row for each CPU."""
    found = elements(bpf_map)
    value_codec: Any = bpf_map.value_codec
    key_columns, array = columns("key", bpf_map.key_codec), isinstance(bpf_map, ArrayMap)
    if array:
        key_columns = ["index"]
        found.sort(key=lambda element: element[0])
        fill = f"{len(found)} of {bpf_map.max_entries} elements are not zero"
    else:
        found.sort(key=lambda element: weight(element[1]), reverse=True)
        fill = f"{len(found)} of {bpf_map.max_entries} elements"
    split = per_cpu and isinstance(value_codec, PerCpuCodec)
    if split:
        key_columns = [*key_columns, "cpu"]
        rows = [[*cells(key), str(cpu), *cells(item)] for key, value in found[:most] for cpu, item in enumerate(value)]
    else:
        rows = [cells(key) + cells(folded(value)) for key, value in found[:most]]
    names = apart(key_columns, columns("value", value_codec))
    title = f"{printable(bpf_map.name)} ({type_name(bpf_map.type)}, {fill})"
    return MapView(title, names, len(key_columns), rows, max(0, len(found) - most))


def apart(keys: list[str], values: list[str]) -> list[str]:
    """Headings of key and value, told apart where both have a member of a name.

    >>> apart(["pid", "cpu"], ["pid", "count"])
    ['key.pid', 'cpu', 'value.pid', 'count']
    """
    both = set(keys) & set(values)
    return [
        f"{word}.{name}" if name in both else name
        for word, names in (("key", keys), ("value", values))
        for name in names
    ]


def folded(value: Any) -> Any:
    """A value of a per-CPU map as one: the sum; what cannot be added stays as it is."""
    if isinstance(value, PerCpu):
        first = value[0]
        return value.sum() if isinstance(first, int | float | StructValue) else list(value)
    return value


def block(shown: MapView, width: int | None = None) -> Block:
    """A view as aligned lines, cut to so many characters."""
    head, *rest = aligned(shown.columns, shown.rows, width)
    keys = aligned(shown.columns[: shown.key_columns], [row[: shown.key_columns] for row in shown.rows], width)
    key_width = max(map(len, keys))
    return Block(shown.title, head, rest, shown.hidden, key_width)


def lines(shown: MapView) -> list[str]:
    """A view as aligned plain text."""
    return block_lines(block(shown))


def block_lines(shown: Block) -> list[str]:
    """A block as plain text."""
    out = [shown.title, *(f"  {line}" for line in ([shown.head] if shown.head is not None else []) + shown.lines)]
    if shown.hidden:
        out.append(f"  {shown.hidden} more")
    return out


def to_json(value: object) -> Any:
    """A key or value as JSON: structs as objects, bytes as hex."""
    if isinstance(value, PerCpu):
        return [to_json(item) for item in value]
    value = plain(value)
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return value if value is None or isinstance(value, int | float) else str(value)


def map_json(bpf_map: Map[Any, Any]) -> dict[str, Any]:
    """A map with its elements, for json.dumps."""
    found = [{"key": to_json(key), "value": to_json(value)} for key, value in elements(bpf_map)]
    return {"type": type_name(bpf_map.type), "max_entries": bpf_map.max_entries, "elements": found}


def columns(word: str, codec: object) -> list[str]:
    """Headings for values of a type: a struct's members, else `word`; of values per CPU those of one."""
    codec = codec.element if isinstance(codec, PerCpuCodec) else codec
    if isinstance(codec, StructCodec) and codec.cls._fields:
        return list(codec.cls._fields)
    return [word]


def cells(value: object) -> list[str]:
    """A value as the texts under `columns`."""
    if isinstance(value, StructValue) and value._fields:
        return [cell(item) for item in value]
    return [cell(value)]


def cell(value: object) -> str:
    """A value as one line of text that is safe to print."""
    if isinstance(value, str):
        return printable(value)  # such as another process' name
    if isinstance(value, bytes | bytearray):
        return value.hex(" ")
    if isinstance(value, StructValue | UnionValue):
        return ", ".join(f"{name}={cell(getattr(value, name))}" for name in value._fields)
    if isinstance(value, list | tuple):
        return " ".join(cell(item) for item in value)
    name = getattr(value, "name", None)
    return printable(name) if isinstance(name, str) else str(value)


def weight(value: object) -> float:
    """The first number of a value, to put the busiest elements first."""
    if isinstance(value, bool | str | bytes):
        return 0
    if isinstance(value, int | float):
        return value
    if isinstance(value, StructValue):
        return next((weight(item) for item in value if isinstance(item, int | float)), 0)
    return weight(folded(value)) if isinstance(value, PerCpu) else 0
