"""QUEUE and STACK: values without keys, Linux 4.20."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bpf2py._typing import Any, NoReturn, TypeVar, overload
from bpf2py.errors import NotSupported
from bpf2py.maps.base import ANY, EXIST, Map, V
from bpf2py.uapi.errno import ENOENT
from bpf2py.uapi.map_types import type_name

D = TypeVar("D")
_MISSING: Any = object()


class QueueMap(Map[None, V]):
    """First in, first out. There are no keys: `push`, `pop`, `peek`.

    Example:
        >>> jobs.push(7); jobs.pop()        # doctest: +SKIP
        7
    """

    def push(self, value: V, *, replace: bool = False) -> None:
        """Add a value; with `replace`, a full map drops its oldest one first (BPF_EXIST). Raises MapFull."""
        slot = self._slot()
        try:
            self._put_value(slot, value, "update")
            self._check("update", slot.update(int(EXIST if replace else ANY)))
        finally:
            self._slots.append(slot)

    def extend(self, values: Iterable[V]) -> None:
        """Push several values. Raises MapFull at the first that finds no room."""
        for value in values:
            self.push(value)

    @overload
    def pop(self) -> V: ...
    @overload
    def pop(self, default: V | D) -> V | D: ...
    def pop(self, default: Any = _MISSING) -> Any:
        """Remove and return the next value, or `default` where there is none. Raises QueueEmpty without a default."""
        slot = self._slot()
        try:
            return self._take(slot.lookup_and_delete(), slot.value, "pop", default)
        finally:
            self._slots.append(slot)

    @overload
    def peek(self) -> V: ...
    @overload
    def peek(self, default: V | D) -> V | D: ...
    def peek(self, default: Any = _MISSING) -> Any:
        """The next value, which stays, or `default` where there is none. Raises QueueEmpty without a default."""
        slot = self._slot()
        try:
            return self._take(slot.lookup(), slot.value, "lookup", default)
        finally:
            self._slots.append(slot)

    def _take(self, result: int, value: bytearray, operation: str, default: Any) -> Any:
        if result == -ENOENT and default is not _MISSING:
            return default
        self._check(operation, result)
        return self._decode_value(value)

    def drain(self) -> Iterator[V]:
        """Pop values until there are none. Bounded: stops after `max_entries` even while programs keep pushing."""
        for _ in range(self.max_entries):
            value = self.pop(_MISSING_VALUE)
            if value is _MISSING_VALUE:
                return
            yield value

    def clear(self) -> None:
        """Drop the values that are there now."""
        for _ in self.drain():
            pass

    def __bool__(self) -> bool:
        return self.peek(_MISSING_VALUE) is not _MISSING_VALUE

    def __iter__(self) -> NoReturn:
        raise NotSupported(
            f"map {self.name}: a {type_name(self._info.type)} cannot be read without removing: use drain() or peek()",
            feature=f"iteration of {type_name(self._info.type)}",
        )


_MISSING_VALUE: Any = object()


class StackMap(QueueMap[V]):
    """Last in, first out; otherwise as `QueueMap`."""
