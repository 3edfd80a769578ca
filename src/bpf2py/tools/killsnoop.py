"""killsnoop: signals that processes send."""

from __future__ import annotations

import errno

from bpf2py._typing import Any
from bpf2py.tools.exitsnoop import signal_name
from bpf2py.tools.framework import Column, Filter, Record, Tool

CALLS = ("kill", "tkill", "tgkill", "pidfd_send_signal")


class Killsnoop(Tool):
    """A record for each signal a process sends, also one that could not be sent."""

    program = "killsnoop"
    columns = (
        Column("pid", "PID", 7, True),
        Column("comm", "COMM", 16),
        Column("signal", "SIGNAL", 10),
        Column("target", "TARGET", 8, True),
        Column("call", "CALL", 17),
        Column("error", "RESULT", 0),
    )
    optional = ("enter_pidfd", "exit_pidfd")

    def __init__(self, wanted: Filter, *, failed: bool = False, number: int | None = None) -> None:
        super().__init__(wanted, {"only_failed": int(failed), "only_signal": -1 if number is None else number})

    def _record(self, event: Any) -> Record:
        return {
            "time": self.seconds(event.time_ns),
            "pid": event.pid,
            "tid": event.tid,
            "uid": event.uid,
            "comm": event.comm,
            "signal": signal_name(event.signal),
            "number": event.signal,
            "target": event.target,
            "call": CALLS[event.call],
            "error": errno.errorcode.get(-event.result, str(-event.result)) if event.result < 0 else "",
        }
