"""exitsnoop: processes that end."""

from __future__ import annotations

import signal

from bpf2py._typing import Any
from bpf2py.tools.framework import Column, Filter, Record, Tool


def signal_name(number: int) -> str:
    """``SIGTERM``, or the number of one that has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def reason(status: int) -> str:
    """How a process ended, in words, by its status as wait() gives it."""
    if not status & 0x7F:
        return f"code {status >> 8}" if status >> 8 else "0"
    return signal_name(status & 0x7F) + (" (core dumped)" if status & 0x80 else "")


class Exitsnoop(Tool):
    """A record for each process that ends, when its last thread does."""

    program = "exitsnoop"
    columns = (
        Column("comm", "PCOMM", 16),
        Column("pid", "PID", 7, True),
        Column("ppid", "PPID", 7, True),
        Column("age", "AGE(s)", 8, True),
        Column("exit", "EXIT", 0),
    )

    def __init__(self, wanted: Filter, *, failed: bool = False) -> None:
        super().__init__(wanted, {"only_failed": int(failed)})

    def _record(self, event: Any) -> Record:
        killed = event.status & 0x7F
        return {
            "time": self.seconds(event.time_ns),
            "comm": event.comm,
            "pid": event.pid,
            "ppid": event.ppid,
            "uid": event.uid,
            "age": round(event.age_ns / 1e9, 3),
            "exit": reason(event.status),
            "code": None if killed else event.status >> 8,
            "signal": killed or None,
            "core": bool(event.status & 0x80),
        }
