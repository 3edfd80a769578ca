"""What programs print with bpf_printk(): the kernel's trace pipe, read through an instance of our own where that is possible.

An instance (``instances/NAME`` of tracefs) has buffers of its own: reading it takes nothing from others who read trace_pipe, and
shows nothing from before. bpf_trace_printk() is an event that goes there since Linux 5.9.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import time
from collections.abc import Iterator

from bpf2py._typing import NamedTuple
from bpf2py.errors import ClosedError, NotSupported, PermissionDenied
from bpf2py.kernel.tracefs import Tracefs
from bpf2py.owned import Owned

__all__ = ["TraceLine", "TracePipe", "trace_pipe"]

PREFIX = "bpf2py-"
MOST_READS = 64  # of a page each
_EVENT = "events/bpf_trace/bpf_trace_printk/enable"
# kernel/trace/trace_output.c: task-pid [(tgid)] [cpu] flags seconds: text.
_LINE = re.compile(
    rb"\s*(?P<task>.*)-(?P<pid>\d+)\s+(?:\([\s\d-]+\)\s+)?\[(?P<cpu>\d+)\]\s+\S+\s+(?P<seconds>[\d.]+): "
    rb"bpf_trace_printk: (?P<text>.*)"
)
_UNNAMED = "<...>"
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # include/linux/proc_ns.h: PROC_PID_INIT_INO
_LOST = re.compile(rb"CPU:(\d+) \[LOST (\d+) EVENTS\]")


class TraceLine(NamedTuple):
    """A line a program printed.

    Attributes:
        text: what it printed.
        task, pid: the thread that ran then. The kernel notes names when it switches threads, so that of a thread which just started
            may be asked for when the line is read; ``<...>`` where nobody knows it any more.
        cpu: where.
        seconds: of the trace clock, as `time.monotonic` counts them, nearly.
        lost: lines of this CPU that were lost before; `text` is empty then.
    """

    text: str
    task: str = ""
    pid: int = 0
    cpu: int = 0
    seconds: float = 0.0
    lost: int = 0


class TracePipe(Owned):
    """The lines programs print with bpf_printk(), from now on; a context manager.

    Raises PermissionDenied without the right to read tracefs.
    """

    def __init__(self) -> None:
        self._tracefs: Tracefs | None = None
        self._lock = -1
        self._name: str | None = None
        self._fd = -1
        self._rest = b""
        try:
            self._tracefs = Tracefs()
            self._open(self._tracefs)
        except PermissionError as error:
            self.close()
            if isinstance(error, PermissionDenied):
                raise
            raise PermissionDenied(
                "trace_pipe: tracefs may not be read: run as root", errno=error.errno, command="open"
            ) from None
        except OSError as error:
            self.close()
            if error.errno != errno.ENOENT:
                raise
            raise NotSupported(
                "trace_pipe: this kernel has no trace_pipe (CONFIG_TRACING)", feature="trace_pipe"
            ) from None
        except BaseException:
            self.close()
            raise

    def _open(self, tracefs: Tracefs) -> None:
        self._make_instance(tracefs)
        where = f"instances/{self._name}/" if self._name is not None else ""
        self._fd = os.open(tracefs.path(f"{where}trace_pipe"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def _make_instance(self, tracefs: Tracefs) -> None:
        """An instance of our own, locked so that others know it is in use; without one the pipe of all is read."""
        try:
            _remove_stale(tracefs)
            name = f"{PREFIX}{os.getpid()}-{id(self):x}"
            path = tracefs.path(f"instances/{name}")
            os.mkdir(path)
        except OSError:
            return
        self._name = name
        try:
            self._lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with open(f"{path}/{_EVENT}", "w") as file:
                file.write("1")
            with contextlib.suppress(OSError), open(f"{path}/buffer_percent", "w") as file:
                file.write("0")  # else who waits is woken when the buffer is half full (Linux 5.0)
        except OSError:
            self._remove_instance()

    def _remove_instance(self) -> None:
        name, self._name = self._name, None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        if name is not None and self._tracefs is not None:
            _remove(self._tracefs, name)

    def fileno(self) -> int:
        """A descriptor that is readable when there are lines. Raises ClosedError."""
        if self._fd < 0:
            raise ClosedError("trace_pipe: it is closed")
        return self._fd

    def read(self) -> list[TraceLine]:
        """Lines that are there, without waiting; not all of them where programs print without a pause. Raises ClosedError."""
        fd = self.fileno()
        found: list[TraceLine] = []
        for _ in range(MOST_READS):
            try:
                data = os.read(fd, 1 << 16)
            except BlockingIOError:
                return found
            if not data:
                return found
            *lines, self._rest = (self._rest + data).split(b"\n")
            found += [self._named(line) for raw in lines if (line := parse(raw)) is not None]
        return found

    def _named(self, line: TraceLine) -> TraceLine:
        """The line, with its thread's name where the kernel had not noted it yet."""
        if line.task != _UNNAMED or self._tracefs is None:
            return line
        return line._replace(task=_name_of(line.pid, self._tracefs) or _UNNAMED)

    def lines(self, timeout: float | None = None) -> Iterator[TraceLine]:
        """Lines as they come, for at most so many seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            yield from self.read()
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            poll = select.poll()
            poll.register(self.fileno(), select.POLLIN)
            # The pipe of all may wake its readers late.
            poll.poll(max(1, int(1000 * min(0.25, 0.25 if left is None else left))))

    def close(self) -> None:
        """Close the pipe and remove its instance; closing twice is harmless."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        self._remove_instance()
        tracefs, self._tracefs = self._tracefs, None
        if tracefs is not None:
            tracefs.close()

    def __enter__(self) -> TracePipe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            self.close()


