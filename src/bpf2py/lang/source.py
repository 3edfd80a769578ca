"""A program's text: parsed, never executed, and the errors that point into it."""

from __future__ import annotations

import ast
import difflib
import io
import tokenize
import warnings
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

from bpf2py.errors import SourceError

__all__ = ["Source", "decoded", "did_you_mean"]

_LINES = 1 << 20  # of a file at most: the lines of each further file of a program are counted from the next multiple


class Place(NamedTuple):
    """Where something stands: lines and columns count from 1, the end column is after the last character."""

    line: int
    column: int
    end_line: int
    end_column: int


class Source:
    """One file: its name, its text and its syntax tree.

    The files of a program share one numbering of lines, so that a line says which file it is of.

    Attributes:
        first: what the tree's line numbers have been raised by; 0 in the program's own file.
    """

    def __init__(self, text: str, path: str, importer: Source | None = None) -> None:
        """Parse. Raises SourceError where it is not Python."""
        self._files: list[Source] = importer._files if importer is not None else []
        self.first = len(self._files) * _LINES
        self._files.append(self)
        self.path = path
        self.text = text
        self.lines = text.splitlines()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of literals such as 1if
                self.tree = ast.parse(text, path)
        except SyntaxError as error:
            line, column = self.first + (error.lineno or 1), error.offset or 1
            end = self.first + error.end_lineno if error.end_lineno else line
            place = Place(line, column, end, max(error.end_offset or 0, column + 1))
            raise self._error(place, f"this is not Python: {error.msg}") from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise self._error(self._start(), f"this is not Python: {error or 'nested too deeply'}") from None
        if len(self.lines) >= _LINES:
            raise self._error(self._start(), f"a file has fewer than {_LINES} lines")
        if self.first:
            ast.increment_lineno(self.tree, self.first)

    def _start(self) -> Place:
        return Place(self.first + 1, 1, self.first + 1, 2)

    def of(self, number: int) -> tuple[Source, int]:
        """The file that a line of the program is in, and which of its lines it is."""
        return self._files[number // _LINES], number % _LINES

    def line(self, number: int) -> str:
        """The text of a line; empty where there is none."""
        source, own = self.of(number)
        return source.lines[own - 1] if 0 < own <= len(source.lines) else ""

    def place(self, node: ast.AST) -> Place:
        """Where a node of the syntax tree stands."""
        line = getattr(node, "lineno", self.first + 1)
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
        source, line = self.of(place.line)
        return SourceError(
            message,
            filename=source.path,
            lineno=line,
            offset=place.column,
            end_lineno=place.end_line - place.line + line,
            end_offset=place.end_column,
            text=source.lines[line - 1] if 0 < line <= len(source.lines) else "",
        )


def decoded(text: str | bytes, path: str) -> str:
    """A file's text, in the encoding that it names. Raises SourceError."""
    if isinstance(text, str):
        return text
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(text).readline)
        return text.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        message = f"this is not a Python source: {error}"
    Source("", path).fail_at(1, message)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` with the names that are like it, or nothing."""
    near = difflib.get_close_matches(name, sorted(set(known)), 3, 0.7)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
