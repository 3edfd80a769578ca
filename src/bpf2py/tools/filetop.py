"""filetop: files that are read and written."""

from __future__ import annotations

from bpf2py._typing import Any
from bpf2py.tools.framework import CONTAINER, Column, Filter, Record, Table
from bpf2py.tools.ranking import Ranking

__all__ = ["Filetop"]


class Filetop(Ranking):
    """Reads and writes by process and file.

    Args:
        wanted: whom to watch.
        every: also pipes, sockets, terminals and devices.
        top: rows.
    """

    program = "filetop"
    order = ("read_bytes", "written_bytes")
    optional = tuple(
        f"{end}_{name}" for end in ("enter", "exit") for name in ("preadv", "pwritev", "preadv2", "pwritev2")
    )

    def __init__(self, wanted: Filter, *, every: bool = False, top: int = 20) -> None:
        self.top = top
        super().__init__(wanted, {"every": int(every)})

    def table(self) -> Table:
        rows: list[Record] = []
        found: list[tuple[Any, Any]] = list(self.obj.maps["uses"].items())
        for key, use in found:
            rows.append(
                {
                    "pid": key.pid,
                    "comm": use.comm,
                    **self.container(use.cgroup),
                    "reads": use.reads,
                    "writes": use.writes,
                    "read_bytes": use.read_bytes,
                    "written_bytes": use.written_bytes,
                    "name": use.name,
                    "directory": use.parent,
                    "inode": key.inode,
                    "device": f"{key.device >> 20}:{key.device & 0xFFFFF}",
                    "file": f"{use.parent}/{use.name}" if use.parent not in ("", "/", use.name) else use.name,
                }
            )
        columns = [
            Column("pid", "PID", 7, True),
            Column("comm", "COMM", 15),
            *([CONTAINER] if self.containers is not None else []),
            Column("reads", "READS", 7, True, True),
            Column("writes", "WRITES", 7, True, True),
            Column("read_bytes", "R_BYTES", 11, True, True),
            Column("written_bytes", "W_BYTES", 11, True, True),
            Column("file", "FILE", 0),
        ]
        return Table(columns, rows)
