"""What commands about maps, programs and links share: owners and pins, and facts as text."""

from __future__ import annotations

import time

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.cli.declared import echo
from bpf2py.printable import printable

if TYPE_CHECKING:
    import json

    from bpf2py.kernel import owners
else:
    json = module("json")
    owners = module("bpf2py.kernel.owners")

LONG_HELP = "Tell more: processes that hold it, pins, and of programs when and by whom they were loaded."


def held(kind: str, rows: list[dict[str, Any]]) -> None:
    """Add the processes that hold the objects, and the paths they are pinned to, to rows with an ``id``."""
    processes, paths = owners.owners(kind), owners.pins(kind) if kind != "btf" else {}
    for row in rows:
        row["pids"] = [{"pid": owner.pid, "comm": owner.comm} for owner in processes.get(row["id"], [])]
        if kind != "btf":
            row["pinned"] = paths.get(row["id"], [])


def in_words(value: Any) -> str:
    """A fact as text."""
    if isinstance(value, list):
        return " ".join(map(in_words, value))
    if isinstance(value, dict) and set(value) == {"pid", "comm"}:
        return f"{value['comm']}({value['pid']})"
    if isinstance(value, dict):
        return " ".join(f"{name}={in_words(item)}" for name, item in value.items())
    return str(value)


def print_facts(row: dict[str, Any], as_json: bool) -> None:
    """One object: a fact a line, or a JSON object."""
    if as_json:
        echo(json.dumps(row))
        return
    width = max(map(len, row))
    for name, value in row.items():
        echo(f"{name:>{width}}  {printable(in_words(value))}")


def moment(seconds: float) -> str:
    """A time as people write it: ``2026-11-27 21:30:05``."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
