"""opensnoop: files that are opened."""

from __future__ import annotations

import errno

from bpf2py._typing import Any
from bpf2py.tools.framework import Column, Filter, Record, Tool, text_of

AT_FDCWD = -100


class Opensnoop(Tool):
    """A record for each file that is opened or could not be."""

    program = "opensnoop"
    columns = (
        Column("pid", "PID", 7, True),
        Column("comm", "COMM", 16),
        Column("fd", "FD", 4, True),
        Column("error", "ERR", 8),
        Column("path", "PATH", 0),
    )
    optional = ("enter_open", "exit_open", "enter_openat2", "exit_openat2")  # not on aarch64, not before 5.6

    def __init__(self, wanted: Filter, *, failed: bool = False) -> None:
        super().__init__(wanted, {"only_failed": int(failed)})

    def _record(self, event: Any) -> Record:
        relative = event.directory != AT_FDCWD
        return {
            "time": self.seconds(event.time_ns),
            "pid": event.pid,
            "tid": event.tid,
            "uid": event.uid,
            "comm": event.comm,
            "fd": event.result if event.result >= 0 else -1,
            "error": errno.errorcode.get(-event.result, str(-event.result)) if event.result < 0 else "",
            "flags": event.flags,
            "mode": event.mode,
            "directory": event.directory if relative else None,
            "took_us": round(event.took_ns / 1000, 3),
            "path": text_of(event.path, event.length) if event.length >= 0 else None,
        }
