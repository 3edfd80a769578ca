"""tcptop: what TCP connections carry."""

from __future__ import annotations

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.tools.framework import CONTAINER, Column, Filter, Record, Table
from bpf2py.tools.ranking import Ranking
from bpf2py.tools.tcp import ENDS, ends

if TYPE_CHECKING:
    from bpf2py.programs import Link

__all__ = ["Tcptop"]


class Tcptop(Ranking):
    """Bytes that TCP connections carried while the tool ran, those that were closed meanwhile included.

    The kernel counts them for every socket: nothing runs for each packet. Sockets are those of this process' network namespace.

    Args:
        wanted: whom to watch.
        port: only connections with this port on either side; 0 for all.
        top: rows.
    """

    program = "tcptop"
    order = ("sent", "received")

    def __init__(self, wanted: Filter, *, port: int = 0, top: int = 20) -> None:
        self.top, self._port = top, port
        self._everyone = not (wanted.pid or wanted.comm or wanted.cgroup or wanted.command)
        self._looks: list[Link] = []
        self._sums: dict[tuple[object, ...], Record] = {}
        super().__init__(wanted)

    def attach(self) -> None:
        self.obj.programs["on_state"].attach()
        self._looks = [self.obj.programs[name].attach() for name in ("on_file", "on_socket")]
        self._look()
        self.obj.variables["began"].value = 1

    def stop(self) -> None:
        self._look()
        self._looks = []
        super().stop()

    def _look(self) -> None:
        """Read the counters of all sockets."""
        for link in self._looks:
            with link.open() as file:
                file.read()

    def table(self) -> Table:
        self._look()
        owners: dict[int, Any] = dict(self.obj.maps["owners"].items())
        rows = dict(self._sums)
        closed = []
        found: list[tuple[int, Any]] = list(self.obj.maps["traffic"].items())
        for cookie, each in found:
            row = self._row(each, owners.get(cookie))
            if row is None:
                continue
            key = tuple(row[name] for name in ("pid", "local", "local_port", "remote", "remote_port"))
            old = rows.get(key)
            if old is not None:
                row |= {name: row[name] + old[name] for name in self.order}
            rows[key] = row
            if each.closed:
                closed.append((cookie, key))
        for cookie, key in closed:  # there is room for others, and what it carried is not forgotten
            self._sums[key] = rows[key]
            self.obj.maps["traffic"].pop(cookie, None)
        columns = [
            Column("pid", "PID", 7, True),
            Column("comm", "COMM", 15),
            *([CONTAINER] if self.containers is not None else []),
            *ENDS,
            Column("sent", "TX", 11, True, True),
            Column("received", "RX", 11, True, True),
        ]
        return Table(columns, [row for row in rows.values() if row["sent"] or row["received"]])

    def _row(self, each: Any, owner: Any) -> Record | None:
        if not self._everyone and (owner is None or not owner.wanted):
            return None
        if self._port and self._port not in (each.local_port, each.remote_port):
            return None
        if not each.family:
            return None  # it never was connected
        return {
            "pid": owner.pid if owner is not None else None,
            "comm": owner.comm if owner is not None else None,
            **self.container(owner.cgroup if owner is not None else 0),
            **ends(each),
            "sent": max(0, each.sent - each.base_sent),
            "received": max(0, each.received - each.base_received),
        }
