"""`Wakeup`: a descriptor that one thread makes readable and another waits for; and waiting for several."""

from __future__ import annotations

import contextlib
import os
import select

from bpf2py._typing import Any
from bpf2py.errors import EncodeError
from bpf2py.owned import Owned

__all__ = ["Poll", "Wakeup"]

LONGEST = 1_000_000.0  # seconds: poll() takes its milliseconds as a C int; who waits longer waits again


class Wakeup(Owned):
    """Readable from `set` until `clear`: an eventfd on Linux, a pair of sockets elsewhere. Signal handlers may call `set`."""

    __slots__ = ("_fd", "_pair")

    def __init__(self) -> None:
        self._pair: Any = None
        if hasattr(os, "eventfd"):
            self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            return
        import socket

        self._pair = socket.socketpair()
        for end in self._pair:
            end.setblocking(False)
        self._fd = self._pair[0].fileno()

    def fileno(self) -> int:
        """The descriptor to wait for, negative once closed."""
        return self._fd

    def set(self) -> None:
        """Make it readable."""
        if self._pair is None:
            os.eventfd_write(self._fd, 1)
            return
        with contextlib.suppress(BlockingIOError):  # full of earlier calls
            self._pair[1].send(b"\0")

    def clear(self) -> None:
        """Make it unreadable."""
        with contextlib.suppress(BlockingIOError):
            if self._pair is None:
                os.eventfd_read(self._fd)
                return
            while self._pair[0].recv(4096):
                pass

    def close(self) -> None:
        """Give it up; closing twice is harmless."""
        fd, self._fd = self._fd, -1
        if self._pair is not None:
            for end in self._pair:
                end.close()
        elif fd >= 0:
            os.close(fd)


class Poll:
    """Waits for descriptors to be readable: poll(2), or select() where there is none."""

    __slots__ = ("_fds", "_poll")

    def __init__(self, fds: list[Any]) -> None:
        self._fds = fds
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            for fd in fds:
                self._poll.register(fd, select.POLLIN)

    def wait(self, timeout: float | None) -> bool:
        """Whether one is readable, after at most so many seconds (None: for ever; at most `LONGEST` at once)."""
        if timeout is not None:
            if timeout != timeout:
                raise EncodeError("a timeout is a number of seconds, or None to wait for ever; this is not a number")
            timeout = min(max(timeout, 0), LONGEST)
        if self._poll is None:
            return bool(select.select(self._fds, [], [], timeout)[0])
        return bool(self._poll.poll(None if timeout is None else int(timeout * 1000 + 0.999)))
