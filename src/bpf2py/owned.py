"""What owning a descriptor, a mapping or an attachment means: it is closed once, and cannot be copied."""

from __future__ import annotations

import sys
from _weakref import ref  # of which the module weakref makes more than is needed here
from collections.abc import Callable, Sequence

from bpf2py._typing import TYPE_CHECKING, ClassVar, NoReturn

if TYPE_CHECKING:
    from typing import Protocol

    class Closable(Protocol):
        """What has a `close()`."""

        def close(self) -> None: ...


__all__ = ["Finalizer", "Owned", "close_all"]


class Owned:
    """Cannot be pickled or copied, as sockets cannot: a copy would close a descriptor that is somebody else's by then."""

    __slots__ = ()

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError(f"cannot pickle or copy {type(self).__name__!r} object: it owns what it would close twice")


class Finalizer:
    """Calls a function once: when it is called itself, or when `owner` goes away, but not when the process ends.

    What `weakref.finalize` is with ``atexit = False``.
    """

    __slots__ = ("_end", "_owner")
    # Both are the class's own: while the interpreter is taken apart a module's variables may be gone.
    _all: ClassVar[set[Finalizer]] = set()
    _at_exit = staticmethod(sys.is_finalizing)

    def __init__(self, owner: object, end: Callable[[], object]) -> None:
        self._end = end
        self._all.add(self)  # else the collector could take both away, and call nothing
        self._owner = ref(owner, self)

    def __call__(self, _: object = None) -> None:
        try:
            self._all.remove(self)
        except KeyError:
            return
        if not self._at_exit():
            self._end()

    @property
    def alive(self) -> bool:
        """Whether the function was not called yet."""
        return self in self._all


def close_all(owned: Sequence[Closable]) -> None:
    """Close all of them, the last first, also when closing one raises; then raise what was raised last."""
    raised: BaseException | None = None
    for each in reversed(owned):
        try:
            each.close()
        except BaseException as error:
            error.__context__ = error.__context__ or raised
            raised = error
    if raised is not None:
        raise raised
