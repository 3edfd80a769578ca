"""`bpf2py prog` and `bpf2py link`: programs and links of the machine."""

from __future__ import annotations

import json
from typing import Any

import typer

from bpf2py.cli.text import printable
from bpf2py.errors import BpfError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    programs = typer.Typer(help="Programs of the machine: list, show, dump.", no_args_is_help=True)
    programs.command("list")(list_programs)
    programs.command("show")(show)
    programs.command("dump")(dump)
    app.add_typer(programs, name="prog")
    links = typer.Typer(help="Links of the machine: list.", no_args_is_help=True)
    links.command("list")(list_links)
    app.add_typer(links, name="link")


def list_programs(as_json: bool = typer.Option(False, "--json", help="Print a JSON list, for programs.")) -> None:
    """List every program: id, type, name, tag, size, how often it ran. Needs CAP_SYS_ADMIN.

    Examples:

        bpf2py prog list

        bpf2py prog list --json | jq '.[].name'
    """
    from bpf2py.cli.render import echo_rows
    from bpf2py.kernel import inspect

    rows = [_program(info) for info in inspect.programs()]
    echo_rows(
        rows, ["id", "type", "name", "tag", "instructions", "jited_bytes", "runs", "run_time_ns", "maps"], as_json
    )


def show(
    program: str = typer.Argument(..., help="Id, or name."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object, for programs."),
) -> None:
    """Show one program: what `list` tells, one fact a line. Needs CAP_SYS_ADMIN.

    Examples:

        bpf2py prog show count_exec
    """
    row = _program(_find(program))
    if as_json:
        typer.echo(json.dumps(row))
        return
    for name, value in row.items():
        typer.echo(f"{name:>14}  {printable(str(value))}")


def dump(
    program: str = typer.Argument(..., help="Id, or name."),
    jited: bool = typer.Option(False, "--jited", help="Print the machine code as hex instead of BPF instructions."),
) -> None:
    """Print the instructions of a program as the kernel runs them, with their source lines. Needs CAP_SYS_ADMIN.

    Examples:

        bpf2py prog dump count_exec

        bpf2py prog dump 42 --jited
    """
    from bpf2py.programs import Program

    info = _find(program)
    with Program.from_id(info.id, backend="kernel") as found:
        code = found.jited() if jited else found.xlated()
        if not code:
            raise BpfError(
                f"program {info.name}: the kernel does not show its code (CAP_SYS_ADMIN, kernel.kptr_restrict)"
            )
        typer.echo(code.hex(" ", 1) if jited else printable(found.disassemble(source=True), keep="\n\t"))


def list_links(as_json: bool = typer.Option(False, "--json", help="Print a JSON list, for programs.")) -> None:
    """List every link: id, type, program, where. Needs CAP_SYS_ADMIN.

    Examples:

        bpf2py link list

        bpf2py link list --json
    """
    from bpf2py.cli.render import echo_rows
    from bpf2py.kernel import inspect

    rows = [
        {
            "id": link.id,
            "type": link.type,
            "program": link.program_id,
            "details": link.details if as_json else ", ".join(f"{k}={v}" for k, v in link.details.items()),
        }
        for link in inspect.links()
    ]
    echo_rows(rows, ["id", "type", "program", "details"], as_json)


def _program(info: Any) -> dict[str, Any]:
    from bpf2py.uapi.program_types import ProgramType

    try:
        kind = ProgramType(info.type).name
    except ValueError:
        kind = str(info.type)
    return {
        "id": info.id,
        "type": kind,
        "name": info.name,
        "tag": info.tag.hex(),
        "instructions": info.xlated_len // 8,
        "jited_bytes": info.jited_len,
        "runs": info.run_count,
        "run_time_ns": info.run_time_ns,
        "maps": list(info.map_ids),
    }


def _find(program: str) -> Any:
    from bpf2py.kernel import inspect

    found = [info for info in inspect.programs() if program in (str(info.id), info.name)]
    if not found:
        raise BpfError(f"there is no program {program!r}; `bpf2py prog list` shows the ones there are")
    if len(found) > 1:
        raise BpfError(f"several programs are named {program!r}: ids {', '.join(str(info.id) for info in found)}")
    return found[0]
