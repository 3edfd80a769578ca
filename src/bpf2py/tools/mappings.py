"""`Mappings`: which pieces of processes' address spaces were mapped and not unmapped, by who asked for them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

from bpf2py._typing import NamedTuple

__all__ = ["Mapping", "Mappings"]


class Mapping(NamedTuple):
    """Pages that are mapped, without a gap.

    Attributes:
        start, end: addresses.
        stack: number of the stack that asked for them.
        time_ns: when, by the programs' clock.
        born: the call, which what is left of one mapping has in common.
    """

    start: int
    end: int
    stack: int
    time_ns: int
    born: int


class Mappings:
    """Of each process pieces that do not overlap, in order: unmapping a part leaves the rest, mapping over one replaces it."""

    def __init__(self, page: int) -> None:
        self._page = page
        self._of: dict[int, list[Mapping]] = {}
        self._born = 0

    def add(self, pid: int, start: int, size: int, stack: int, time_ns: int) -> None:
        """Pages are mapped; what was there is gone."""
        if size <= 0:
            return
        end = self._up(start + size)
        self.remove(pid, start, size)
        self._born += 1
        insort(self._of.setdefault(pid, []), Mapping(start, end, stack, time_ns, self._born))

    def put_back(self, pid: int, pieces: list[Mapping]) -> None:
        """What `remove` gave was not removed after all."""
        for piece in pieces:
            self.remove(pid, piece.start, piece.end - piece.start)
            insort(self._of.setdefault(pid, []), piece)

    def remove(self, pid: int, start: int, size: int) -> list[Mapping]:
        """Pages are unmapped: those that were known, as the kernel cuts them (munmap(2)); none for what it refuses."""
        known = self._of.get(pid)
        if not known or start % self._page or size <= 0:
            return []
        end = self._up(start + size)
        first = bisect_right(known, start, key=_end)
        last = bisect_left(known, end, key=_start)
        gone, left = [], []
        for piece in known[first:last]:
            gone.append(piece._replace(start=max(piece.start, start), end=min(piece.end, end)))
            if piece.start < start:
                left.append(piece._replace(end=start))
            if piece.end > end:
                left.append(piece._replace(start=end))
        known[first:last] = left
        return gone

    def items(self) -> Iterator[tuple[int, Mapping]]:
        """(process, piece) of all there are."""
        for pid, known in self._of.items():
            for piece in known:
                yield pid, piece

    def _up(self, address: int) -> int:
        return -(-address // self._page) * self._page


def _start(piece: Mapping) -> int:
    return piece.start


def _end(piece: Mapping) -> int:
    return piece.end
