"""`bpf2py tool`: ready-made tools."""

from __future__ import annotations

from bpf2py.cli import declared as typer
from bpf2py.cli.tool_session import asked, watch
from bpf2py.tools.framework import Filter, Tool

PID = typer.Option(None, "--pid", "-p", min=1, help="Only this process.")
COMM = typer.Option(None, metavar="NAME", help="Only threads of this name, of which 15 bytes count.")
CGROUP = typer.Option(None, metavar="DIRECTORY", help="Only this control group (version 2) and those below it.")
DURATION = typer.Option(None, "--duration", "-d", min=0.0, help="Stop after this many seconds.")
JSON = typer.Option(False, "--json", help="Print a JSON object a line.")
COMMAND = typer.Argument(None, metavar="[-- COMMAND...]", help="Run this, and watch only it and what it starts.")
FAILED = typer.Option(False, "--failed", "-x", help="Only those that fail.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    tools = typer.Typer(
        help="Ready-made tools: what the machine, a process or a command does.\n\n"
        "They watch until Ctrl-C, for --duration seconds, or while COMMAND runs, and say at the end what they lost.",
        no_args_is_help=True,
    )
    for name in ("execsnoop", "opensnoop", "exitsnoop", "killsnoop", "syscount"):
        tools.later(name, f"tool:{name}")
    app.add_typer(tools, name="tool")


def execsnoop(
    failed: bool = typer.Option(False, "--failed", "-x", help="Also attempts that fail."),
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Show programs that are executed, with their arguments.

    PCOMM is the name the thread has then, RET a negative errno where it failed (--failed).

    Examples:

        bpf2py tool execsnoop

        bpf2py tool execsnoop --json -- make -j2 | jq -r '.args | join(" ")'
    """
    from bpf2py.tools.execsnoop import Execsnoop

    def make(wanted: Filter) -> Tool:
        return Execsnoop(wanted, failed=failed)

    watch(make, asked(pid, comm, cgroup, duration, as_json, command))


def opensnoop(
    failed: bool = FAILED,
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Show files that are opened: by whom, the descriptor or the error, and the path as it was given.

    Calls of open, openat and openat2 are shown when they return.

    Examples:

        bpf2py tool opensnoop --failed -- python3 -c 'import json'

        bpf2py tool opensnoop --pid 1234 --json
    """
    from bpf2py.tools.opensnoop import Opensnoop

    def make(wanted: Filter) -> Tool:
        return Opensnoop(wanted, failed=failed)

    watch(make, asked(pid, comm, cgroup, duration, as_json, command))


def exitsnoop(
    failed: bool = typer.Option(
        False, "--failed", "-x", help="Only those with an exit status other than 0, or killed."
    ),
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Show processes that end: how old they were, and their exit status or the signal that killed them.

    Examples:

        bpf2py tool exitsnoop --failed

        bpf2py tool exitsnoop -- make test
    """
    from bpf2py.tools.exitsnoop import Exitsnoop

    def make(wanted: Filter) -> Tool:
        return Exitsnoop(wanted, failed=failed)

    watch(make, asked(pid, comm, cgroup, duration, as_json, command))


def killsnoop(
    failed: bool = FAILED,
    number: int = typer.Option(None, "--signal", "-s", min=0, help="Only this signal, by its number."),
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Show signals that processes send with kill, tkill, tgkill and pidfd_send_signal; signals of the kernel are not among them.

    TARGET is what the call was given: a process or thread, minus a process group, a pidfd.

    Examples:

        bpf2py tool killsnoop

        bpf2py tool killsnoop --signal 9 --json
    """
    from bpf2py.tools.killsnoop import Killsnoop

    def make(wanted: Filter) -> Tool:
        return Killsnoop(wanted, failed=failed, number=number)

    watch(make, asked(pid, comm, cgroup, duration, as_json, command))


def syscount(
    by_process: bool = typer.Option(False, "--process", "-P", help="Count by process."),
    latency: bool = typer.Option(False, "--latency", "-L", help="Also the time they took, and sort by it."),
    failed: bool = FAILED,
    error: str = typer.Option(None, "--errno", "-e", metavar="NAME", help="Only those that fail so, such as ENOENT."),
    top: int = typer.Option(10, "--top", "-T", min=1, help="Rows."),
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Count system calls, by name or by process.

    They count when they begin; with --latency, --failed or --errno when they return. Calls of 32-bit programs do not count.

    Examples:

        bpf2py tool syscount --duration 5

        bpf2py tool syscount --latency -- python3 -c 'import asyncio'
    """
    from bpf2py.tools.syscount import Syscount

    def make(wanted: Filter) -> Tool:
        return Syscount(wanted, by_process=by_process, latency=latency, failed=failed, error=error or "", top=top)

    watch(make, asked(pid, comm, cgroup, duration, as_json, command))
