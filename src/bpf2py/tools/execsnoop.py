"""execsnoop: programs that are executed."""

from __future__ import annotations

import errno

from bpf2py._typing import Any
from bpf2py.tools.framework import Column, Filter, Record, Tool

ATTEMPTS = ("enter_execve", "enter_execveat", "exit_execve", "exit_execveat")


class Execsnoop(Tool):
    """A record for each program that is executed: ``args`` are its arguments; `failed` also shows attempts that failed."""

    program = "execsnoop"
    columns = (
        Column("comm", "PCOMM", 16),
        Column("pid", "PID", 7, True),
        Column("ppid", "PPID", 7, True),
        Column("result", "RET", 4, True),
        Column("args", "ARGS", 0),
    )

    def __init__(self, wanted: Filter, *, failed: bool = False) -> None:
        super().__init__(wanted, autoload=dict.fromkeys(ATTEMPTS, failed))

    def _record(self, event: Any) -> Record:
        raw = bytes(event.args)[: event.kept].rstrip(b"\0")
        args = [part.decode("utf-8", "surrogateescape") for part in raw.split(b"\0")] if raw else []
        return {
            "time": self.seconds(event.time_ns),
            "comm": event.comm,
            "pid": event.pid,
            "ppid": event.ppid,
            "parent": event.parent,
            "uid": event.uid,
            "result": event.result,
            "error": errno.errorcode.get(-event.result, "") if event.result < 0 else "",
            "args": args,
            "cut": event.kept < event.size,
        }
