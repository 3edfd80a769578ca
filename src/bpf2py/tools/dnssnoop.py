"""dnssnoop: names that programs look up."""

from __future__ import annotations

import socket

from bpf2py._typing import Any
from bpf2py.kernel.elf_symbols import find_binary
from bpf2py.tools.framework import RETURN_ADDRESS, Column, Filter, Record, Tool

__all__ = ["Dnssnoop"]

CALLS = ("getaddrinfo", "gethostbyname", "gethostbyname2", "gethostbyname_r")
# include/resolv/netdb.h of glibc: EAI_... by number.
FAILURES = {getattr(socket, name): name for name in dir(socket) if name.startswith("EAI_")}


class Dnssnoop(Tool):
    """A record for each name a program asks the C library for, when it has the answer.

    Args:
        wanted: whom to watch.
        failed: only those without an answer.
        least_ms: only those that take at least so many milliseconds.
        library: which C library.
    """

    program = "dnssnoop"
    optional = tuple(f"{end}_{name}" for end in ("enter", "exit") for name in CALLS[1:])
    columns = (
        Column("pid", "PID", 7, True),
        Column("comm", "COMM", 15),
        Column("ms", "MS", 9, True),
        Column("error", "ERROR", 12),
        Column("name", "NAME", 0),
    )

    def __init__(self, wanted: Filter, *, failed: bool = False, least_ms: float = 0.0, library: str = "libc") -> None:
        self._library = find_binary("dnssnoop", library)
        super().__init__(
            wanted,
            {"return_address": RETURN_ADDRESS, "only_failed": int(failed), "least_ns": int(least_ms * 1e6)},
        )

    def attach(self) -> None:
        # What began before is not known, and what begins from then on is seen to end.
        self._attach_in_turn([f"{end}_{name}" for end in ("exit", "enter") for name in CALLS])

    def _options(self, name: str) -> dict[str, Any]:
        return {"binary": self._library, "symbol": name.partition("_")[2]}

    def _record(self, event: Any) -> Record:
        call = CALLS[event.call]
        if call == "getaddrinfo":
            error = FAILURES.get(event.result, str(event.result)) if event.result else ""
        else:
            error = "none" if event.result else ""
        return {
            "time": self.seconds(event.time_ns),
            "pid": event.pid,
            "tid": event.tid,
            "comm": event.comm,
            "call": call,
            "ms": round(event.took_ns / 1e6, 3),
            "error": error,
            "name": event.name,
        }
