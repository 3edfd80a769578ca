"""`bpf2py map`: any map of the kernel, typed by its BTF."""

from __future__ import annotations

from bpf2py._typing import Any
from bpf2py.cli import declared as typer
from bpf2py.cli.objects import LONG_HELP, held, in_words
from bpf2py.cli.table import echo_rows
from bpf2py.kernel import inspect
from bpf2py.uapi.map_types import type_name


def register(app: typer.Typer) -> None:
    """Add the commands."""
    maps = typer.Typer(
        help="Maps of the machine, by id, name or pin path, typed by their BTF.\n\n"
        "Keys and values: 5, 0x1f, bash, 10.0.0.0/8; structs as pid=1,comm=bash or JSON; raw bytes as 'hex:0a 0b'.",
        no_args_is_help=True,
    )
    maps.command("list")(list_maps)
    # Else a negative number would be taken for an option.
    negative = {"ignore_unknown_options": True}
    maps.later("show", "map_elements:show")
    maps.later("dump", "map_elements:dump")
    maps.later("get", "map_elements:get", context_settings=negative)
    maps.later("set", "map_elements:set_element", context_settings=negative)
    maps.later("delete", "map_elements:delete", context_settings=negative)
    maps.later("push", "map_elements:push", context_settings=negative)
    maps.later("pop", "map_elements:pop")
    maps.later("peek", "map_objects:peek")
    maps.later("next", "map_objects:next_key", context_settings=negative)
    maps.later("create", "map_objects:create")
    maps.later("pin", "map_objects:pin")
    maps.later("freeze", "map_objects:freeze")
    maps.later("watch", "map_watch:watch")
    maps.later("top", "map_watch:top")
    maps.later("export", "transfer:export")
    maps.later("import", "transfer:import_elements")
    app.add_typer(maps, name="map")
    app.later("events", "transfer:events")


def facts_of(info: Any) -> dict[str, Any]:
    """What is told of a map."""
    return {
        "id": info.id,
        "type": type_name(info.type),
        "name": info.name,
        "key_size": info.key_size,
        "value_size": info.value_size,
        "max_entries": info.max_entries,
        "flags": info.flags,
        "memory": inspect.map_memory(info.id),
    }


def list_maps(
    long: bool = typer.Option(False, "--long", "-l", help=LONG_HELP),
    as_json: bool = typer.Option(False, "--json", help="Print JSON, for programs."),
) -> None:
    """List every map: id, type, name, sizes, memory. Needs CAP_SYS_ADMIN.

    Examples:

        bpf2py map list

        bpf2py map list --long

        bpf2py map list --json | jq '.[] | select(.memory > 1000000) | .name'
    """
    rows = [facts_of(info) for info in inspect.maps()]
    columns = ["id", "type", "name", "key_size", "value_size", "max_entries", "memory"]
    if long:
        held("map", rows)
        columns += ["pids", "pinned"]
        if not as_json:
            rows = [{name: in_words(value) for name, value in row.items()} for row in rows]
    echo_rows(rows, columns, as_json)
