"""A process that ends the watched command, and all it started, when `bpf2py run` is killed before it can."""

from __future__ import annotations

import os
import signal
import time
import warnings
from pathlib import Path

from bpf2py.processes import pids, stat_of

__all__ = ["Guard", "guards"]

VARIABLE = "BPF2PY_RUN"  # in the command's environment, by which what it started is found
PATIENCE = 5.0  # seconds between SIGTERM and SIGKILL, and for SIGKILL to work

guards: set[int] = set()  # processes of this one that are not the command's


class Guard:
    """A forked process that waits for this one's end.

    The kernel ends the command itself (PR_SET_PDEATHSIG), not what that started: nobody would be left who knows of those.

    Attributes:
        environment: for the command.
    """

    def __init__(self) -> None:
        mark = f"{os.getpid()}-{os.urandom(8).hex()}"
        self.environment = {**os.environ, VARIABLE: mark}
        reader, self._writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child makes system calls alone
            self._pid = os.fork()
        if self._pid == 0:
            try:
                watch(reader, f"{VARIABLE}={mark}".encode())
            finally:
                os._exit(0)
        os.close(reader)
        guards.add(self._pid)

    def dismiss(self) -> None:
        """The command has ended; what it left running goes on. Harmless the second time."""
        writer, self._writer = self._writer, -1
        if writer < 0:
            return
        try:
            os.write(writer, b"x")
        except BrokenPipeError:
            pass  # somebody killed it
        os.close(writer)
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass
        guards.discard(self._pid)


def watch(reader: int, mark: bytes) -> None:
    """Wait for a byte, and do nothing; or for the end of the file, and end every process with `mark` in its environment."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_IGN)  # they are for the whole group
    # Descriptors of this copy would keep programs attached, and pipes open.
    null = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.dup2(reader, 3)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    if os.read(3, 1):
        return
    begin = time.monotonic()
    empty = 0
    while empty < 3:  # one may have forked another while it was looked for
        found = marked(mark)
        empty = 0 if found else empty + 1
        for pid in found:
            for number in (signal.SIGTERM, signal.SIGCONT):
                try:
                    os.kill(pid, signal.SIGKILL if time.monotonic() - begin > PATIENCE else number)
                except (ProcessLookupError, PermissionError):
                    pass
        if time.monotonic() - begin > 2 * PATIENCE:
            return
        time.sleep(0.02)


def marked(mark: bytes) -> list[int]:
    """Living processes whose environment has this entry."""
    found = []
    for pid in pids() - {os.getpid()}:
        try:
            if mark not in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                continue
        except OSError:
            continue
        stat = stat_of(pid)
        if stat is not None and not stat.ended:
            found.append(pid)
    return found
