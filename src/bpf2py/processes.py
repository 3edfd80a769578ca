"""The processes there are, as /proc shows them."""

from __future__ import annotations

import os

from bpf2py._typing import NamedTuple

__all__ = ["ProcessStat", "pids", "stat_of"]


class ProcessStat(NamedTuple):
    """The beginning of /proc/PID/stat.

    Attributes:
        name: of its main thread.
        state: a letter: ``Z`` and ``X`` have ended.
        parent: the id of the process that started it, or adopted it.
        started: in ticks after the machine booted.
    """

    name: str
    state: str
    parent: int
    started: int

    @property
    def ended(self) -> bool:
        """Whether it has ended, and only its parent has not asked for it."""
        return self.state in "ZX"


def pids() -> set[int]:
    """The ids of all processes. Raises OSError where there is no /proc."""
    return {int(name) for name in os.listdir("/proc") if name.isdecimal()}


def stat_of(pid: int) -> ProcessStat | None:
    """What the kernel says of a process; None where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            name, _, rest = file.read().partition(b"(")[2].rpartition(b")")  # a name may have brackets of its own
    except OSError:
        return None
    fields = rest.split()
    if len(fields) < 20:
        return None
    return ProcessStat(name.decode("utf-8", "replace"), fields[0].decode(), int(fields[1]), int(fields[19]))
