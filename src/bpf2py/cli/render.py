"""Maps as tables for people and as JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bpf2py.btf.values import StructCodec, StructValue, UnionValue, plain
from bpf2py.cli.text import printable
from bpf2py.errors import NotSupported
from bpf2py.maps.array import ArrayMap
from bpf2py.maps.base import Map
from bpf2py.maps.mapping import MappingMap
from bpf2py.maps.percpu import PerCpu
from bpf2py.uapi.map_types import type_name

if TYPE_CHECKING:
    from rich.console import Group


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


def view(bpf_map: Map[Any, Any], most: int) -> MapView:
    """The `most` busiest elements of a map as text."""
    found = elements(bpf_map)
    key_columns, value_columns = columns("key", bpf_map.key_codec), columns("value", bpf_map.value_codec)
    if isinstance(bpf_map, ArrayMap):
        key_columns = ["index"]
        found.sort(key=lambda element: element[0])
        fill = f"{len(found)} of {bpf_map.max_entries} elements are not zero"
    else:
        found.sort(key=lambda element: weight(element[1]), reverse=True)
        fill = f"{len(found)} of {bpf_map.max_entries} elements"
    rows = [cells(key) + cells(value) for key, value in found[:most]]
    title = f"{printable(bpf_map.name)} ({type_name(bpf_map.type)}, {fill})"
    return MapView(title, key_columns + value_columns, len(key_columns), rows, max(0, len(found) - most))


def table(shown: MapView) -> Group:
    """A view for rich: the title, the table, and how much is left out."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = Table(header_style="bold", box=None, pad_edge=False)
    for position, column in enumerate(shown.columns):
        numeric = all(_numeric(row[position]) for row in shown.rows)
        style = "cyan" if position < shown.key_columns else None
        rows.add_column(column, justify="right" if numeric else "left", style=style, overflow="fold")
    for row in shown.rows:
        rows.add_row(*[Text(cell) for cell in row])
    # Beside the table, not its own: rich folds those to the width of the columns.
    parts: list[Any] = [Text(shown.title, style="bold"), rows]
    if shown.hidden:
        parts.append(Text(f"{shown.hidden} more", style="dim"))
    return Group(*parts)


def aligned(columns: list[str], rows: list[list[str]]) -> list[str]:
    """Rows below their columns' names as plain text that is safe to print, numbers to the right."""
    columns, *rows = [[printable(cell) for cell in row] for row in (columns, *rows)]
    grid = [columns, *rows]
    widths = [max(len(row[i]) for row in grid) for i in range(len(columns))]
    numeric = [bool(rows) and all(_numeric(row[i]) for row in rows) for i in range(len(columns))]
    return [
        "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)).rstrip()
        for row in grid
    ]


def echo_rows(rows: list[dict[str, Any]], columns: list[str], as_json: bool) -> None:
    """Print what a command lists: a line for each row, however long, or all rows as JSON."""
    import json

    import typer

    if as_json:
        typer.echo(json.dumps(rows))
        return
    cells = [[row[column] for column in columns] for row in rows]
    text = [[" ".join(map(str, cell)) if isinstance(cell, list) else str(cell) for cell in row] for row in cells]
    head, *rest = aligned(columns, text)
    typer.secho(head, bold=True)
    for line in rest:
        typer.echo(line)


def lines(shown: MapView) -> list[str]:
    """A view as aligned plain text."""
    out = [shown.title, *(f"  {line}" for line in aligned(shown.columns, shown.rows))]
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
    """Headings for values of a type: a struct's members, else `word`."""
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
    total = getattr(value, "sum", None)
    return weight(total()) if callable(total) else 0


def _numeric(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()
