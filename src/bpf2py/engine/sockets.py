"""`XdpSocket`: a simulated socket that packets can be redirected to."""

from __future__ import annotations

__all__ = ["XdpSocket"]


class XdpSocket:
    """A simulated socket of AF_XDP; see `Engine.xdp_socket`. It is one as long as somebody holds it."""

    __slots__ = ("__weakref__", "_number")

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        """The number that stands for a descriptor."""
        return self._number
