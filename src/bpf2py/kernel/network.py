"""Network devices by name."""

from __future__ import annotations

import difflib
import socket

from bpf2py.errors import AttachError


def ifindex_of(what: str, device: str | int) -> int:
    """The index of a network device. Raises AttachError, naming similar ones, when there is none."""
    if isinstance(device, int):
        if not 0 < device < 1 << 31:
            raise AttachError(f"{what}: {device} is not the index of a network device", errno=19)
        return device
    try:
        return socket.if_nametoindex(device)
    except OSError:
        names = [name for _, name in socket.if_nameindex()]
        near = difflib.get_close_matches(device, names, 3) or names[:5]
        raise AttachError(
            f"{what}: there is no network device {device!r}; there are: {', '.join(near)}",
            errno=19,
            command="if_nametoindex",
        ) from None
