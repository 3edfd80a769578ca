"""tcplife, tcpconnect, tcpstates, tcpretrans and tcprtt: TCP connections, by their sockets."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator

from bpf2py._typing import TYPE_CHECKING, Any, Protocol
from bpf2py.maps.histogram import Histogram
from bpf2py.tools.framework import Chart, Column, Filter, Record, Tool

if TYPE_CHECKING:
    from typing import ClassVar

__all__ = ["Tcpconnect", "Tcplife", "Tcpretrans", "Tcprtt", "Tcpstates"]

OPENED, FAILED, CLOSED = 0, 1, 2  # kinds of tcplife.py

# include/net/tcp_states.h
STATES = {
    1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT", 7: "CLOSE", 8: "CLOSE_WAIT",
    9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING", 12: "NEW_SYN_RECV",
}  # fmt: skip
ENDS = (
    Column("local", "LADDR", 15),
    Column("local_port", "LPORT", 5, True),
    Column("remote", "RADDR", 15),
    Column("remote_port", "RPORT", 5, True),
)


def address(family: int, data: Iterable[int]) -> str:
    """An address as text; of IPv4 also where IPv6 carries it."""
    if family == socket.AF_INET:
        return str(ipaddress.IPv4Address(bytes(data)[:4]))
    found = ipaddress.IPv6Address(bytes(data))
    return str(found.ipv4_mapped or found)


class _HasEnds(Protocol):
    """An event of a connection."""

    family: int
    local: Iterable[int]
    remote: Iterable[int]
    local_port: int
    remote_port: int


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
            **ends(event),
        }


class Tcplife(_Tcp):
    """A record for each connection that is closed: how long it was open and what it carried.

    Those that were open before the tool are not shown. Of an accepted connection the process is the one that closes it.
    """

    what = 1 << CLOSED
    columns = (
        Column("pid", "PID", 7, True),
        Column("comm", "COMM", 15),
        *ENDS,
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


class Tcpstates(Tool):
    """A record for each change of a connection's state, and how long the one before lasted; None where that began before the tool.

    Args:
        wanted: whom to watch.
        port: only connections with this port on either side; 0 for all.
    """

    program = "tcpstates"
    columns = (
        Column("pid", "PID", 7, True),
        Column("comm", "COMM", 15),
        *ENDS,
        Column("old", "OLD", 11),
        Column("new", "NEW", 11),
        Column("ms", "MS", 9, True),
    )

    def __init__(self, wanted: Filter, *, port: int = 0) -> None:
        everyone = not (wanted.pid or wanted.comm or wanted.cgroup or wanted.command)
        super().__init__(wanted, {"only_port": port, "all_wanted": int(everyone)})

    def _record(self, event: Any) -> Record:
        return ends(event) | {
            "time": self.seconds(event.time_ns),
            "pid": event.pid or None,
            "comm": event.comm if event.pid else None,
            "socket": f"{event.socket:#x}",
            "old": STATES.get(event.old, str(event.old)),
            "new": STATES.get(event.new, str(event.new)),
            "ms": round(event.lasted_ns / 1e6, 3) if event.lasted_ns else None,
        }


class Tcpretrans(Tool):
    """A record for each segment that is sent again.

    Args:
        wanted: a control group; segments are sent again by timers and by what comes in, not by processes.
        port: only connections with this port on either side; 0 for all.
    """

    program = "tcpretrans"
    of_processes = False
    columns = (
        *ENDS,
        Column("state", "STATE", 11),
        Column("bytes", "BYTES", 7, True),
        Column("total", "TOTAL", 6, True),
    )

    def __init__(self, wanted: Filter, *, port: int = 0) -> None:
        super().__init__(wanted, {"only_port": port})

    def _record(self, event: Any) -> Record:
        return (
            {"time": self.seconds(event.time_ns)}
            | ends(event)
            | {
                "state": STATES.get(event.state, str(event.state)),
                "bytes": event.size,
                "total": event.total,
                "rtt_us": event.rtt_us or None,
            }
        )


class Tcprtt(Tool):
    """Round-trip times, as the kernel has smoothed them, at every packet that comes in: a histogram, or one for each peer.

    Args:
        wanted: a control group; packets come in whoever runs.
        port: only connections with this port on either side; 0 for all.
        by_remote: a histogram for each remote address.
        by_port: a histogram for each local port.
    """

    program = "tcprtt"
    of_processes = False

    def __init__(self, wanted: Filter, *, port: int = 0, by_remote: bool = False, by_port: bool = False) -> None:
        self._by_remote, self._by_port = by_remote, by_port
        super().__init__(wanted, {"only_port": port, "by_remote": int(by_remote), "by_port": int(by_port)})

    def results(self) -> Iterator[Chart]:
        found: list[tuple[Any, Any]] = list(self.obj.maps["times"].items())
        for peer, value in sorted(found, key=lambda each: sum(each[1].slots)):
            histogram = Histogram.log2(value.slots, "usecs")
            average = round(value.total_us / histogram.total) if histogram.total else 0
            fields: Record = {"count": histogram.total, "average_us": average}
            title = f"{histogram.total} packets, {average} us on average"
            if self._by_port:
                fields = {"local_port": peer.port} | fields
                title = f"port {peer.port}: {title}"
            if self._by_remote:
                fields = {"remote": address(peer.family, peer.address)} | fields
                title = f"{fields['remote']} {title}"
            yield Chart(title, fields, histogram)


def ends(event: _HasEnds) -> Record:
    """The addresses of a connection."""
    return {
        "ip": 4 if event.family == socket.AF_INET else 6,
        "local": address(event.family, event.local),
        "local_port": event.local_port,
        "remote": address(event.family, event.remote),
        "remote_port": event.remote_port,
    }
