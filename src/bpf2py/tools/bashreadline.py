"""bashreadline: lines that people type into a shell."""

from __future__ import annotations

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.errors import AttachError
from bpf2py.kernel.elf_symbols import find_binary, symbol_offset
from bpf2py.tools.framework import Column, Filter, Record, Tool, text_of

if TYPE_CHECKING:
    from typing import ClassVar

__all__ = ["Bashreadline"]


class Bashreadline(Tool):
    """A record for each line that readline() returns: in bash itself, or in a library that others use.

    Args:
        wanted: whom to watch.
        binary: what has the function: a program, or a library such as ``"libreadline.so.8"``.
    """

    program = "bashreadline"
    columns: ClassVar = (
        Column("pid", "PID", 7, True),
        Column("comm", "COMM", 15),
        Column("line", "LINE", 0),
    )

    def __init__(self, wanted: Filter, *, binary: str = "bash") -> None:
        self._binary = find_binary("bashreadline", binary)
        try:
            symbol_offset("bashreadline", self._binary, "readline")
        except AttachError as error:
            raise AttachError(f"{error}: where it uses a library, give that: --binary libreadline.so.8") from None
        super().__init__(wanted)

    def _options(self, name: str) -> dict[str, Any]:
        return {"binary": self._binary, "symbol": "readline"}

    def _record(self, event: Any) -> Record:
        return {
            "time": self.seconds(event.time_ns),
            "pid": event.pid,
            "uid": event.uid,
            "comm": event.comm,
            "line": text_of(event.line, event.size) if event.size >= 0 else None,
        }
