"""Elements and events as data frames, and as tables in notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from bpf2py._lazy import import_module
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.errors import NotSupported

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Frames", "flat_columns", "html_table"]

HTML_ROWS = 20


class Frames:
    """What maps and batches that have `to_numpy` can be turned into."""

    __slots__ = ()

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a column for each member: ``key.pid``, ``value.count``. Raises NotSupported without pandas.

        char arrays are text; other arrays, and values by CPU, are lists. Numbers are taken over without Python code for each.
        """
        return _module("pandas").DataFrame(self._columns())

    def to_polars(self) -> Any:
        """A polars DataFrame, with the columns of `to_pandas`. Raises NotSupported without polars."""
        return _module("polars").DataFrame(self._columns())

    def _columns(self) -> dict[str, Any]:
        raise NotImplementedError


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise NotSupported(f"{name} is not installed: pip install {name}", feature=name) from None


def flat_columns(array: np.ndarray[Any, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of an array of shape (n, ...) by dotted name; arrays within become lists, char arrays text.

    >>> import numpy as np
    >>> flat_columns(np.array([(1, b"sh")], [("pid", "u4"), ("comm", "S4")]))
    {'pid': array([1], dtype=uint32), 'comm': ['sh']}
    """
    if array.dtype.names and array.ndim == 1:
        found: dict[str, Any] = {}
        for name in array.dtype.names:
            found |= flat_columns(array[name], f"{prefix}.{name}" if prefix else name)
        return found
    name = prefix or "value"
    if array.ndim > 1 or array.dtype.names:
        return {name: [_plain(item) for item in array.tolist()]}
    if array.dtype.kind == "S":
        return {name: [text.decode("utf-8", "replace") for text in array.tolist()]}
    if array.dtype.kind == "V":
        return {name: [bytes(item) for item in array]}
    return {name: array.copy()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def html_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], hidden: int) -> str:
    """A table for notebooks; everything in it is escaped."""
    from html import escape  # only notebooks need it

    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    more = f"<p>{hidden} more</p>" if hidden > 0 else ""
    return f"<p><b>{escape(title)}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _members(value: Any, word: str) -> dict[str, str]:
    """The texts of a value's members, by heading."""
    total = getattr(value, "sum", None)
    if callable(total) and hasattr(value, "values") and value and not isinstance(value[0], bytes | list | tuple):
        value = total()  # by CPU
    names = getattr(value, "_fields", None)
    if not names:
        return {word: _text(value)}
    return {f"{word}.{name}": _text(getattr(value, name)) for name in names}


def _text(value: Any) -> str:
    return value.hex(" ") if isinstance(value, bytes | bytearray) else str(value)


def elements_html(title: str, pairs: Iterable[tuple[Any, Any]], key: str, count: int) -> str:
    """The first of `count` elements of a map as a table."""
    rows = [_members(one, key) | _members(two, "value") for one, two in islice(pairs, HTML_ROWS)]
    columns = list(rows[0]) if rows else [key, "value"]
    return html_table(title, columns, ([row.get(name, "") for name in columns] for row in rows), count - len(rows))


def events_html(title: str, events: Iterable[Any], count: int) -> str:
    """The first of `count` events as a table."""
    rows = [_members(event, "") for event in islice(events, HTML_ROWS)]
    columns = list(rows[0]) if rows else [""]
    names = [name.removeprefix(".") or "event" for name in columns]
    return html_table(title, names, ([row.get(name, "") for name in columns] for row in rows), count - len(rows))
