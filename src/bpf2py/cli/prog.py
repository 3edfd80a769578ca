"""`bpf2py prog`: programs of the machine."""

from __future__ import annotations

from bpf2py._typing import Any
from bpf2py.cli import declared as typer
from bpf2py.cli.objects import LONG_HELP, held, in_words, moment
from bpf2py.cli.table import echo_rows
from bpf2py.kernel import inspect
from bpf2py.kernel.owners import loaded_at
from bpf2py.uapi.program_types import program_type_name

JSON = typer.Option(False, "--json", help="Print JSON, for programs.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    programs = typer.Typer(help="Programs of the machine.", no_args_is_help=True)
    programs.command("list")(list_programs)
    programs.later("show", "prog_objects:show")
    programs.later("dump", "prog_objects:dump")
    programs.later("top", "top:top", hidden=True)  # its former name
    programs.later("profile", "prog_objects:profile")
    programs.later("stream", "prog_objects:stream")
    programs.later("load", "prog_objects:load_programs")
    programs.later("attach", "prog_objects:attach")
    programs.later("detach", "prog_objects:detach")
    programs.later("pin", "prog_objects:pin")
    app.add_typer(programs, name="prog")
    app.later("top", "top:top")


def list_programs(
    long: bool = typer.Option(False, "--long", "-l", help=LONG_HELP),
    as_json: bool = JSON,
) -> None:
    """List every program: id, type, name, tag, size, how often it ran. Needs CAP_SYS_ADMIN.

    Examples:

        bpf2py prog list

        bpf2py prog list --long

        bpf2py prog list --json | jq '.[].name'
    """
    rows = [facts_of(info) for info in inspect.programs()]
    columns = ["id", "type", "name", "tag", "instructions", "jited_bytes", "runs", "run_time_ns", "maps"]
    if long:
        held("prog", rows)
        columns = ["id", "type", "name", "loaded_at", "uid", "maps", "pids", "pinned"]
    if not as_json:
        rows = [{name: in_words(value) for name, value in row.items()} for row in rows]
    echo_rows(rows, columns, as_json)


def facts_of(info: Any) -> dict[str, Any]:
    """What is told of a program."""
    return {
        "id": info.id,
        "type": program_type_name(info.type),
        "name": info.name,
        "tag": info.tag.hex(),
        "instructions": info.xlated_len // 8,
        "jited_bytes": info.jited_len,
        "runs": info.run_count,
        "run_time_ns": info.run_time_ns,
        "recursion_misses": info.recursion_misses,
        "maps": list(info.map_ids),
        "loaded_at": moment(loaded_at(info.load_time_ns)),
        "uid": info.created_by_uid,
        "btf_id": info.btf_id,
    }
