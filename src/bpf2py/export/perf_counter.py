"""Counters of a perf buffer's records: each record is one, by the labels in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from bpf2py.errors import EncodeError
from bpf2py.export.decoders import KeyDecoder
from bpf2py.export.records import RecordThread
from bpf2py.maps.base import AnyMap
from bpf2py.readers import PerfReader

__all__ = ["PerfCounter"]

MOST_SETS = 100_000


class PerfCounter(RecordThread):
    """Counts records from a thread.

    Sets of labels that were not counted for `flush_interval` seconds and whose count was read meanwhile are forgotten: no count is
    lost, and short-lived labels do not pile up.

    Attributes:
        lost: records the kernel had no room for.
        dropped: records beyond `most` sets of labels.
    """

    def __init__(
        self,
        bpf_map: AnyMap,
        keys: KeyDecoder,
        flush_interval: float,
        most: int = MOST_SETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(bpf_map.name, PerfReader(bpf_map))
        self.dropped = 0
        self.keys = keys
        self.flush_interval = flush_interval
        self._most = most
        self._clock = clock
        self._counts: dict[tuple[str, ...], int] = {}
        self._seen: dict[tuple[str, ...], float] = {}  # when each was counted last
        self._read: dict[tuple[str, ...], int] = {}  # what was last told of each
        self._lock = threading.Lock()

    @property
    def lost(self) -> int:
        """Records the kernel had no room for."""
        return int(getattr(self.reader, "lost", 0))

    def record(self, data: bytes) -> None:
        """Count a record."""
        with self._lock:
            try:
                labels = self.keys.labels(data[: self.keys.size])
            except EncodeError:
                self.undecoded += 1
                return
            if labels is None:
                return
            if labels not in self._counts and len(self._counts) >= self._most:
                self.dropped += 1
                return
            self._counts[labels] = self._counts.get(labels, 0) + 1
            self._seen[labels] = self._clock()

    def read(self) -> dict[tuple[str, ...], int]:
        """The counts by labels, with what is in the buffers now."""
        self.catch_up()
        with self._lock:
            before = self._clock() - self.flush_interval
            for labels, last in list(self._seen.items()):
                if last < before and self._read.get(labels) == self._counts[labels]:
                    del self._counts[labels], self._seen[labels], self._read[labels]
            self._read = dict(self._counts)
            return dict(self._counts)

    def take_over(self, other: PerfCounter) -> None:
        """Go on with the counts of another one of the same labels."""
        with other._lock, self._lock:
            for labels, count in other._counts.items():
                self._counts[labels] = self._counts.get(labels, 0) + count
                self._seen[labels] = self._clock()
            self.undecoded += other.undecoded
            self.dropped += other.dropped + other.lost
