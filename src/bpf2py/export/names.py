"""Names of numbers for labels: cgroups by id, block devices, PCI devices; each read when first asked, and again for what is new."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from bpf2py.export.decoder_table import PCI_IDS
from bpf2py.kernel.cgroups import mount_point

__all__ = ["Cgroups", "PciIds", "Table", "block_devices"]

AGAIN = 1.0  # seconds between two readings for what is not known
MOST_GONE = 10_000

K = TypeVar("K")


class Table(Generic[K]):
    """Names by number, read again for a number that is not there, though not more often than every second."""

    def __init__(self, read: Callable[[], dict[K, str]], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._names: dict[K, str] = {}
        self._at: float | None = None

    def get(self, number: K) -> str | None:
        """The name, or None."""
        found = self._names.get(number)
        if found is None and (self._at is None or self._clock() - self._at > AGAIN):
            self.refresh()
            found = self._names.get(number)
        return found

    def refresh(self) -> None:
        """Read now."""
        self._at = self._clock()
        self._names = self._read()


def block_devices() -> dict[tuple[int, int], str]:
    """Names of block devices by (major, minor), from /proc/partitions."""
    found = {}
    try:
        with open("/proc/partitions") as file:
            for line in file:
                words = line.split()
                if len(words) == 4 and words[0].isdecimal():
                    found[int(words[0]), int(words[1])] = words[3]
    except OSError:
        pass
    return found


class Cgroups:
    """Paths of cgroups by id: the number of their directory (kernfs, Linux 5.5). Those that went are remembered, up to a number."""

    def __init__(self, root: str | None = None) -> None:
        self.root = root if root is not None else mount_point() or "/sys/fs/cgroup"
        self._gone: dict[int, str] = {}
        self._table: Table[int] = Table(self._walk)
        self.there: dict[int, str] = {}

    def path(self, number: int) -> str | None:
        """The path of a cgroup, also of one that is not there any more."""
        return self._table.get(number) or self._gone.get(number)

    def refresh(self) -> dict[int, str]:
        """The cgroups that are there now."""
        self._table.refresh()
        return self.there

    def _walk(self) -> dict[int, str]:
        found = dict(_directories(self.root))
        for number, path in self.there.items():
            if number not in found:
                self._gone[number] = path
        while len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]
        self.there = found
        return found


def _directories(root: str) -> Iterator[tuple[int, str]]:
    pending = [root]
    try:
        yield os.stat(root).st_ino, root
    except OSError:
        return
    while pending:
        try:
            entries = os.scandir(pending.pop())
        except OSError:  # removed meanwhile
            continue
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield entry.inode(), entry.path
                    pending.append(entry.path)


class PciIds:
    """Names of PCI vendors, devices, classes and subclasses, from the machine's pci.ids."""

    def __init__(self, paths: tuple[str, ...] = PCI_IDS) -> None:
        self.paths = paths
        self.names: dict[str, str] = {}
        self.found = False
        self._read = False

    def get(self, key: str) -> str | None:
        """The name of ``8086`` (vendor), ``80861000`` (device), ``C 02`` (class) or ``C 0200`` (subclass)."""
        if not self._read:
            self._read = True
            path = next((path for path in self.paths if os.path.exists(path)), None)
            if path is not None:
                try:
                    with open(path, encoding="utf-8", errors="replace") as file:
                        self.names, self.found = dict(_pci_lines(file)), True
                except OSError:
                    pass
        return self.names.get(key)


def _pci_lines(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    # "8086  Intel", a tab and "1000  device", two tabs for subsystems; classes: "C 02  name", a tab and "00  name".
    first = ""
    for line in lines:
        if line.startswith(("#", "\t\t")) or not line.strip():
            continue
        within = line.startswith("\t")
        number, _, name = line.strip().partition("  ")
        if not within:
            first = number
            yield number, name.strip()
        else:
            yield first + number, name.strip()
