"""`bpf2py doctor`: what this machine allows, what is missing, and the command that fixes it."""

from __future__ import annotations

from bpf2py.cli import declared as typer
from bpf2py.engine.code.native import can_run
from bpf2py.engine.code.processors import processor
from bpf2py.kernel.environment import Environment
from bpf2py.kernel.findings import Finding, find_compiler_row, findings
from bpf2py.kernel.probes import Probes

MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "missing": ("MISSING", "bold red")}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object, for programs."),
) -> None:
    """Say what this machine allows eBPF programs, what is missing, and how to fix it.

    Exit status 0 when programs can be loaded into the kernel, 1 otherwise.

    Examples:

        bpf2py doctor

        bpf2py doctor --json | jq -r .backend
    """
    environment, probes = Environment.read(), Probes.run()
    rows = [*findings(environment, probes), find_compiler_row(), engine_row()]
    backend = "kernel" if probes.kernel_usable else "engine"
    if as_json:
        import json

        report = {
            "backend": backend,
            "kernel_usable": probes.kernel_usable,
            "findings": [row._asdict() for row in rows],
        }
        typer.echo(json.dumps(report, indent=2))
    else:
        _print(rows)
        if probes.kernel_usable:
            typer.echo("\nPrograms are loaded into the kernel (backend: kernel).")
        else:
            typer.echo(
                "\nThis process cannot load programs into the kernel: see what is missing above. The embedded engine runs them on\n"
                "events of a command (bpf2py run FILE -- COMMAND), on packets (bpf2py packets) and in tests (backend: engine)."
            )
    if not probes.kernel_usable:
        raise typer.Exit(1)


def engine_row() -> Finding:
    """How the embedded engine would run programs here."""
    if can_run():
        return Finding("engine", "machine code")
    why = (
        "no memory may be made executable here"
        if processor() is not None
        else "machine code is for Linux on x86-64 and aarch64"
    )
    return Finding("engine", "Python", "note", f"programs on the embedded engine run some hundred times slower: {why}")


def _print(rows: list[Finding]) -> None:
    """The findings for people: a table, then what is not as it should be, with commands on lines of their own."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    for row in rows:
        mark, style = MARKS[row.state]
        table.add_row(Text(mark, style=style), Text(row.name), Text(row.value))
    console.print(table)
    said = set()
    for row in rows:
        if row.state != "ok":
            mark, style = MARKS[row.state]
            # No wrapping: what follows the arrow is to be copied into a shell.
            console.print(Text.assemble("\n", (mark, style), f" {row.name}: {row.effect}"), soft_wrap=True)
            for number, remedy in enumerate(row.remedy.splitlines() if row.remedy not in said else ()):
                console.print(Text.assemble("  or " if number else "  -> ", (remedy, "bold")), soft_wrap=True)
            said.add(row.remedy)
