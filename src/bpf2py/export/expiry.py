"""Elements of processes and cgroups that went are removed from the map, so that short-lived ones do not fill it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from bpf2py.errors import BpfError, EncodeError, KeyNotFound
from bpf2py.export.config import Source
from bpf2py.export.decoders import KeyDecoder
from bpf2py.export.names import Cgroups
from bpf2py.export.reading import numbers_of, take
from bpf2py.maps.base import AnyMap
from bpf2py.maps.mapping import MappingMap
from bpf2py.processes import pids

__all__ = ["Expiry"]

Sets = dict[tuple[str, ...], list[int]]


class Expiry:
    """Removes elements whose process or cgroup has been gone for `after` seconds.

    The last count of an element is read with its removal. It is carried on as long as another element has the same labels (a
    service that was started again is a new cgroup of the same path): a counter that goes on never decreases.

    Attributes:
        removed: elements removed.
        errors: elements that could not be.
    """

    def __init__(
        self,
        after: float,
        cgroups: Cgroups,
        *,
        processes: Callable[[], set[int]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.after = after
        self.clock = clock
        self.removed = self.errors = 0
        self.gone: dict[str, dict[bytes, float]] = {}  # by map: elements of nobody, and since when
        self.carried: dict[str, Sets] = {}
        self._cgroups = cgroups
        self._processes = processes or pids
        self._there: dict[str, set[int]] = {}

    def begin(self) -> None:
        """A scrape begins: who is there?"""
        self._there = {"process": self._processes(), "cgroup": set(self._cgroups.refresh())}

    def reading(self, source: Source, bpf_map: AnyMap, keys: KeyDecoder) -> Reading | None:
        """What is to see the elements of a map, None for one whose elements belong to nobody."""
        places, at = [], 0
        if source.labels and source.labels[-1].name == "cpu":  # the elements' own count cannot be told by CPU again
            return None
        for label in source.labels:
            if label.expires:
                places.append((label.expires, at, at + label.size))
            at += label.size + label.padding
        return Reading(self, source, bpf_map, keys, places) if places and isinstance(bpf_map, MappingMap) else None

    def is_there(self, kind: str, number: int) -> bool:
        """Whether a process, thread or cgroup is there. Process 0 is the idle task, cgroup 0 is none."""
        return number in self._there[kind] or not number or (kind == "process" and os.path.exists(f"/proc/{number}"))


class Reading:
    """One reading of a map: `look_at()` every key, then `finish()`."""

    def __init__(
        self, expiry: Expiry, source: Source, bpf_map: AnyMap, keys: KeyDecoder, places: list[tuple[str, int, int]]
    ) -> None:
        self._expiry = expiry
        self._source = source
        self._map = bpf_map
        self._keys = keys
        self._places = places
        self._before = expiry.gone.get(source.map, {})
        self._gone: dict[bytes, float] = {}
        self._now = expiry.clock()

    def look_at(self, key: bytes) -> None:
        """Note whether somebody is there for a key."""
        for kind, start, end in self._places:
            if not self._expiry.is_there(kind, int.from_bytes(key[start:end], sys.byteorder)):
                self._gone[key] = self._before.get(key, self._now)
                return

    def finish(self, sets: Sets) -> None:
        """Add what is carried on to what was read, then remove what expired: it is in `sets` this once more."""
        expiry = self._expiry
        carried = expiry.carried.setdefault(self._source.map, {})
        living = {self._identity(labels) for labels in sets}
        for labels, numbers in list(carried.items()):
            if self._identity(labels) not in living:
                del carried[labels]
            elif labels in sets:
                sets[labels] = [a + b for a, b in zip(sets[labels], numbers, strict=True)]
            else:
                sets[labels] = list(numbers)
        for key, since in list(self._gone.items()):
            if self._now - since >= expiry.after:
                self._remove(key, carried)
                del self._gone[key]
        expiry.gone[self._source.map] = self._gone

    def _identity(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        return labels[:-1] if self._source.last_is_bucket else labels

    def _remove(self, key: bytes, carried: Sets) -> None:
        try:
            numbers = numbers_of(self._map, take(self._map, key), self._source.numbers)
            labels = self._keys.labels(key)
        except (KeyNotFound, EncodeError):
            return
        except BpfError:
            self._expiry.errors += 1
            return
        self._expiry.removed += 1
        if labels is not None:
            before = carried.get(labels, [0] * len(numbers))
            carried[labels] = [a + b for a, b in zip(before, numbers, strict=True)]
