"""What a process has mapped: which file and which byte of it an address is."""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from bpf2py.processes import stat_of

if TYPE_CHECKING:
    from bpf2py.symbols.image import Image

__all__ = ["Mapping", "Process"]

MOST_PERF_MAP = 256 << 20  # bytes of a file a JIT compiler wrote


class Mapping(NamedTuple):
    """A line of /proc/PID/maps with executable memory."""

    start: int
    end: int
    offset: int
    device: str
    inode: int
    path: str

    @property
    def deleted(self) -> bool:
        """Whether the file has no name any more."""
        return self.path.endswith(" (deleted)")


class Process:
    """Mappings of a process as they were when it was looked at; they stay known when the process has gone.

    Attributes:
        pid: its number, in the namespace /proc shows.
        started: when, in ticks since boot: tells a process from a later one with its number. 0 where it has gone already.
        images: what is known of the files it has mapped, by mapping.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.started = start_time(pid)
        self.images: dict[Mapping, Image | None] = {}
        self._executable = _executable(pid)
        self._mappings: list[Mapping] = []
        self._starts: list[int] = []
        self._jit: tuple[list[int], list[int], list[str]] | None = None
        self._jit_size = -1
        self.refresh()

    def refresh(self) -> bool:
        """Read the mappings again: whether that was possible. A process that has gone keeps those it had."""
        try:
            with open(f"/proc/{self.pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
                lines = file.readlines()
        except OSError:
            return False
        if start_time(self.pid) != self.started or not lines:
            return False
        self._mappings = [mapping for line in lines if (mapping := _parse(line)) is not None]
        self._starts = [mapping.start for mapping in self._mappings]
        return True

    @property
    def replaced(self) -> bool:
        """Whether its number is another process' by now, or it runs another program."""
        now = start_time(self.pid)
        return bool(now) and (now != self.started or _executable(self.pid) != self._executable)

    def mappings(self) -> list[Mapping]:
        """Those with code, by address."""
        return self._mappings

    @property
    def executable_inode(self) -> int:
        """The inode of the program it runs, 0 where that cannot be told."""
        return self._executable[1]

    def base_of(self, mapping: Mapping) -> int | None:
        """Where the first byte of a mapping's file is: what is added to addresses that count from there.

        The file may be mapped a second time, by somebody who reads it: that which is loaded stands before its code.
        """
        found = None
        try:
            with open(f"/proc/{self.pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
                for line in file:
                    parts = line.split(None, 5)
                    if (
                        len(parts) > 4
                        and int(parts[4]) == mapping.inode
                        and parts[3] == mapping.device
                        and not int(parts[2], 16)
                    ):
                        start = int(parts[0].partition("-")[0], 16)
                        if start <= mapping.start:
                            found = start
        except (OSError, ValueError):
            pass
        return found

    def at(self, address: int) -> Mapping | None:
        """The mapping an address lies in."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._mappings[index].end:
            return None
        return self._mappings[index]

    def paths_of(self, mapping: Mapping) -> list[str]:
        """Where a mapping's file may be opened, the surest first.

        map_files needs CAP_CHECKPOINT_RESTORE (Linux 5.9) or CAP_SYS_ADMIN, and has deleted files as well; /proc/PID/root is the
        process' own mount namespace.
        """
        paths = [f"/proc/{self.pid}/map_files/{mapping.start:x}-{mapping.end:x}"]
        if mapping.path.startswith("/") and not mapping.deleted:
            paths += [f"/proc/{self.pid}/root{mapping.path}", mapping.path]
        return paths

    def read_memory(self, start: int, size: int) -> bytes:
        """Bytes of its memory; fewer where they cannot be read."""
        try:
            with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as file:
                return os.pread(file.fileno(), size, start)
        except (OSError, OverflowError, ValueError):
            return b""

    def jit(self, address: int) -> tuple[str, int] | None:
        """(name, bytes from its start) of a function a JIT compiler announced in /tmp/perf-PID.map (``python -X perf`` does)."""
        found = self._jit_at(address)
        if found is None and self._read_perf_map():  # the file grows
            found = self._jit_at(address)
        return found

    def _jit_at(self, address: int) -> tuple[str, int] | None:
        if self._jit is None:
            return None
        starts, ends, names = self._jit
        index = bisect_right(starts, address) - 1
        if index < 0 or address >= ends[index]:
            return None
        return names[index], address - starts[index]

    def _read_perf_map(self) -> bool:
        """Read the file if it has grown: whether there is anything new."""
        path = f"/proc/{self.pid}/root/tmp/perf-{_inner_pid(self.pid)}.map"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            # Anybody may write to /tmp: believe the process' own user and root.
            if status.st_size == self._jit_size or status.st_uid not in (0, _owner(self.pid)):
                return False
            self._jit_size = status.st_size
            rows = {}
            for line in file.read(MOST_PERF_MAP).split(b"\n"):
                try:
                    start, size, name = line.split(b" ", 2)
                    at = int(start, 16)
                    rows[at] = (at + int(size, 16), name.decode("utf-8", "replace"))
                except ValueError:
                    continue  # the last line may be half written
        starts = sorted(rows)
        self._jit = starts, [rows[start][0] for start in starts], [rows[start][1] for start in starts]
        return True


def start_time(pid: int) -> int:
    """When a process started, in ticks since boot; 0 where there is none."""
    found = stat_of(pid)
    return found.started if found is not None else 0


def _executable(pid: int) -> tuple[int, int]:
    try:
        status = os.stat(f"/proc/{pid}/exe")
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


def _inner_pid(pid: int) -> int:
    return inner_number(pid, pid)


def inner_number(pid: int, tid: int) -> int:
    """A thread's number in its own namespace, which is what it knows itself by."""
    try:
        with open(f"/proc/{pid}/task/{tid}/status") as file:
            return next(int(line.split()[-1]) for line in file if line.startswith("NSpid:"))
    except (OSError, StopIteration, ValueError):
        return tid


def _owner(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return 0


def _parse(line: str) -> Mapping | None:
    parts = line.rstrip("\n").split(None, 5)
    if len(parts) < 5 or "x" not in parts[1]:
        return None
    start, _, end = parts[0].partition("-")
    path = parts[5] if len(parts) > 5 else ""
    # The kernel writes a line end in a name as \012 (fs/proc/task_mmu.c).
    return Mapping(
        int(start, 16), int(end, 16), int(parts[2], 16), parts[3], int(parts[4]), path.replace("\\012", "\n")
    )
