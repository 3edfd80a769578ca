"""`bpf2py tool`: functions of programs and libraries."""

from __future__ import annotations

from functools import partial

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING
from bpf2py.cli import declared as typer
from bpf2py.cli.tool_options import COMMON, FUNCTION
from bpf2py.cli.tool_session import watch

if TYPE_CHECKING:
    from bpf2py.cli.tool_session import Asked
    from bpf2py.tools import functions as functions_tool
else:
    functions_tool = module("bpf2py.tools.functions")


def funccount(
    function: str = FUNCTION,
    top: int = typer.Option(20, "--top", "-T", min=1, help="Rows."),
    what: Asked = COMMON,
) -> None:
    """Count calls of functions of programs and libraries: of one, or of all that match a pattern with * and ? (Linux 6.6).

    Examples:

        bpf2py tool funccount 'libc:str*' -- ls

        bpf2py tool funccount libc:malloc --pid 1234 --duration 5
    """
    tool = partial(functions_tool.Funccount, function=function, top=top)
    watch(tool, what)


def funclatency(
    function: str = FUNCTION,
    what: Asked = COMMON,
) -> None:
    """Draw how long calls of a function take, from when it is called until it returns.

    Calls count when they return, recursive ones each; one that is left by longjmp or an exception does not count.

    Examples:

        bpf2py tool funclatency libc:getaddrinfo --duration 60

        bpf2py tool funclatency libc:fread -- sort file
    """
    watch(partial(functions_tool.Funclatency, function=function), what)
