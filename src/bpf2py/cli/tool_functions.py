"""`bpf2py tool`: functions of programs and libraries."""

from __future__ import annotations

from functools import partial

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING
from bpf2py.cli import declared as typer
from bpf2py.cli.tool_options import COMMON, POINT, STACKS
from bpf2py.cli.tool_session import watch

if TYPE_CHECKING:
    from bpf2py.cli.tool_session import Asked
    from bpf2py.tools import argdist as argdist_tool
    from bpf2py.tools import functions as functions_tool
else:
    argdist_tool = module("bpf2py.tools.argdist")
    functions_tool = module("bpf2py.tools.functions")


def funccount(
    function: str = POINT,
    top: int = typer.Option(20, "--top", "-T", min=1, help="Rows."),
    what: Asked = COMMON,
) -> None:
    """Count calls of functions, and how often tracepoints are reached: of one, or of all that match a pattern with * and ?.

    A POINT is BINARY:FUNCTION (patterns: Linux 6.6), tracepoint:CATEGORY:NAME, usdt:BINARY:PROVIDER:NAME, or the name of a function
    of the kernel.

    Examples:

        bpf2py tool funccount 'libc:str*' -- ls

        bpf2py tool funccount 'tracepoint:sched:*' --duration 5

        bpf2py tool funccount 'vfs_*' -- ls

        bpf2py tool funccount libc:malloc --pid 1234 --duration 5
    """
    tool = partial(functions_tool.Funccount, function=function, top=top)
    watch(tool, what)


def funclatency(
    function: str = POINT,
    what: Asked = COMMON,
) -> None:
    """Draw how long calls of a function take, from when it is called until it returns: BINARY:FUNCTION, or one of the kernel.

    Calls count when they return, recursive ones each; one that is left by longjmp or an exception does not count.

    Examples:

        bpf2py tool funclatency libc:getaddrinfo --duration 60

        bpf2py tool funclatency libc:fread -- sort file
    """
    watch(partial(functions_tool.Funclatency, function=function), what)


def stackcount(
    function: str = POINT,
    what: Asked = STACKS,
) -> None:
    """Count the stacks with which a function is called, or a tracepoint reached, of all that match a pattern too.

    A POINT is written as for funccount.

    Examples:

        bpf2py tool stackcount libc:malloc --output malloc.html -- ls

        bpf2py tool stackcount tracepoint:block:block_rq_issue --duration 10
    """
    watch(partial(functions_tool.Stackcount, function=function), what)


def argdist(
    function: str = POINT,
    value: list[str] = typer.Option(
        ..., "--value", "-v", metavar="EXPRESSION", help="What is counted; several are counted together."
    ),
    condition: str = typer.Option(None, "--if", metavar="EXPRESSION", help="Count only where it is true."),
    histogram: bool = typer.Option(
        False, "--histogram", "-H", help="Draw how the value is distributed, by powers of two."
    ),
    unit: str = typer.Option("value", "--unit", help="Of a histogram: nsecs, usecs, bytes."),
    top: int = typer.Option(20, "--top", "-T", min=1, help="Rows."),
    what: Asked = COMMON,
) -> None:
    """Count the values that a function or tracepoint is called with, or returns.

    Of functions an EXPRESSION has arg1 ... arg5, ret, and latency (nanoseconds); of tracepoints their fields by name; of all pid,
    tid, uid, cpu, comm, and str(arg1) for the text at an address. Numbers are signed and 64 bits wide; u32(arg1), s32(ret) say
    otherwise.

    Examples:

        bpf2py tool argdist libc:malloc --value arg1 --histogram --unit bytes -- ls

        bpf2py tool argdist libc:getenv --value 'str(arg1)' --value 'ret != 0' -- ls

        bpf2py tool argdist tracepoint:syscalls:sys_exit_read --value ret --if 'ret < 0' --duration 10
    """
    tool = partial(
        argdist_tool.Argdist,
        point=function, expressions=value, condition=condition or "", histogram=histogram, unit=unit, top=top,
        by_container=what.containers,
    )  # fmt: skip
    watch(tool, what)
