"""syscount: system calls, counted."""

from __future__ import annotations

import errno

from bpf2py.errors import BpfError
from bpf2py.tools.framework import CONTAINER, Column, Filter, Record, Table
from bpf2py.tools.ranking import Ranking
from bpf2py.uapi.syscalls import syscall_name


class Syscount(Ranking):
    """Counts of system calls, by name or by process; the most frequent, or longest, first.

    Args:
        wanted: whom to watch.
        by_process: one row for each process instead of one for each call.
        latency: also the time they took; then, and with the two that follow, calls count when they return.
        failed: only those that fail.
        error: only those that fail so, such as ``"ENOENT"``.
        top: rows.
    """

    program = "syscount"

    def __init__(
        self,
        wanted: Filter,
        *,
        by_process: bool = False,
        latency: bool = False,
        failed: bool = False,
        error: str = "",
        top: int = 10,
    ) -> None:
        number = getattr(errno, error.upper(), None) if error else 0
        if number is None:
            raise BpfError(f"there is no error {error!r}: write it as in ENOENT")
        with_result = latency or failed or bool(error)
        self.top = top
        self._by_process, self._latency, self._with_result = by_process, latency, with_result
        super().__init__(
            wanted,
            {
                "by_process": int(by_process),
                "with_result": int(with_result),
                "only_failed": int(failed),
                "only_errno": number,
            },
            autoload={"on_exit": with_result},
        )

    def table(self) -> Table:
        rows = []
        for key, value in self.obj.maps["counts"].items():
            row: Record = (
                {"pid": key.pid, "comm": value.comm} | self.container(value.cgroup)
                if self._by_process
                else {"syscall": syscall_name(key.number)}
            )
            row["count"] = value.count
            if self._with_result:
                row["failed"] = value.failed
            if self._latency:
                row["time_us"] = round(value.total_ns / 1000, 3)
            rows.append(row)
        return Table(self._columns(), rows)

    def sorted_by(self) -> tuple[str, ...]:
        return ("time_us",) if self._latency else ("count",)

    def _columns(self) -> list[Column]:
        found = (
            [Column("pid", "PID", 7, True), Column("comm", "COMM", 16)]
            if self._by_process
            else [Column("syscall", "SYSCALL", 22)]
        )
        if self._by_process and self.containers is not None:
            found.append(CONTAINER)
        found.append(Column("count", "COUNT", 9, True, True))
        if self._with_result:
            found.append(Column("failed", "FAILED", 9, True, True))
        if self._latency:
            found.append(Column("time_us", "TIME(us)", 16, True, True))
        return found
