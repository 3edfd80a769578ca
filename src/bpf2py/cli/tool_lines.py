"""Records of tools as lines of text."""

from __future__ import annotations

import time

from bpf2py._typing import TYPE_CHECKING
from bpf2py.cli.table import terminal_width
from bpf2py.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bpf2py.tools.framework import Column, Record

__all__ = ["heading", "line_of"]


def heading(columns: Sequence[Column], width: int | None = None) -> str:
    """The line above records; cut to a width, by default the terminal's."""
    return _aligned(columns, [column.heading for column in columns], width)


def line_of(columns: Sequence[Column], record: Record, width: int | None = None) -> str:
    """A record's line."""
    return _aligned(columns, [_cell(column.name, record[column.name]) for column in columns], width)


def _aligned(columns: Sequence[Column], cells: Sequence[str], width: int | None) -> str:
    line = " ".join(
        cell.rjust(column.width) if column.right else cell.ljust(column.width)
        for column, cell in zip(columns, cells, strict=True)
    ).rstrip()
    if width is None:
        width = terminal_width()
    return line if width is None or len(line) <= width else f"{line[: width - 1]}…"


def _cell(name: str, value: object) -> str:
    if name == "time":
        return time.strftime("%H:%M:%S", time.localtime(value))  # type: ignore[arg-type]
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return printable(" ".join(_quoted(str(each)) for each in value))
    if value is None:
        return "-" if name == "container" else "?"
    return printable(str(value))


def _quoted(word: str) -> str:
    """A word of a command line as a shell would take it."""
    import shlex

    return shlex.quote(word)
