"""`bpf2py tool`: what processes do."""

from __future__ import annotations

from functools import partial

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING
from bpf2py.cli import declared as typer
from bpf2py.cli.tool_options import COMMON, FAILED, LIVE, TOP
from bpf2py.cli.tool_session import watch

if TYPE_CHECKING:
    from bpf2py.cli.tool_session import Asked
    from bpf2py.tools import bashreadline as bashreadline_tool
    from bpf2py.tools import execsnoop as execsnoop_tool
    from bpf2py.tools import exitsnoop as exitsnoop_tool
    from bpf2py.tools import filetop as filetop_tool
    from bpf2py.tools import killsnoop as killsnoop_tool
    from bpf2py.tools import opensnoop as opensnoop_tool
    from bpf2py.tools import syscount as syscount_tool
else:
    bashreadline_tool = module("bpf2py.tools.bashreadline")
    filetop_tool = module("bpf2py.tools.filetop")
    execsnoop_tool = module("bpf2py.tools.execsnoop")
    exitsnoop_tool = module("bpf2py.tools.exitsnoop")
    killsnoop_tool = module("bpf2py.tools.killsnoop")
    opensnoop_tool = module("bpf2py.tools.opensnoop")
    syscount_tool = module("bpf2py.tools.syscount")


def execsnoop(
    failed: bool = typer.Option(False, "--failed", "-x", help="Also attempts that fail."),
    what: Asked = COMMON,
) -> None:
    """Show programs that are executed, with their arguments.

    PCOMM is the name the thread has then, RET a negative errno where it failed (--failed).

    Examples:

        bpf2py tool execsnoop

        bpf2py tool execsnoop --json -- make -j2 | jq -r '.args | join(" ")'
    """
    watch(partial(execsnoop_tool.Execsnoop, failed=failed), what)


def opensnoop(
    failed: bool = FAILED,
    what: Asked = COMMON,
) -> None:
    """Show files that are opened: by whom, the descriptor or the error, and the path as it was given.

    Calls of open, openat and openat2 are shown when they return.

    Examples:

        bpf2py tool opensnoop --failed -- python3 -c 'import json'

        bpf2py tool opensnoop --pid 1234 --json
    """
    watch(partial(opensnoop_tool.Opensnoop, failed=failed), what)


def exitsnoop(
    failed: bool = typer.Option(
        False, "--failed", "-x", help="Only those with an exit status other than 0, or killed."
    ),
    what: Asked = COMMON,
) -> None:
    """Show processes that end: how old they were, and their exit status or the signal that killed them.

    Examples:

        bpf2py tool exitsnoop --failed

        bpf2py tool exitsnoop -- make test
    """
    watch(partial(exitsnoop_tool.Exitsnoop, failed=failed), what)


def killsnoop(
    failed: bool = FAILED,
    number: int = typer.Option(None, "--signal", "-s", min=0, help="Only this signal, by its number."),
    what: Asked = COMMON,
) -> None:
    """Show signals that processes send with kill, tkill, tgkill and pidfd_send_signal; signals of the kernel are not among them.

    TARGET is what the call was given: a process or thread, minus a process group, a pidfd.

    Examples:

        bpf2py tool killsnoop

        bpf2py tool killsnoop --signal 9 --json
    """
    watch(
        partial(killsnoop_tool.Killsnoop, failed=failed, number=number),
        what,
    )


def syscount(
    by_process: bool = typer.Option(False, "--process", "-P", help="Count by process."),
    latency: bool = typer.Option(False, "--latency", "-L", help="Also the time they took, and sort by it."),
    failed: bool = FAILED,
    error: str = typer.Option(None, "--errno", "-e", metavar="NAME", help="Only those that fail so, such as ENOENT."),
    top: int = typer.Option(10, "--top", "-T", min=1, help="Rows."),
    what: Asked = LIVE,
) -> None:
    """Count system calls, by name or by process.

    They count when they begin; with --latency, --failed or --errno when they return. Calls of 32-bit programs do not count.

    Examples:

        bpf2py tool syscount --duration 5

        bpf2py tool syscount --live --process

        bpf2py tool syscount --latency -- python3 -c 'import asyncio'
    """
    watch(
        partial(
            syscount_tool.Syscount, by_process=by_process, latency=latency, failed=failed, error=error or "", top=top
        ),
        what,
    )


def filetop(
    every: bool = typer.Option(False, "--all", "-a", help="Also pipes, sockets, terminals and devices."),
    top: int = TOP,
    what: Asked = LIVE,
) -> None:
    """Count what processes read from and write to files: by read and write and their like, when they return.

    What is read through a mapping, by sendfile, splice, copy_file_range or io_uring does not count. FILE is the file, and the
    directory it is in.

    Examples:

        bpf2py tool filetop --live

        bpf2py tool filetop -- make
    """
    watch(partial(filetop_tool.Filetop, every=every, top=top), what)


def bashreadline(
    binary: str = typer.Option(
        "bash", metavar="BINARY", help="What has readline(): a program, or a library such as libreadline.so.8."
    ),
    what: Asked = COMMON,
) -> None:
    """Show the lines that people type into bash, on any terminal.

    Of a shell that waits for a line when the tool begins, that line is not seen, but those after it are.

    Examples:

        bpf2py tool bashreadline

        bpf2py tool bashreadline --binary libreadline.so.8 --json
    """
    watch(partial(bashreadline_tool.Bashreadline, binary=binary), what)
