"""`Recording`: events and snapshots in Parquet files, in pieces by size and time, whole also after the process was killed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bpf2py.errors import BpfError, NotSupported
from bpf2py.export.arrow import import_pyarrow

__all__ = ["Recording", "pieces", "rows"]

ABOUT = b"bpf2py"  # key of the schema's metadata


class Recording:
    """Writes columns to ``FILE.parquet``, ``FILE-1.parquet``, ``FILE-2.parquet`` ...; a context manager.

    What is added goes at once to ``FILE.parquet.arrows``, an Arrow stream of whole batches; that becomes a Parquet file when it is
    large or old enough, and at the end. A stream a killed process left becomes one when the next recording of the same name starts:
    no batch is lost. Files that are there are never written over.

    Args:
        path: ends in ``.parquet``.
        about: what is recorded, kept in each file's schema.
        most_bytes, most_seconds: when a new piece begins; None for never.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        about: Mapping[str, object],
        *,
        most_bytes: int | None = None,
        most_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pa = import_pyarrow()
        self.path = Path(path)
        if self.path.suffix != ".parquet":
            raise BpfError(f"{path}: the name of a recording ends in .parquet")
        self.rows = 0
        self.written: list[Path] = []
        self._about = dict(about)
        self._most_bytes, self._most_seconds, self._clock = most_bytes, most_seconds, clock
        self._stream = self.path.with_name(self.path.name + ".arrows")
        self._sink: Any = None
        self._writer: Any = None
        self._began = 0.0
        self._in_piece = 0
        if self._stream.exists():
            self._finish()

    def add(self, columns: Mapping[str, Any]) -> None:
        """Append Arrow arrays of one length. Raises OSError when they cannot be written."""
        pa = self._pa
        table = pa.table(dict(columns))
        if not table.num_rows:
            return
        if self._writer is None:
            schema = table.schema.with_metadata({ABOUT: json.dumps(self._about).encode()})
            self._sink = open(self._stream, "wb")  # noqa: SIM115
            self._writer = pa.ipc.new_stream(self._sink, schema)
            self._began = self._clock()
        self._writer.write_table(table)
        self._sink.flush()
        self.rows += table.num_rows
        self._in_piece += table.num_rows
        self.rotate()

    def rotate(self) -> None:
        """Begin a new piece if it is time."""
        if self._writer is not None and (
            (self._most_bytes is not None and self._sink.tell() >= self._most_bytes)
            or (self._most_seconds is not None and self._clock() - self._began >= self._most_seconds)
        ):
            self._close_stream()
            self._finish()

    def say(self, **about: object) -> None:
        """Add to what later pieces say about themselves, such as how many records were lost."""
        self._about |= about

    def _close_stream(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            self._sink.close()
            self._in_piece = 0

    def _finish(self) -> None:
        """Make a Parquet file of the stream."""
        from pyarrow import parquet

        pa = self._pa
        batches, schema = [], None
        with open(self._stream, "rb") as source:
            try:
                reader = pa.ipc.open_stream(source)
                schema = reader.schema
                for batch in reader:
                    batches.append(batch)
            except (pa.ArrowInvalid, OSError, EOFError):
                pass  # the batch the former process was writing when it was killed
        if batches and schema is not None:
            table = pa.Table.from_batches(_same_words(pa, batches), None).unify_dictionaries()
            about = json.loads((schema.metadata or {}).get(ABOUT, b"{}")) | self._about
            table = table.replace_schema_metadata({ABOUT: json.dumps(about).encode()})
            target = self._free_name()
            unfinished = target.with_name(target.name + ".part")
            parquet.write_table(table, unfinished, compression="zstd")
            os.replace(unfinished, target)
            self.written.append(target)
        self._stream.unlink()

    def _free_name(self) -> Path:
        number, name = 0, self.path
        while name.exists():
            number += 1
            name = self.path.with_name(f"{self.path.stem}-{number}.parquet")
        return name

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._close_stream()
            self._finish()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _same_words(pa: Any, batches: list[Any]) -> list[Any]:
    """Batches whose schema is the first one's: dictionaries may differ, types do not."""
    return [batch if batch.schema.equals(batches[0].schema) else batch.cast(batches[0].schema) for batch in batches]


def pieces(path: str | os.PathLike[str]) -> list[Path]:
    """The files of a recording in the order they were written. Raises FileNotFoundError."""
    first = Path(path)
    found = [first] if first.exists() else []
    number = 1
    while (name := first.with_name(f"{first.stem}-{number}.parquet")).exists():
        found.append(name)
        number += 1
    if not found:
        raise FileNotFoundError(2, "there is no such recording", str(path))
    return found


def rows(path: str | os.PathLike[str]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(row, what its file says about itself) of all rows of a recording, of all its files in order.

    ``time`` is in nanoseconds since 1970. Raises FileNotFoundError, BpfError for what is not a recording.
    """
    pa = import_pyarrow()
    from pyarrow import parquet

    for file in pieces(path):
        try:
            opened = parquet.ParquetFile(file)
            about = json.loads((opened.schema_arrow.metadata or {}).get(ABOUT, b"null"))
        except (pa.ArrowInvalid, ValueError) as error:
            raise BpfError(f"{file}: not a recording: {error}") from None
        if not isinstance(about, dict):
            raise NotSupported(f"{file}: not a recording of bpf2py: it does not say what it is of", feature="replay")
        for batch in opened.iter_batches():
            where = batch.schema.get_field_index("time")
            if where < 0:
                raise BpfError(f"{file}: not a recording: it has no column time")
            times = batch.column(where).cast(pa.int64()).to_pylist()  # datetime has no nanoseconds
            for at, row in zip(times, batch.remove_column(where).to_pylist(), strict=True):
                yield {"time": at} | row, about
