"""A program's text: parsed, never executed, and the errors that point into it."""

from __future__ import annotations

import ast
import difflib
import warnings
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

from bpf2py.errors import SourceError

__all__ = ["Place", "Source", "did_you_mean"]


class Place(NamedTuple):
    """Where something stands: lines and columns count from 1, the end column is after the last character."""

    line: int
    column: int
    end_line: int
    end_column: int


class Source:
    """One file: its name, its text and its syntax tree."""

    def __init__(self, text: str, path: str) -> None:
        """Parse. Raises SourceError where it is not Python."""
        self.path = path
        self.text = text
        self.lines = text.splitlines()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of literals such as 1if
                self.tree = ast.parse(text, path)
        except SyntaxError as error:
            line, column = error.lineno or 1, error.offset or 1
            place = Place(line, column, error.end_lineno or line, max(error.end_offset or 0, column + 1))
            raise self._error(place, f"this is not Python: {error.msg}") from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise self._error(Place(1, 1, 1, 2), f"this is not Python: {error or 'nested too deeply'}") from None

    def line(self, number: int) -> str:
        """The text of a line; empty where there is none."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""

    def place(self, node: ast.AST) -> Place:
        """Where a node of the syntax tree stands."""
        line = getattr(node, "lineno", 1)
        end_line = getattr(node, "end_lineno", None) or line
        column = self._column(line, getattr(node, "col_offset", 0))
        end = self._column(end_line, getattr(node, "end_col_offset", None) or 0)
        return Place(line, column, end_line, max(end, column + 1) if end_line == line else end)

    def _column(self, line: int, offset: int) -> int:
        # The syntax tree counts bytes of UTF-8.
        return len(self.line(line).encode()[:offset].decode("utf-8", "ignore")) + 1

    def fail(self, node: ast.AST, message: str) -> NoReturn:
        """Refuse a piece of the program. Raises SourceError."""
        raise self._error(self.place(node), message)

    def fail_at(self, line: int, message: str) -> NoReturn:
        """Refuse a line. Raises SourceError."""
        text = self.line(line)
        start = len(text) - len(text.lstrip()) + 1
        raise self._error(Place(line, start, line, max(len(text) + 1, start + 1)), message)

    def _error(self, place: Place, message: str) -> SourceError:
        return SourceError(
            message,
            filename=self.path,
            lineno=place.line,
            offset=place.column,
            end_lineno=place.end_line,
            end_offset=place.end_column,
            text=self.line(place.line),
        )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` with the names that are like it, or nothing."""
    near = difflib.get_close_matches(name, sorted(set(known)), 3, 0.7)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
