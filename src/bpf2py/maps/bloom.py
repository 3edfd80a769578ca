"""BLOOM_FILTER: a set that may say yes wrongly, Linux 5.16."""

from __future__ import annotations

from collections.abc import Iterable

from bpf2py.maps.base import Map, V
from bpf2py.uapi.errno import ENOENT


class BloomFilterMap(Map[None, V]):
    """Answers "surely not there" or "probably there"; nothing can be removed.

    `max_entries` is the number of values the rate of wrong answers is planned for, `map_extra` the number of hash
    functions (5 where it is 0).

    Example:
        >>> seen.add(pid); pid in seen      # doctest: +SKIP
        True
    """

    def add(self, value: V) -> None:
        """Add a value."""
        slot = self._slot()
        try:
            self._put_value(slot, value, "update")
            self._check("update", slot.update())
        finally:
            self._slots.append(slot)

    def update(self, values: Iterable[V]) -> None:
        """Add several values."""
        for value in values:
            self.add(value)

    def __contains__(self, value: object) -> bool:
        slot = self._slot()
        try:
            self._put_value(slot, value, "lookup")
            result = slot.lookup()
            if result == -ENOENT:
                return False
            self._check("lookup", result)
            return True
        finally:
            self._slots.append(slot)
