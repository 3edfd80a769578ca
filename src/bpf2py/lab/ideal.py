"""Exact LRU, of every size at once: how many other keys were used since a key was used last (Mattson's stack distance)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, Any]

__all__ = ["Curve", "distances"]


def distances(keys: Numbers) -> Numbers:
    """For each use the number of other keys used since the last use of its key; -1 for the first use.

    Between two uses of a key lie as many different keys as there are uses that are the last ones of theirs: all uses between,
    less those whose own last use lies between as well. Counting these is counting inversions, done here by merging.
    """
    import numpy as np

    count = len(keys)
    order = np.argsort(keys, kind="stable")
    previous = np.full(count, -1, np.int64)
    same = keys[order[1:]] == keys[order[:-1]]
    previous[order[1:][same]] = order[:-1][same]
    # Of the uses before i, those whose last use came after that of i's key.
    later = _greater_before(previous)
    found = np.arange(count) - previous - 1 - later
    return np.where(previous < 0, -1, found)


def _greater_before(values: Numbers) -> Numbers:
    """For each element how many of those before it are greater."""
    import numpy as np

    count = len(values)
    size = 1 << max(count - 1, 0).bit_length()
    found = np.zeros(size, np.int64)
    ranks = np.empty(size, np.int64)
    # Different numbers, so that merging needs no ties: of equal ones the later is the greater.
    ranks[np.argsort(values, kind="stable")] = np.arange(count) if count else ranks[:0]
    ranks[count:] = np.arange(count, size)
    places = np.arange(size)
    current = ranks.copy()
    width = 1
    while width < size:
        rows = current.reshape(-1, 2 * width)
        order = np.argsort(rows, axis=1, kind="stable")
        positions = places.reshape(-1, 2 * width)
        # In the merged row: an element of the right half has before it in order those of both halves that are smaller.
        is_right = order >= width
        smaller_left = np.cumsum(~is_right, axis=1)
        np.add.at(found, np.take_along_axis(positions, order, 1)[is_right], width - smaller_left[is_right])
        current = np.take_along_axis(rows, order, 1).ravel()
        places = np.take_along_axis(positions, order, 1).ravel()
        width *= 2
    return found[:count]


class Curve:
    """Hits of an exact LRU by its size.

    Attributes:
        uses: how many there were.
        different: different keys, with which every later use is a hit.
    """

    def __init__(self, uses: int, different: int, cumulated: Numbers) -> None:
        self.uses = uses
        self.different = different
        self._cumulated = cumulated

    @classmethod
    def of(cls, keys: Numbers) -> Curve:
        """The curve of a trace."""
        import numpy as np

        found = distances(keys)
        again = found[found >= 0]
        different = len(keys) - len(again)
        return cls(
            len(keys), different, np.cumsum(np.bincount(again, minlength=1)) if len(again) else np.zeros(1, np.int64)
        )

    def hits(self, size: int) -> int:
        """Uses that an exact LRU with room for so many keys finds."""
        if size < 1:
            return 0
        return int(self._cumulated[min(size, len(self._cumulated)) - 1])

    def size_for(self, rate: float) -> int | None:
        """The smallest size with that hit rate; None where no size has it."""
        import numpy as np

        wanted = rate * self.uses
        if self._cumulated[-1] < wanted:
            return None
        return int(np.searchsorted(self._cumulated, wanted, side="left")) + 1
