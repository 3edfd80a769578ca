"""`Newest`: a list of what happened that does not grow for ever."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["Newest"]

T = TypeVar("T")


class Newest(list[T]):
    """A list that keeps the newest of what is added, as the kernel's trace buffer does.

    Attributes:
        limit: how many are kept at least, and about half as many more.
        dropped: how many older ones are gone.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.dropped = 0

    def add(self, item: T) -> None:
        """Append, and drop the oldest where there are too many."""
        self.append(item)
        if len(self) > self.limit * 3 // 2:
            excess = len(self) - self.limit
            del self[:excess]
            self.dropped += excess
