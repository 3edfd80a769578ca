"""Key streams from files: what was used, in its order, and on which CPU."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from bpf2py.errors import EncodeError, NotSupported

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, Any]

__all__ = ["Trace", "read_trace"]


class Trace(NamedTuple):
    """Uses of keys.

    Attributes:
        name: of the file.
        keys: a number for each use; where keys are text, each different one has its number.
        cpus: the CPU of each use, None where the file does not tell.
    """

    name: str
    keys: Numbers
    cpus: Numbers | None


def read_trace(path: str, column: str | None = None, cpu_column: str | None = None) -> Trace:
    """Read a trace: a key a line, or columns apart by commas (with a line of names, or without), or Parquet.

    Args:
        path: the file.
        column: the keys' column, by name or by number from 0 on. Without it: the only one, else one named ``obj_id``, ``id`` or
            ``key``, else the second, as in the CSV files of libCacheSim (time, object, size).
        cpu_column: that of the CPU.

    Raises:
        EncodeError: there is no such column, or nothing in the file.
        NotSupported: Parquet without pyarrow.
        OSError.
    """
    import numpy as np

    name = os.path.basename(path)
    if path.endswith(".parquet"):
        keys, cpus = _parquet(path, column, cpu_column)
    else:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            keys, cpus = _columns(csv.reader(file), name, column, cpu_column)
    if not len(keys):
        raise EncodeError(f"{name}: there are no keys in it")
    try:
        numbers = np.array(keys, np.uint64)
    except (ValueError, OverflowError, TypeError):
        numbers = np.unique(np.array([str(key) for key in keys]), return_inverse=True)[1].astype(np.uint64)
    if cpus is None:
        return Trace(name, numbers, None)
    try:
        where = np.array(cpus, np.int64)
    except (ValueError, OverflowError):
        raise EncodeError(f"{name}: column {cpu_column} is not a number of a CPU everywhere") from None
    if where.min() < 0 or where.max() > 8191:
        raise EncodeError(f"{name}: column {cpu_column}: CPUs are 0 to 8191")
    return Trace(name, numbers, where.astype(np.uint16))


def _columns(
    rows: Iterator[list[str]], name: str, column: str | None, cpu_column: str | None
) -> tuple[list[Any], list[Any] | None]:
    first = next((row for row in rows if row), [])
    if not first:
        return [], None
    names = [text.strip() for text in first]
    titled = not any(text.lstrip("-").replace(".", "", 1).isdigit() for text in names) and len(names) > 1
    titled = titled or (len(names) == 1 and names[0] in ("key", "obj_id", "id"))
    at = _place(names, titled, column, name) if column is not None else _guess(names, titled)
    cpu_at = _place(names, titled, cpu_column, name) if cpu_column is not None else None
    keys: list[Any] = []
    cpus: list[Any] | None = [] if cpu_at is not None else None
    for row in [] if titled else [first]:
        _take(row, at, cpu_at, keys, cpus, name, 1)
    for number, row in enumerate(rows, 2):
        if row:
            _take(row, at, cpu_at, keys, cpus, name, number)
    if keys and all(key.isdigit() for key in keys):
        keys = [int(key) for key in keys]
    return keys, cpus


def _take(
    row: list[str], at: int, cpu_at: int | None, keys: list[Any], cpus: list[Any] | None, name: str, line: int
) -> None:
    try:
        keys.append(row[at].strip())
        if cpus is not None and cpu_at is not None:
            cpus.append(row[cpu_at].strip())
    except IndexError:
        raise EncodeError(f"{name}: line {line} has {len(row)} columns only") from None


def _guess(names: list[str], titled: bool) -> int:
    if len(names) < 2:
        return 0
    return next((names.index(known) for known in ("obj_id", "id", "key") if titled and known in names), 1)


def _place(names: list[str], titled: bool, column: str, name: str) -> int:
    if titled and column in names:
        return names.index(column)
    if column.isdigit() and int(column) < len(names):
        return int(column)
    there = ", ".join(names) if titled else f"0 to {len(names) - 1}"
    raise EncodeError(f"{name}: there is no column {column!r}; there are {there}")


def _parquet(path: str, column: str | None, cpu_column: str | None) -> tuple[Any, Any]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise NotSupported("pyarrow is not installed: pip install 'bpf2py[arrow]'", feature="pyarrow") from None
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise EncodeError(f"{path}: it is not a Parquet file that can be read: {error}") from None
    names = list(table.column_names)
    at = _place(names, True, column, path) if column is not None else _guess(names, True)
    cpus = None if cpu_column is None else table.column(_place(names, True, cpu_column, path)).to_pylist()
    return table.column(at).to_pylist(), cpus
