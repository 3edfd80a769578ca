"""`bpf2py tool`: stacks."""

from __future__ import annotations

from functools import partial

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING
from bpf2py.cli import declared as typer
from bpf2py.cli.tool_options import FREQUENCY, STACKS
from bpf2py.cli.tool_session import watch

if TYPE_CHECKING:
    from bpf2py.cli.tool_session import Asked
    from bpf2py.tools import memleak as memleak_tool
    from bpf2py.tools import stacks as stacks_tool
else:
    memleak_tool = module("bpf2py.tools.memleak")
    stacks_tool = module("bpf2py.tools.stacks")


def profile(
    frequency: int = FREQUENCY,
    what: Asked = STACKS,
) -> None:
    """Sample the stacks of what runs on the CPUs, of the kernel (marked _[k]) and of native code, and print them as a tree.

    Examples:

        bpf2py tool profile --duration 10 --output flame.html

        bpf2py tool profile --frequency 999 -- gzip -k big
    """
    rate = stacks_tool.check_frequency(frequency)
    watch(partial(stacks_tool.Profile, frequency=rate), what)


def offcputime(
    least: int = typer.Option(0, "--min", min=0, metavar="US", help="Only waits of at least so many microseconds."),
    what: Asked = STACKS,
) -> None:
    """Add up the time that threads are not on a CPU, by the stack with which they left it: what they wait for.

    Waits that last when the tool ends count up to then; those that began before it began do not count.

    Examples:

        bpf2py tool offcputime --pid 1234 --duration 10

        bpf2py tool offcputime --output flame.html -- make
    """
    watch(partial(stacks_tool.Offcputime, least_us=least), what)


def memleak(
    older: float = typer.Option(
        0.0, "--older", min=0.0, metavar="MS", help="Only what is at least so many milliseconds old."
    ),
    least: int = typer.Option(0, "--min", min=0, metavar="BYTES", help="Only allocations of at least so many bytes."),
    most: int = typer.Option(0, "--max", min=0, metavar="BYTES", help="Only allocations of at most so many bytes."),
    library: str = typer.Option(
        "libc", metavar="BINARY", help="What has malloc() and the others: a library, or a program."
    ),
    mappings: bool = typer.Option(
        True, "--mappings/--no-mappings", help="Also what mmap() and mremap() gave, as anonymous memory."
    ),
    top: int = typer.Option(10, "--top", "-T", min=1, help="Stacks."),
    what: Asked = STACKS,
) -> None:
    """Show memory that was allocated or mapped while the tool ran and not given back, by the stack that asked for it.

    Of a process, control group or command: malloc, calloc, realloc, aligned_alloc, memalign, posix_memalign and free, mmap, mremap
    and munmap, which become slower. What malloc() maps for itself is not counted twice.

    Examples:

        bpf2py tool memleak --pid 1234 --duration 60 --older 10000

        bpf2py tool memleak --output leaks.html -- ./program
    """
    tool = partial(
        memleak_tool.Memleak, older_ms=older, least=least, most=most, top=top, library=library, mappings=mappings
    )
    watch(tool, what)
