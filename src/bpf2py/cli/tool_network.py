"""`bpf2py tool`: TCP."""

from __future__ import annotations

from functools import partial

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING
from bpf2py.cli.tool_options import COMMON, PORT
from bpf2py.cli.tool_session import watch

if TYPE_CHECKING:
    from bpf2py.cli.tool_session import Asked
    from bpf2py.tools import tcp as tcp_tool
else:
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
