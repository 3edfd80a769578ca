"""What owning a descriptor, a mapping or an attachment forbids: copies."""

from __future__ import annotations

from collections.abc import Sequence

from bpf2py._typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from typing import Protocol

    class Closable(Protocol):
        """What has a `close()`."""

        def close(self) -> None: ...


__all__ = ["Owned", "close_all"]


class Owned:
    """Cannot be pickled or copied, as sockets cannot: a copy would close a descriptor that is somebody else's by then."""

    __slots__ = ()

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError(f"cannot pickle or copy {type(self).__name__!r} object: it owns what it would close twice")


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