def parse(raw: bytes) -> TraceLine | None:
    """A line of trace_pipe; None for one that bpf_trace_printk() did not write."""
    lost = _LOST.match(raw)
    if lost is not None:
        return TraceLine("", cpu=int(lost[1]), lost=int(lost[2]))
    found = _LINE.fullmatch(raw)
    if found is None:
        return None
    text, task = found["text"].decode("utf-8", "replace"), found["task"].decode("utf-8", "replace")
    return TraceLine(text, task, int(found["pid"]), int(found["cpu"]), float(found["seconds"]))


def _name_of(pid: int, tracefs: Tracefs) -> str | None:
    """The name of a thread that runs, or of one that was switched out before it ended."""
    try:
        if os.stat("/proc/self/ns/pid").st_ino == _INITIAL_PID_NAMESPACE:  # elsewhere /proc counts otherwise
            with open(f"/proc/{pid}/comm", errors="replace") as file:
                return file.read().rstrip("\n")
    except OSError:
        pass
    try:
        noted = tracefs.read("saved_cmdlines")
    except OSError:
        return None
    return next(
        (name for number, _, name in (line.partition(" ") for line in noted.splitlines()) if number == str(pid)), None
    )


def trace_pipe(timeout: float | None = None) -> Iterator[TraceLine]:
    """What all programs of the machine print with bpf_printk(), as it comes; for at most `timeout` seconds.

    Other readers of the kernel's trace pipe lose nothing: the lines come through a tracefs instance of this reader. Where tracefs
    is not mounted, it is mounted for this reader alone. Lines printed from the first ``next()`` on are seen.

    Raises PermissionDenied without the right to read tracefs (CAP_SYS_ADMIN, or read access where it is mounted).

    Example:
        >>> for line in bpf2py.trace_pipe():          # doctest: +SKIP
        ...     print(line.task, line.text)
    """
    with TracePipe() as pipe:
        yield from pipe.lines(timeout)


def _remove_stale(tracefs: Tracefs) -> None:
    """Remove instances whose process was killed: nobody holds their lock."""
    for name in tracefs.listdir("instances"):
        if not name.startswith(PREFIX):
            continue
        try:
            fd = os.open(tracefs.path(f"instances/{name}"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        finally:
            os.close(fd)
        _remove(tracefs, name)


def _remove(tracefs: Tracefs, name: str) -> None:
    try:
        os.rmdir(tracefs.path(f"instances/{name}"))
    except OSError:
        pass  # another process was quicker, or reads it
