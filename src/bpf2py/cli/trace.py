"""`bpf2py trace`: what programs print with bpf_printk()."""

from __future__ import annotations

import json

from bpf2py.cli import declared as typer
from bpf2py.kernel.trace_pipe import TracePipe
from bpf2py.printable import printable


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(trace)


def trace(
    count: int = typer.Option(None, min=1, help="Stop after this many lines."),
    timeout: float = typer.Option(None, min=0.0, help="Stop after this many seconds."),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON object for each line."),
) -> None:
    """Follow what all programs of the machine print with bpf_printk(), until Ctrl-C. Needs the right to read tracefs.

    The lines come through a tracefs instance of this command: others who read trace_pipe lose nothing. Where tracefs is not
    mounted, it is mounted for this command alone.

    Examples:

        bpf2py trace

        bpf2py trace --timeout 10 --json | jq -r .text
    """
    seen = 0
    with TracePipe() as pipe:
        for line in pipe.lines(timeout):
            if as_json:
                print(json.dumps(line._asdict()), flush=True)
            elif line.lost:
                print(f"{line.lost} lines of CPU {line.cpu} were lost", flush=True)
            else:
                print(
                    f"{printable(line.task)}-{line.pid} [{line.cpu:03}] {line.seconds:.6f}: {printable(line.text)}",
                    flush=True,
                )
            seen += 1
            if count is not None and seen >= count:
                return
