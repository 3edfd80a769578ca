"""A map of cgroups whose path matches, kept up to date: programs look the current task's cgroup up in it."""

from __future__ import annotations

import os
import threading

from bpf2py.errors import BpfError, KeyNotFound
from bpf2py.export.config import CgroupIdMap
from bpf2py.export.names import Cgroups
from bpf2py.maps.base import AnyMap

__all__ = ["CgroupMap"]


class CgroupMap:
    """Fills the map; `update()` once, or `start()` for every second until `stop()`."""

    def __init__(self, bpf_map: AnyMap, config: CgroupIdMap, cgroups: Cgroups) -> None:
        self.errors = 0
        self._map = bpf_map
        self._config = config
        self._cgroups = cgroups
        self._put: set[int] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def update(self) -> None:
        """Put in what is new, take out what went. What fails is tried again the next time."""
        there = self._cgroups.refresh()
        for number in [number for number in self._put if number not in there]:
            self._put.discard(number)
            if self._config.type == "hash":  # the kernel frees a storage with its cgroup
                try:
                    self._map._delete(number.to_bytes(8, "little"))
                except KeyNotFound:
                    pass
                except BpfError:
                    self.errors += 1
        for number, path in list(there.items()):
            if number not in self._put and any(pattern.search(path) for pattern in self._config.regexps):
                try:
                    self._add(number, path)
                    self._put.add(number)
                except (BpfError, OSError):
                    self.errors += 1

    def _add(self, number: int, path: str) -> None:
        if self._config.type == "hash":
            self._map._update(number.to_bytes(8, "little"), (1).to_bytes(8, "little"))
            return
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._map._update(fd, (1).to_bytes(8, "little"))
        finally:
            os.close(fd)

    def start(self, interval: float = 1.0) -> None:
        """Go on in a thread."""

        def run() -> None:
            while not self._stop.wait(interval):
                self.update()

        self._thread = threading.Thread(target=run, name="cgroup_id_map", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
