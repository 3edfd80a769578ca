"""`bpf2py tool`: for Python programs."""

from __future__ import annotations

from functools import partial

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING
from bpf2py.cli import declared as typer
from bpf2py.cli.tool_options import COMMON, FAILED, FREQUENCY, NATIVE, STACKS
from bpf2py.cli.tool_session import watch

if TYPE_CHECKING:
    from bpf2py.cli.tool_session import Asked
    from bpf2py.tools import asyncio_block as asyncio_block_tool
    from bpf2py.tools import pycalls as pycalls_tool
    from bpf2py.tools import pygc as pygc_tool
    from bpf2py.tools import python as python_tool
    from bpf2py.tools import stacks as stacks_tool
else:
    asyncio_block_tool = module("bpf2py.tools.asyncio_block")
    pycalls_tool = module("bpf2py.tools.pycalls")
    pygc_tool = module("bpf2py.tools.pygc")
    python_tool = module("bpf2py.tools.python")
    stacks_tool = module("bpf2py.tools.stacks")


def pyprofile(
    frequency: int = FREQUENCY,
    native: bool = NATIVE,
    what: Asked = STACKS,
) -> None:
    """Sample what Python programs do on the CPUs: functions and lines of Python, the native code below them, and the kernel.

    CPython 3.11 to 3.15, without a change to the program or its environment.

    Examples:

        bpf2py tool pyprofile --output flame.html -- python3 script.py

        bpf2py tool pyprofile --pid 1234 --duration 10 --no-native
    """
    rate = stacks_tool.check_frequency(frequency)
    watch(
        partial(python_tool.Pyprofile, frequency=rate, native=native),
        what,
    )


def pyoffcpu(
    least: int = typer.Option(1000, "--min", min=0, metavar="US", help="Only waits of at least so many microseconds."),
    native: bool = NATIVE,
    what: Asked = STACKS,
) -> None:
    """Add up the time that threads of Python programs are not on a CPU, by function and line: what they wait for.

    Examples:

        bpf2py tool pyoffcpu --pid 1234 --duration 10

        bpf2py tool pyoffcpu --no-native -- python3 script.py
    """
    watch(
        partial(python_tool.Pyoffcpu, least_us=least, native=native),
        what,
    )


def pyopens(
    failed: bool = FAILED,
    what: Asked = COMMON,
) -> None:
    """Show files that Python programs open, or try to: the path, and the function and line that opens it.

    WHERE is the innermost function that is not of Python's standard library; --json has the whole stack.

    Examples:

        bpf2py tool pyopens --failed -- python3 -c 'import json'

        bpf2py tool pyopens --json -- python3 script.py
    """
    watch(partial(pycalls_tool.Pyopens, failed=failed), what)


def pyconnects(
    failed: bool = FAILED,
    what: Asked = COMMON,
) -> None:
    """Show addresses that Python programs connect to, and the function and line that does it.

    WHERE is the innermost function that is not of Python's standard library; --json has the whole stack.

    Examples:

        bpf2py tool pyconnects --pid 1234

        bpf2py tool pyconnects --json -- python3 script.py
    """
    watch(partial(pycalls_tool.Pyconnects, failed=failed), what)


def pygc(
    least: float = typer.Option(
        0.0, "--min", min=0.0, metavar="MS", help="Only those of at least so many milliseconds."
    ),
    what: Asked = COMMON,
) -> None:
    """Show garbage collections of Python programs: generation, objects found, how long it took, and the line that was interrupted.

    By probes of the interpreter (--with-dtrace), else by a function in its symbols. CPython 3.11 to 3.15.

    Examples:

        bpf2py tool pygc --min 10

        bpf2py tool pygc --json -- python3 script.py
    """
    watch(partial(pygc_tool.Pygc, least_ms=least, program=what.command[0] if what.command else ""), what)


def asyncio_block(
    threshold: float = typer.Option(
        100.0, "--threshold", "-t", min=0.001, metavar="MS", help="Only those of at least so many milliseconds."
    ),
    what: Asked = COMMON,
) -> None:
    """Show what blocks event loops of Python programs (asyncio, uvloop): for how long, the line, and the callback.

    MS is the time between two of the loop's waits for events, CPU how much of it the thread ran; the rest it waited, for a lock, a
    file, another thread that has the GIL. WHERE is the line that took most of it.

    Examples:

        bpf2py tool asyncio-block --pid 1234

        bpf2py tool asyncio-block --threshold 20 --json -- python3 server.py
    """
    watch(partial(asyncio_block_tool.AsyncioBlock, threshold_ms=threshold), what)
