"""What commands list, as lines of text."""

from __future__ import annotations

import os
import sys

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.cli.declared import echo, secho
from bpf2py.printable import printable

if TYPE_CHECKING:
    import json
else:
    json = module("json")

__all__ = ["aligned", "echo_rows", "terminal_width"]


def echo_rows(rows: list[dict[str, Any]], columns: list[str], as_json: bool) -> None:
    """Print what a command lists: a line for each row, on a terminal cut to its width, or all rows as JSON."""
    if as_json:
        echo(json.dumps(rows))
        return
    cells = [[row[column] for column in columns] for row in rows]
    text = [[" ".join(map(str, cell)) if isinstance(cell, list) else str(cell) for cell in row] for row in cells]
    head, *rest = aligned(columns, text, terminal_width())
    secho(head, bold=True)
    for line in rest:
        echo(line)


def terminal_width() -> int | None:
    """Characters in a line of the standard output, None where it is not a terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    wanted = os.environ.get("COLUMNS", "")  # as shutil.get_terminal_size(), whose import takes longer than all of this
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def aligned(columns: list[str], rows: list[list[str]], width: int | None = None) -> list[str]:
    """Rows below their columns' names as plain text that is safe to print, numbers to the right.

    With a `width` texts are shortened until the lines fit, the longest first.
    """
    columns, *rows = [[printable(cell) for cell in row] for row in (columns, *rows)]
    grid = [columns, *rows]
    widths = [max(len(row[i]) for row in grid) for i in range(len(columns))]
    numeric = [bool(rows) and all(_numeric(row[i]) for row in rows) for i in range(len(columns))]
    if width is not None:
        _shrink(widths, numeric, width)
    lines = [
        "  ".join(
            _shortened(c, w).rjust(w) if n else _shortened(c, w).ljust(w)
            for c, w, n in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in grid
    ]
    return lines if width is None else [_shortened(line, width) for line in lines]


def _shrink(widths: list[int], numeric: list[bool], width: int, least: int = 6) -> None:
    """Make columns narrower until a line fits, the widest text first; numbers stay whole."""
    while sum(widths) + 2 * (len(widths) - 1) > width:
        wide = [i for i, size in enumerate(widths) if size > least and not numeric[i]]
        if not wide:
            return
        widest = max(wide, key=lambda i: widths[i])
        second = max((widths[i] for i in wide if i != widest), default=least)
        excess = sum(widths) + 2 * (len(widths) - 1) - width
        widths[widest] -= max(1, min(excess, widths[widest] - max(second, least)))


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}\u2026"


def _numeric(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()
