"""`bpf2py map watch` and `top`: maps as they change."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bpf2py._typing import Any
from bpf2py.cli import declared as typer
from bpf2py.cli.completion import complete_map
from bpf2py.cli.map import facts_of
from bpf2py.cli.render import apart, cells, columns, elements, folded, weight
from bpf2py.cli.values import open_map
from bpf2py.errors import BpfError
from bpf2py.kernel import inspect
from bpf2py.maps.base import Map
from bpf2py.maps.mapping import MappingMap
from bpf2py.printable import printable

MAP = typer.Argument(..., metavar="MAP", help="Id, name, or path of a pinned map.", autocompletion=complete_map)
JSON = typer.Option(False, "--json", help="Print JSON, for programs.")


def _ticks(interval: float, count: int | None) -> Iterator[int]:
    """Numbers from 0 on, `interval` seconds apart, until `count`."""
    number = 0
    while count is None or number < count:
        yield number
        number += 1
        if count is None or number < count:
            time.sleep(interval)


def watch(
    reference: str = MAP,
    interval: float = typer.Option(1.0, min=0.05, help="Seconds between two readings."),
    count: int = typer.Option(None, min=1, help="Stop after this many readings."),
    rows: int = typer.Option(20, min=1, help="Elements shown."),
) -> None:
    """Follow a map until Ctrl-C: its elements, and how fast their numbers grow per second.

    Examples:

        bpf2py map watch exec_counts

        bpf2py map watch exec_counts --interval 0.5 --count 10
    """
    console = Console(highlight=False)
    with open_map(reference) as bpf_map:
        before: dict[str, float] = {}
        then = time.monotonic()
        live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        if live is not None:
            live.start()
        try:
            for _ in _ticks(interval, count):
                found, now = elements(bpf_map), time.monotonic()
                shown, before = _rates(bpf_map, found, before, now - then, rows)
                then = now
                if live is not None:
                    live.update(shown, refresh=True)
                else:
                    console.print(shown)
        finally:
            if live is not None:
                live.stop()


def _rates(
    bpf_map: Any, found: list[tuple[Any, Any]], before: dict[str, float], seconds: float, rows: int
) -> tuple[Any, Any]:
    """(table of elements with their growth per second, what to compare with next time)."""
    weights = {repr(key): weight(value) for key, value in found}
    growth = {
        name: (weight - before[name]) / seconds for name, weight in weights.items() if name in before and seconds > 0
    }
    found.sort(key=lambda element: (growth.get(repr(element[0]), 0), weights[repr(element[0])]), reverse=True)
    table = Table(
        title=Text(f"{printable(bpf_map.name)}: {len(found)} elements"), title_justify="left", box=None, pad_edge=False
    )
    for column in (*apart(columns("key", bpf_map.key_codec), columns("value", bpf_map.value_codec)), "per second"):
        table.add_column(column, overflow="fold")
    for key, value in found[:rows]:
        rate = growth.get(repr(key))
        table.add_row(*map(Text, cells(key) + cells(folded(value))), Text("" if rate is None else f"{rate:+.1f}"))
    return table, weights


def top(
    interval: float = typer.Option(2.0, min=0.1, help="Seconds between two readings."),
    count: int = typer.Option(None, min=1, help="Stop after this many readings."),
    as_json: bool = JSON,
) -> None:
    """Follow all maps of the machine: memory, elements, pressure; growing ones are marked. Needs CAP_SYS_ADMIN.

    Examples:

        bpf2py map top

        bpf2py map top --json
    """
    console = Console(highlight=False)
    before: dict[int, int] = {}
    live = Live(console=console, auto_refresh=False) if console.is_terminal and not as_json else None
    if live is not None:
        live.start()
    try:
        for _ in _ticks(interval, 1 if as_json and count is None else count):
            rows = usage()
            if as_json:
                typer.echo(json.dumps(rows))
                continue
            shown = _usage_table(rows, before)
            before = {row["id"]: row["elements"] for row in rows if row["elements"] is not None}
            if live is not None:
                live.update(shown, refresh=True)
            else:
                console.print(shown)
    finally:
        if live is not None:
            live.stop()


def usage() -> list[dict[str, Any]]:
    """Facts of all maps with their elements and pressure, the largest first."""
    rows = []
    for info in inspect.maps():
        row = facts_of(info) | {"elements": None, "pressure": None}
        try:
            with Map.from_id(info.id) as bpf_map:
                if isinstance(bpf_map, MappingMap) and bpf_map.max_entries:
                    row["elements"] = bpf_map.count()
                    row["pressure"] = round(row["elements"] / bpf_map.max_entries, 4)
        except BpfError:
            pass  # gone meanwhile, or of a type that cannot be counted
        rows.append(row)
    return sorted(rows, key=lambda row: row["memory"] or 0, reverse=True)


def _usage_table(rows: list[dict[str, Any]], before: dict[int, int]) -> Any:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "type", "name", "memory", "elements", "max_entries", "pressure", ""):
        table.add_column(column, justify="left" if column in ("type", "name", "") else "right")
    for row in rows:
        known, pressure = row["elements"], row["pressure"]
        grown = known is not None and row["id"] in before and known > before[row["id"]]
        style = "bold red" if pressure is not None and pressure >= 0.95 else "yellow" if grown else ""
        table.add_row(
            str(row["id"]),
            row["type"],
            Text(printable(row["name"])),
            _size(row["memory"]),
            "" if known is None else str(known),
            str(row["max_entries"]),
            "" if pressure is None else f"{pressure:.0%}",
            "growing" if grown else "",
            style=style,
        )
    return table


def _size(count: int | None) -> str:
    if count is None:
        return ""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
