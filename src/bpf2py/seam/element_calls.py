"""Single elements of maps of plain integers, each command one call."""

from __future__ import annotations

from collections.abc import Callable

from bpf2py._typing import NamedTuple

__all__ = ["ElementCalls"]


class ElementCalls(NamedTuple):
    """What a backend has for a map whose keys and values are plain integers.

    Each function takes objects of any type and returns None where it did nothing with them: a key or value that is not an `int`
    of its type's range, or an error of which the general way tells more. False: there is no such key.

    Attributes:
        lookup: (key), the value.
        update: (key, value), True.
        delete: (key), True.
    """

    lookup: Callable[[object], int | None]
    update: Callable[[object, object], bool | None]
    delete: Callable[[object], bool | None]
