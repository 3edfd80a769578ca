"""`bpf2py tool`: CPUs and disks."""

from __future__ import annotations

from functools import partial

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING
from bpf2py.cli.tool_options import BY_PROCESS, COMMON
from bpf2py.cli.tool_session import watch

if TYPE_CHECKING:
    from bpf2py.cli.tool_session import Asked
    from bpf2py.tools import block as block_tool
    from bpf2py.tools import dists as dists_tool
else:
    block_tool = module("bpf2py.tools.block")
    dists_tool = module("bpf2py.tools.dists")


def runqlat(
    by_process: bool = BY_PROCESS,
    what: Asked = COMMON,
) -> None:
    """Draw how long threads wait for a CPU, from when they are woken, or lose it, until they run.

    Examples:

        bpf2py tool runqlat --duration 10

        bpf2py tool runqlat -- make -j8
    """
    watch(partial(dists_tool.Runqlat, by_process=by_process), what)


def cpudist(
    by_process: bool = BY_PROCESS,
    what: Asked = COMMON,
) -> None:
    """Draw how long threads run on a CPU at a time.

    Examples:

        bpf2py tool cpudist --pid 1234 --duration 10

        bpf2py tool cpudist --process -- make -j2
    """
    watch(partial(dists_tool.Cpudist, by_process=by_process), what)


def biosnoop(
    what: Asked = COMMON,
) -> None:
    """Show requests to disks when they are done: who made them, where, how large, and how long they took.

    QUE is the time until the driver had it, LAT all of it. What is written later is of a thread of the kernel.

    Examples:

        bpf2py tool biosnoop

        bpf2py tool biosnoop --json -- dd if=big of=/dev/null iflag=direct
    """
    watch(block_tool.Biosnoop, what)


def biolatency(
    what: Asked = COMMON,
) -> None:
    """Draw how long requests to disks take, queues included: a histogram for each disk.

    Examples:

        bpf2py tool biolatency --duration 10

        bpf2py tool biolatency -- sync
    """
    watch(block_tool.Biolatency, what)
