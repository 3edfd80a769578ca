"""`bpf2py map show`, `dump`, `get`, `set`, `delete`, `push` and `pop`."""

from __future__ import annotations

import csv
import json
import os
import sys

from bpf2py._typing import Any
from bpf2py.cli import declared as typer
from bpf2py.cli.completion import complete_map
from bpf2py.cli.json_dump import dump as dump_json
from bpf2py.cli.map import facts_of
from bpf2py.cli.objects import held, print_facts
from bpf2py.cli.render import block, block_lines, cell, must_be_readable, readable, to_json, view
from bpf2py.cli.sections import is_index, set_variable, variable, variables_of
from bpf2py.cli.table import aligned, terminal_width
from bpf2py.cli.values import open_map, parse
from bpf2py.errors import BpfError, NotSupported
from bpf2py.maps.percpu import PerCpuCodec
from bpf2py.uapi.map_types import type_name

MAP = typer.Argument(..., metavar="MAP", help="Id, name, or path of a pinned map.", autocompletion=complete_map)
KEY = typer.Argument(..., metavar="KEY", help="By its BTF type: 5, 0x1f, bash, pid=1,comm=bash, JSON, or 'hex:0a 0b'.")
VALUE = typer.Argument(
    ..., metavar="VALUE", help="Written as keys are: 5, bash, pid=1,comm=bash, JSON, or 'hex:0a 0b'."
)
JSON = typer.Option(False, "--json", help="Print JSON, for programs.")


def show(reference: str = MAP, as_json: bool = JSON) -> None:
    """Show one map: types, sizes, how full it is, who holds it and where it is pinned.

    Examples:

        bpf2py map show exec_counts

        bpf2py map show 42 --json
    """
    with open_map(reference) as bpf_map:
        row = facts_of(bpf_map.info) | {"key": bpf_map.key_codec.name, "value": bpf_map.value_codec.name}
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
    with open_map(reference) as bpf_map:
        found = None if is_index(key) else variables_of(bpf_map)
        value = _of_key(bpf_map, key) if found is None else variable(bpf_map, found, key).value
        typer.echo(json.dumps(to_json(value)) if as_json else cell(value))


def _of_key(bpf_map: Any, key: str) -> Any:
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
    with open_map(reference) as bpf_map:
        del bpf_map[parse(bpf_map.key_codec, key, "key")]  # type: ignore[attr-defined]


def push(reference: str = MAP, value: str = VALUE) -> None:
    """Push a value to a QUEUE or STACK. Exit status 1 when it is full.

    Examples:

        bpf2py map push requests 'hex:05 00 00 00'
    """
    with open_map(reference) as bpf_map:
        _queue(bpf_map).push(parse(bpf_map.value_codec, value, "value"))


def pop(reference: str = MAP, as_json: bool = JSON) -> None:
    """Take the next value from a QUEUE or STACK. Exit status 1 when it is empty.

    Examples:

        bpf2py map pop requests
    """
    with open_map(reference) as bpf_map:
        value = _queue(bpf_map).pop()
        typer.echo(json.dumps(to_json(value)) if as_json else cell(value))


def _queue(bpf_map: Any) -> Any:
    if not hasattr(bpf_map, "push"):
        raise BpfError(
            f"map {bpf_map.name}: push and pop are for QUEUE and STACK, this is a {type_name(bpf_map.info.type)}"
        )
    return bpf_map
