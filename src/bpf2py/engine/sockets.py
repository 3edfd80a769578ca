"""`XdpSocket`: a simulated socket that packets can be redirected to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine

__all__ = ["XdpSocket"]


class XdpSocket:
    """A simulated socket of AF_XDP; see `Engine.xdp_socket`. It is one as long as somebody holds it."""

    __slots__ = ("__weakref__", "_number")

    def __init__(self, engine: Machine) -> None:
        self._number = engine.next_fd()
        engine.sockets[self._number] = self

    def fileno(self) -> int:
        """The number that stands for a descriptor."""
        return self._number
