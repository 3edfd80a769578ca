"""`bpf2py map`: any map of the kernel, typed by its BTF."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.cli import declared as typer
from bpf2py.cli import map_objects, transfer
from bpf2py.cli.objects import LONG_HELP, complete_map, held, in_words, print_facts
from bpf2py.cli.table import aligned, echo_rows, terminal_width
from bpf2py.cli.text import printable
from bpf2py.errors import BpfError, NotSupported
from bpf2py.uapi.map_types import type_name

if TYPE_CHECKING:
    import csv
    import json
else:
    json = module("json")
    csv = module("csv")

MAP = typer.Argument(..., metavar="MAP", help="Id, name, or path of a pinned map.", autocompletion=complete_map)
KEY = typer.Argument(..., metavar="KEY", help="By its BTF type: 5, 0x1f, bash, pid=1,comm=bash, JSON, or 'hex:0a 0b'.")
VALUE = typer.Argument(
    ..., metavar="VALUE", help="Written as keys are: 5, bash, pid=1,comm=bash, JSON, or 'hex:0a 0b'."
)
JSON = typer.Option(False, "--json", help="Print JSON, for programs.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    maps = typer.Typer(
        help="Maps of the machine, by id, name or pin path, typed by their BTF.\n\n"
        "Keys and values: 5, 0x1f, bash, 10.0.0.0/8; structs as pid=1,comm=bash or JSON; raw bytes as 'hex:0a 0b'.",
        no_args_is_help=True,
    )
    maps.command("list")(list_maps)
    maps.command("show")(show)
    maps.command("dump")(dump)
    # Else a negative number would be taken for an option.
    negative = {"ignore_unknown_options": True}
    maps.command("get", context_settings=negative)(get)
    maps.command("set", context_settings=negative)(set_element)
    maps.command("delete", context_settings=negative)(delete)
    maps.command("push", context_settings=negative)(push)
    maps.command("pop")(pop)
    maps.command("peek")(map_objects.peek)
    maps.command("next", context_settings=negative)(map_objects.next_key)
    maps.command("create")(map_objects.create)
    maps.command("pin")(map_objects.pin)
    maps.command("freeze")(map_objects.freeze)
    maps.command("watch")(watch)
    maps.command("top")(top)
    maps.command("export")(transfer.export)
    maps.command("import")(transfer.import_elements)
    app.add_typer(maps, name="map")
    app.command("events")(transfer.events)


def _facts(info: Any) -> dict[str, Any]:
    from bpf2py.kernel.inspect import map_memory

    return {
        "id": info.id,
        "type": type_name(info.type),
        "name": info.name,
        "key_size": info.key_size,
        "value_size": info.value_size,
        "max_entries": info.max_entries,
        "flags": info.flags,
        "memory": map_memory(info.id),
    }


def list_maps(
    long: bool = typer.Option(False, "--long", "-l", help=LONG_HELP),
    as_json: bool = JSON,
) -> None:
    """List every map: id, type, name, sizes, memory. Needs CAP_SYS_ADMIN.

    Examples:

        bpf2py map list

        bpf2py map list --long

        bpf2py map list --json | jq '.[] | select(.memory > 1000000) | .name'
    """
    from bpf2py.kernel import inspect

    rows = [_facts(info) for info in inspect.maps()]
    columns = ["id", "type", "name", "key_size", "value_size", "max_entries", "memory"]
    if long:
        held("map", rows)
        columns += ["pids", "pinned"]
        if not as_json:
            rows = [{name: in_words(value) for name, value in row.items()} for row in rows]
    echo_rows(rows, columns, as_json)


def show(reference: str = MAP, as_json: bool = JSON) -> None:
    """Show one map: types, sizes, how full it is, who holds it and where it is pinned.

    Examples:

        bpf2py map show exec_counts

        bpf2py map show 42 --json
    """
    from bpf2py.cli.render import readable
    from bpf2py.cli.values import open_map

    with open_map(reference) as bpf_map:
        row = _facts(bpf_map.info) | {"key": bpf_map.key_codec.name, "value": bpf_map.value_codec.name}
        if readable(bpf_map):
            row |= {"elements": bpf_map.count(), "pressure": round(bpf_map.pressure(), 4)}  # type: ignore[attr-defined]
        held("map", [row])
    row["pids"] = [owner for owner in row["pids"] if owner["pid"] != os.getpid()]
    print_facts(row, as_json)


def dump(
    reference: str = MAP,
    as_json: bool = JSON,
    as_csv: bool = typer.Option(False, "--csv", help="Print CSV, a column for each struct member."),
    parquet: str = typer.Option(None, metavar="FILE", help="Write a Parquet file (extra: arrow)."),
    per_cpu: bool = typer.Option(
        False, "--per-cpu", help="Print the values of each CPU, not their sums (JSON has them anyway)."
    ),
) -> None:
    """Print all elements of a map; of a data section its global variables.

    Examples:

        bpf2py map dump exec_counts

        bpf2py map dump /sys/fs/bpf/counts --json

        bpf2py map dump exec_counts --parquet counts.parquet

        bpf2py map dump exec_eve.bss
    """
    from bpf2py.cli.json_dump import dump as dump_json
    from bpf2py.cli.render import block, block_lines, cell, must_be_readable, view
    from bpf2py.cli.sections import variables_of
    from bpf2py.cli.values import open_map

    with open_map(reference) as bpf_map:
        must_be_readable(bpf_map)
        if parquet is not None:
            try:
                from pyarrow import parquet as writer
            except ImportError:
                raise NotSupported("pyarrow is not installed: pip install 'bpf2py[arrow]'", feature="pyarrow") from None
            writer.write_table(bpf_map.to_arrow(), parquet)  # type: ignore[attr-defined]
        elif as_json:
            dump_json(bpf_map)
        elif as_csv:
            shown = view(bpf_map, 1 << 62, per_cpu)
            writer_ = csv.writer(sys.stdout, lineterminator="\n")
            writer_.writerow(shown.columns)
            writer_.writerows(shown.rows)
        else:
            found = variables_of(bpf_map)
            if found is not None:
                rows = [[name, cell(variable.value)] for name, variable in found.items()]
                typer.echo("\n".join(aligned(["variable", "value"], rows, terminal_width())))
                return
            typer.echo("\n".join(block_lines(block(view(bpf_map, 1 << 62, per_cpu), terminal_width()))))


def get(reference: str = MAP, key: str = KEY, as_json: bool = JSON) -> None:
    """Print the value of a key, or of a global variable. Exit status 1 when the key is not there.

    Examples:

        bpf2py map get config 0

        bpf2py map get counts 'pid=1,comm=bash' --json

        bpf2py map get exec_eve.bss lost
    """
    from bpf2py.cli.render import cell, to_json
    from bpf2py.cli.sections import is_index, variable, variables_of
    from bpf2py.cli.values import open_map

    with open_map(reference) as bpf_map:
        found = None if is_index(key) else variables_of(bpf_map)
        value = _of_key(bpf_map, key) if found is None else variable(bpf_map, found, key).value
        typer.echo(json.dumps(to_json(value)) if as_json else cell(value))


def _of_key(bpf_map: Any, key: str) -> Any:
    from bpf2py.cli.values import parse

    return bpf_map[parse(bpf_map.key_codec, key, "key")]


def set_element(
    reference: str = MAP,
    key: str = KEY,
    value: str = VALUE,
    create: bool = typer.Option(False, "--create", help="Only if the key is not there (BPF_NOEXIST)."),
    replace: bool = typer.Option(False, "--replace", help="Only if the key is there (BPF_EXIST)."),
) -> None:
    """Set the value of a key, or of a global variable.

    Examples:

        bpf2py map set config 0 1000

        bpf2py map set counts 'pid=1,comm=bash' '{"count": 5, "last_ns": 0}'

        bpf2py map set exec_eve.bss lost 0
    """
    from bpf2py.cli.sections import is_index, set_variable, variables_of
    from bpf2py.cli.values import open_map, parse
    from bpf2py.maps.percpu import PerCpuCodec

    if create and replace:
        raise BpfError("--create and --replace exclude each other")
    with open_map(reference) as bpf_map:
        found = None if is_index(key) else variables_of(bpf_map)
        if found is not None:
            set_variable(bpf_map, found, key, value)
            return
        codec: Any = bpf_map.value_codec
        codec = codec.element if isinstance(codec, PerCpuCodec) else codec
        bpf_map.put(  # type: ignore[attr-defined]
            parse(bpf_map.key_codec, key, "key"), parse(codec, value, "value"), 1 if create else 2 if replace else 0
        )


def delete(reference: str = MAP, key: str = KEY) -> None:
    """Remove a key. Exit status 1 when the key is not there.

    Examples:

        bpf2py map delete counts 'pid=1,comm=bash'

        bpf2py map delete routes 10.0.0.0/8
    """
    from bpf2py.cli.values import open_map, parse

    with open_map(reference) as bpf_map:
        del bpf_map[parse(bpf_map.key_codec, key, "key")]  # type: ignore[attr-defined]


def push(reference: str = MAP, value: str = VALUE) -> None:
    """Push a value to a QUEUE or STACK. Exit status 1 when it is full.

    Examples:

        bpf2py map push requests 'hex:05 00 00 00'
    """
    from bpf2py.cli.values import open_map, parse

    with open_map(reference) as bpf_map:
        _queue(bpf_map).push(parse(bpf_map.value_codec, value, "value"))


def pop(reference: str = MAP, as_json: bool = JSON) -> None:
    """Take the next value from a QUEUE or STACK. Exit status 1 when it is empty.

    Examples:

        bpf2py map pop requests
    """
    from bpf2py.cli.render import cell, to_json
    from bpf2py.cli.values import open_map

    with open_map(reference) as bpf_map:
        value = _queue(bpf_map).pop()
        typer.echo(json.dumps(to_json(value)) if as_json else cell(value))


def _queue(bpf_map: Any) -> Any:
    if not hasattr(bpf_map, "push"):
        raise BpfError(
            f"map {bpf_map.name}: push and pop are for QUEUE and STACK, this is a {type_name(bpf_map.info.type)}"
        )
    return bpf_map


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
    from rich.console import Console
    from rich.live import Live

    from bpf2py.cli.render import elements
    from bpf2py.cli.values import open_map

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
    from rich.table import Table
    from rich.text import Text

    from bpf2py.cli.render import apart, cells, columns, folded, weight

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
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    before: dict[int, int] = {}
    live = Live(console=console, auto_refresh=False) if console.is_terminal and not as_json else None
    if live is not None:
        live.start()
    try:
        for _ in _ticks(interval, 1 if as_json and count is None else count):
            rows = _usage()
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


def _usage() -> list[dict[str, Any]]:
    from bpf2py.kernel import inspect
    from bpf2py.maps.base import Map
    from bpf2py.maps.mapping import MappingMap

    rows = []
    for info in inspect.maps():
        row = _facts(info) | {"elements": None, "pressure": None}
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
    from rich.table import Table
    from rich.text import Text

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
