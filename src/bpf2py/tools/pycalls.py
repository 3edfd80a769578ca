"""pyopens and pyconnects: which line of Python opens a file, or connects."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.tools.framework import Column, Filter, Flames, Record, text_of
from bpf2py.tools.python import PythonTool

if TYPE_CHECKING:
    from typing import ClassVar

    from bpf2py.symbols.python import PythonFrame

__all__ = ["Located", "Pyconnects", "Pyopens"]

STANDARD_LIBRARY = re.compile(r"^<frozen |/lib(?:64)?/python\d[\d.]*t?/(?!site-packages/|dist-packages/)")
OPENS = ("enter_open", "exit_open", "enter_openat", "exit_openat", "enter_openat2", "exit_openat2")
CONNECTS = ("enter_connect", "exit_connect", "enter_openat")


class Located(PythonTool):
    """What reports records with the line of Python where it happened; `_details()` gives what is the tool's own."""

    def __init__(
        self, wanted: Filter, variables: dict[str, Any] | None = None, *, autoload: Mapping[str, bool] | None = None
    ) -> None:
        super().__init__(wanted, variables, native=False, autoload=autoload)

    def _record(self, event: Any) -> Record | None:
        at = event.at
        frames = self._frames(at)
        return {
            "time": self.seconds(at.time_ns),
            "pid": at.pid,
            "tid": at.tid,
            "comm": at.comm,
            **self._details(event),
            "where": where(frames),
            "stack": [{"file": f.file, "line": f.line, "function": f.function} for f in frames],
        }

    @staticmethod
    def _cgroup(event: Any) -> int:
        return int(event.at.cgroup)

    def _details(self, event: Any) -> Record:
        raise NotImplementedError

    def results(self) -> Iterator[Flames]:
        yield from ()


class _Calls(Located):
    program = "pycalls"
    optional = ("enter_open", "exit_open", "enter_openat2", "exit_openat2")
    programs: ClassVar[tuple[str, ...]]

    def __init__(self, wanted: Filter, *, failed: bool = False) -> None:
        autoload = {name: name in self.programs for name in (*OPENS, *CONNECTS)}
        super().__init__(
            wanted,
            {"only_failed": int(failed), "connects": int(self.programs is CONNECTS)},
            autoload=autoload,
        )

    def _details(self, event: Any) -> Record:
        return {
            "error": errno.errorcode.get(-event.result, str(-event.result)) if event.result < 0 else "",
            "took_us": round(event.at.value / 1000, 3),
        }


class Pyopens(_Calls):
    """A record for each file a Python program opens, or tries to, with the Python stack, innermost frame first."""

    programs = OPENS
    columns = (
        Column("pid", "PID", 7, True),
        Column("comm", "COMM", 15),
        Column("fd", "FD", 4, True),
        Column("error", "ERR", 8),
        Column("where", "WHERE", 36),
        Column("path", "PATH", 0),
    )

    def _details(self, event: Any) -> Record:
        return super()._details(event) | {
            "fd": event.result if event.result >= 0 else -1,
            "path": text_of(event.data, event.size) if event.size >= 0 else None,
        }


class Pyconnects(_Calls):
    """A record for each connect() of a Python program, with the Python stack, innermost frame first."""

    programs = CONNECTS
    columns = (
        Column("pid", "PID", 7, True),
        Column("comm", "COMM", 15),
        Column("fd", "FD", 4, True),
        Column("error", "ERR", 12),
        Column("where", "WHERE", 36),
        Column("address", "ADDRESS", 0),
    )

    def _details(self, event: Any) -> Record:
        address = socket_address(bytes(event.data)[: event.size]) if event.size > 0 else None
        return super()._details(event) | {"fd": event.fd, "address": address}


def where(frames: Sequence[PythonFrame]) -> str | None:
    """The innermost frame that is not of the standard library; of that where there is no other."""
    own = (frame for frame in frames if not STANDARD_LIBRARY.search(frame.file))
    found = next(own, frames[0] if frames else None)
    return found.short if found is not None else None


def socket_address(data: bytes) -> str:
    """A socket address for people: ``127.0.0.1:80``, ``[::1]:80``, ``/run/x``, ``@abstract``, ``family 16``."""
    family = int.from_bytes(data[:2], sys.byteorder)
    if family == socket.AF_INET and len(data) >= 8:
        return f"{ipaddress.IPv4Address(data[4:8])}:{int.from_bytes(data[2:4], 'big')}"
    if family == socket.AF_INET6 and len(data) >= 24:
        return f"[{ipaddress.IPv6Address(data[8:24])}]:{int.from_bytes(data[2:4], 'big')}"
    if family == socket.AF_UNIX:
        if data[2:3] == b"\0":
            return "@" + data[3:].decode("utf-8", "surrogateescape")
        return data[2:].partition(b"\0")[0].decode("utf-8", "surrogateescape")
    return f"family {family}"
