"""`bpf2py prog`: programs of the machine."""

from __future__ import annotations

from bpf2py._typing import Any
from bpf2py.cli import declared as typer
from bpf2py.cli import prog_objects, top
from bpf2py.cli.objects import (
    LONG_HELP,
    complete_program,
    held,
    in_words,
    moment,
    open_program,
    print_facts,
    type_name_of,
)
from bpf2py.cli.table import echo_rows
from bpf2py.cli.text import printable
from bpf2py.errors import BpfError

PROGRAM = typer.Argument(..., help="Id, name, or path of a pinned program.", autocompletion=complete_program)
JSON = typer.Option(False, "--json", help="Print JSON, for programs.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    programs = typer.Typer(help="Programs of the machine.", no_args_is_help=True)
    programs.command("list")(list_programs)
    programs.command("show")(show)
    programs.command("dump")(dump)
    programs.command("top")(top.top)
    programs.command("profile")(prog_objects.profile)
    programs.command("load")(prog_objects.load_programs)
    programs.command("attach")(prog_objects.attach)
    programs.command("detach")(prog_objects.detach)
    programs.command("pin")(prog_objects.pin)
    app.add_typer(programs, name="prog")


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
    from bpf2py.kernel import inspect

    rows = [_program(info) for info in inspect.programs()]
    columns = ["id", "type", "name", "tag", "instructions", "jited_bytes", "runs", "run_time_ns", "maps"]
    if long:
        held("prog", rows)
        columns = ["id", "type", "name", "loaded_at", "uid", "maps", "pids", "pinned"]
    if not as_json:
        rows = [{name: in_words(value) for name, value in row.items()} for row in rows]
    echo_rows(rows, columns, as_json)


def show(program: str = PROGRAM, as_json: bool = JSON) -> None:
    """Show one program, one fact a line: what `list` tells, who holds it, and where it is pinned. Needs CAP_SYS_ADMIN.

    Examples:

        bpf2py prog show count_exec

        bpf2py prog show 42 --json
    """
    import os

    with open_program(program) as found:
        row = _program(found.info)
        held("prog", [row])
    row["pids"] = [owner for owner in row["pids"] if owner["pid"] != os.getpid()]
    print_facts(row, as_json)


def dump(
    program: str = PROGRAM,
    jited: bool = typer.Option(False, "--jited", help="Print the machine code as hex instead of BPF instructions."),
) -> None:
    """Print the instructions of a program as the kernel runs them, with their source lines. Needs CAP_SYS_ADMIN.

    Examples:

        bpf2py prog dump count_exec

        bpf2py prog dump 42 --jited
    """
    with open_program(program) as found:
        code = found.jited() if jited else found.xlated()
        if not code:
            raise BpfError(
                f"program {found.name}: the kernel does not show its code (CAP_SYS_ADMIN, kernel.kptr_restrict)"
            )
        typer.echo(code.hex(" ", 1) if jited else printable(found.disassemble(source=True), keep="\n\t"))


def _program(info: Any) -> dict[str, Any]:
    from bpf2py.kernel.owners import loaded_at

    return {
        "id": info.id,
        "type": type_name_of(info.type),
        "name": info.name,
        "tag": info.tag.hex(),
        "instructions": info.xlated_len // 8,
        "jited_bytes": info.jited_len,
        "runs": info.run_count,
        "run_time_ns": info.run_time_ns,
        "maps": list(info.map_ids),
        "loaded_at": moment(loaded_at(info.load_time_ns)),
        "uid": info.created_by_uid,
        "btf_id": info.btf_id,
    }
