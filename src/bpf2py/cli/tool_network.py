"""`bpf2py tool`: connections and names."""

from __future__ import annotations

from functools import partial

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING
from bpf2py.cli import declared as typer
from bpf2py.cli.tool_options import COMMON, FAILED, LIVE, PORT, TOP
from bpf2py.cli.tool_session import watch

if TYPE_CHECKING:
    from bpf2py.cli.tool_session import Asked
    from bpf2py.tools import dnssnoop as dnssnoop_tool
    from bpf2py.tools import tcp as tcp_tool
    from bpf2py.tools import tcptop as tcptop_tool
else:
    dnssnoop_tool = module("bpf2py.tools.dnssnoop")
    tcptop_tool = module("bpf2py.tools.tcptop")
    tcp_tool = module("bpf2py.tools.tcp")


def tcplife(
    port: int = PORT,
    what: Asked = COMMON,
) -> None:
    """Show TCP connections when they are closed: who had them, how long they were open, and the bytes they carried.

    Those that were open before are not shown. Of an accepted connection the process is the one that closes it.

    Examples:

        bpf2py tool tcplife --port 443

        bpf2py tool tcplife --json -- curl -s https://example.org
    """
    watch(partial(tcp_tool.Tcplife, port=port or 0), what)


def tcpconnect(
    port: int = PORT,
    what: Asked = COMMON,
) -> None:
    """Show TCP connections that processes open, when that succeeds or fails, with the time it took.

    Examples:

        bpf2py tool tcpconnect

        bpf2py tool tcpconnect --port 5432 --json
    """
    watch(partial(tcp_tool.Tcpconnect, port=port or 0), what)


def tcptop(
    port: int = PORT,
    top: int = TOP,
    what: Asked = LIVE,
) -> None:
    """Count the bytes that TCP connections carry, of those that are closed meanwhile too.

    The kernel's own counters of the sockets are read: bytes that were acknowledged (TX) and received (RX). Sockets of other network
    namespaces are not seen until they are closed.

    Examples:

        bpf2py tool tcptop --live

        bpf2py tool tcptop --port 443 --duration 10
    """
    watch(partial(tcptop_tool.Tcptop, port=port or 0, top=top), what)


def tcpstates(
    port: int = PORT,
    what: Asked = COMMON,
) -> None:
    """Show the changes of TCP connections' states, and how long each lasted.

    The process is the one that opened, closed or listens; of a connection that was accepted it is not known until it is closed.

    Examples:

        bpf2py tool tcpstates --port 80

        bpf2py tool tcpstates --json -- curl -s https://example.org
    """
    watch(partial(tcp_tool.Tcpstates, port=port or 0), what)


def tcpretrans(
    port: int = PORT,
    what: Asked = COMMON,
) -> None:
    """Show TCP segments that are sent again, of all processes: timers send them, and what comes in.

    TOTAL is how many the connection has sent again, this one included.

    Examples:

        bpf2py tool tcpretrans

        bpf2py tool tcpretrans --port 5432 --json
    """
    watch(partial(tcp_tool.Tcpretrans, port=port or 0), what)


def tcprtt(
    by_remote: bool = typer.Option(False, "--by-remote", "-r", help="A histogram for each remote address."),
    by_port: bool = typer.Option(False, "--by-port", "-P", help="A histogram for each local port."),
    port: int = PORT,
    what: Asked = COMMON,
) -> None:
    """Draw the round-trip times of TCP connections, of all processes: as the kernel smooths them, at each packet that comes in.

    Examples:

        bpf2py tool tcprtt --duration 10

        bpf2py tool tcprtt --by-remote --port 443
    """
    watch(partial(tcp_tool.Tcprtt, port=port or 0, by_remote=by_remote, by_port=by_port), what)


def dnssnoop(
    failed: bool = FAILED,
    least: float = typer.Option(
        0.0, "--min", min=0.0, metavar="MS", help="Only those that take at least so many milliseconds."
    ),
    library: str = typer.Option("libc", metavar="BINARY", help="Which C library."),
    what: Asked = COMMON,
) -> None:
    """Show names that programs look up, how long that took, and whether there was an answer.

    By getaddrinfo, gethostbyname and their like of the C library: also what a file or a cache answers; not what programs ask DNS
    servers by themselves, as those in Go do.

    Examples:

        bpf2py tool dnssnoop --failed

        bpf2py tool dnssnoop --json -- python3 -c 'import socket; socket.getaddrinfo("localhost", 80)'
    """
    tool = partial(dnssnoop_tool.Dnssnoop, failed=failed, least_ms=least, library=library)
    watch(tool, what)
