"""Options of `bpf2py tool` that several tools have."""

from __future__ import annotations

from bpf2py.cli import declared as typer
from bpf2py.cli.tool_session import asked

__all__ = [
    "BY_PROCESS", "COMMON", "FAILED", "LIVE", "TOP", "FREQUENCY", "NATIVE", "POINT", "PORT", "STACKS",
]  # fmt: skip

COMMON = typer.Options(asked)
STACKS = typer.Options(
    asked,
    output=typer.Option(
        None,
        "--output",
        "-o",
        metavar="FILE",
        help="Write the stacks: .html (a flame graph), .folded, .speedscope.json or .pb.gz (pprof).",
    ),
)
LIVE = typer.Options(
    asked,
    live=typer.Option(
        False, "--live", "-l", help="Show what is counted in each interval, refreshed in place; q leaves, keys scroll."
    ),
    interval=typer.Option(1.0, "--interval", "-i", min=0.05, help="Of --live: seconds between two looks."),
)
TOP = typer.Option(20, "--top", "-T", min=1, help="Rows.")
POINT = typer.Argument(
    ...,
    metavar="POINT",
    help="A function, such as libc:malloc or vfs_read, or a tracepoint: tracepoint:sched:sched_switch.",
)
FAILED = typer.Option(False, "--failed", "-x", help="Only those that fail.")
FREQUENCY = typer.Option(99, "--frequency", "-F", min=1, metavar="HZ", help="Samples a second on each CPU.")
NATIVE = typer.Option(True, "--native/--no-native", help="Show native code and the kernel among the frames of Python.")
BY_PROCESS = typer.Option(False, "--process", "-P", help="A histogram for each process.")
PORT = typer.Option(None, "--port", min=1, metavar="N", help="Only connections with this port on either side.")
