"""A thread that takes the records of a ring or perf buffer, each once."""

from __future__ import annotations

import threading
from typing import Any

from bpf2py.errors import BpfError
from bpf2py.readers import PerfReader, RingReader
from bpf2py.readers.batch import Batch

__all__ = ["RecordThread"]


class RecordThread:
    """Gives every record to `record()`, from its thread or from the caller of `catch_up()`.

    Attributes:
        name: of the map.
        undecoded: records that nothing could be made of.
        failed: why the thread ended, or None.
    """

    def __init__(self, name: str, reader: PerfReader[Any] | RingReader[Any]) -> None:
        self.name = name
        self.undecoded = 0
        self.failed: str | None = None
        self.reader = reader
        self._thread = threading.Thread(target=self._run, name=f"records of {name}", daemon=True)

    def record(self, data: bytes) -> None:
        """Take a record."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin; what was written before is in the buffers."""
        self._thread.start()

    def _run(self) -> None:
        try:
            for batch in self.reader.batches():
                self._take([batch])
        except BpfError as error:
            self.failed = str(error)

    def _take(self, batches: list[Batch[Any]]) -> None:
        for batch in batches:
            for record in batch.records():
                self.record(bytes(record))

    def catch_up(self) -> None:
        """Take what is in the buffers now."""
        if not self.reader.closed:
            self._take(self.reader.flush())

    def stop(self) -> None:
        """Take what is in the buffers, and end."""
        self.catch_up()
        self.reader.close()
        if self._thread.is_alive():
            self._thread.join()
