"""tcplife and tcpconnect: TCP connections, by the state changes of their sockets."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.tools.framework import Column, Filter, Record, Tool

if TYPE_CHECKING:
    from typing import ClassVar

__all__ = ["Tcpconnect", "Tcplife"]

OPENED, FAILED, CLOSED = 0, 1, 2  # kinds of tcplife.py


def address(family: int, data: Iterable[int]) -> str:
    """An address as text; of IPv4 also where IPv6 carries it."""
    if family == socket.AF_INET:
        return str(ipaddress.IPv4Address(bytes(data)[:4]))
    found = ipaddress.IPv6Address(bytes(data))
    return str(found.ipv4_mapped or found)


class _Tcp(Tool):
    program = "tcplife"
    what: ClassVar[int]

    def __init__(self, wanted: Filter, *, port: int = 0) -> None:
        everyone = not (wanted.pid or wanted.comm or wanted.cgroup or wanted.command)
        super().__init__(wanted, {"what": self.what, "only_port": port, "all_wanted": int(everyone)})

    def _common(self, event: Any) -> Record:
        return {
            "time": self.seconds(event.time_ns),
            "pid": event.pid or None,
            "comm": event.comm if event.pid else None,
            "ip": 4 if event.family == socket.AF_INET else 6,
            "local": address(event.family, event.local),
            "local_port": event.local_port,
            "remote": address(event.family, event.remote),
            "remote_port": event.remote_port,
        }


class Tcplife(_Tcp):
    """A record for each connection that is closed: how long it was open and what it carried.

    Those that were open before the tool are not shown. Of an accepted connection the process is the one that closes it.
    """

    what = 1 << CLOSED
    columns = (
        Column("pid", "PID", 7, True),
        Column("comm", "COMM", 15),
        Column("local", "LADDR", 15),
        Column("local_port", "LPORT", 5, True),
        Column("remote", "RADDR", 15),
        Column("remote_port", "RPORT", 5, True),
        Column("sent", "TX", 9, True),
        Column("received", "RX", 9, True),
        Column("ms", "MS", 9, True),
    )

    def _record(self, event: Any) -> Record:
        return self._common(event) | {
            "sent": event.sent,
            "received": event.received,
            "retransmitted": event.retransmitted,
            "ms": round(event.lasted_ns / 1e6, 3),
        }


class Tcpconnect(_Tcp):
    """A record for each connect() when it succeeds or fails, with the time that took."""

    what = 1 << OPENED | 1 << FAILED
    columns = (
        Column("pid", "PID", 7, True),
        Column("comm", "COMM", 15),
        Column("remote", "RADDR", 15),
        Column("remote_port", "RPORT", 5, True),
        Column("ms", "MS", 9, True),
        Column("result", "RESULT", 0),
    )

    def _record(self, event: Any) -> Record:
        return self._common(event) | {
            "ms": round(event.lasted_ns / 1e6, 3),
            "result": "connected" if event.kind == OPENED else "failed",
        }
