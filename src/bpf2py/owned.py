"""What owning a descriptor, a mapping or an attachment forbids: copies."""

from __future__ import annotations

from bpf2py._typing import NoReturn

__all__ = ["Owned"]


class Owned:
    """Cannot be pickled or copied, as sockets cannot: a copy would close a descriptor that is somebody else's by then."""

    __slots__ = ()

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError(f"cannot pickle or copy {type(self).__name__!r} object: it owns what it would close twice")
