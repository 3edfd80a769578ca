"""Who has the maps, programs, links and BTF objects of the machine: processes that hold descriptors, and pins."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from bpf2py._typing import NamedTuple
from bpf2py.kernel.objects import object_info, open_pin
from bpf2py.kernel.syscall import Fd
from bpf2py.processes import pids
from bpf2py.uapi.map_types import MapFlags

__all__ = ["KINDS", "Owner", "loaded_at", "owners", "pins"]

# What the link of a descriptor in /proc/PID/fd says, by the kind of object; and the line of its fdinfo that holds the id.
KINDS = {
    "map": ("bpf-map", "map_id"),
    "prog": ("bpf-prog", "prog_id"),
    "link": ("bpf_link", "link_id"),
    "btf": ("btf", "btf_id"),
}
_LINKS = {f"anon_inode:{name}": kind for kind, (name, _) in KINDS.items()} | {
    f"anon_inode:[{name}]": kind for kind, (name, _) in KINDS.items()
}
_LINKS["anon_inode:bpf-link"] = "link"  # one that was opened by its id or pin
# Where the id stands in what BPF_OBJ_GET_INFO_BY_FD gives (struct bpf_map_info, bpf_prog_info, bpf_link_info).
_ID_OFFSETS = {"map": 4, "prog": 4, "link": 4}
MOST_PINS = 100_000


class Owner(NamedTuple):
    """A process that holds a descriptor."""

    pid: int
    comm: str


def owners(kind: str) -> dict[int, list[Owner]]:
    """Processes that hold objects of a kind, by the objects' ids; of those whose /proc may be read."""
    found: dict[int, list[Owner]] = {}
    for pid in sorted(pids()):
        ids: set[int] = set()
        try:
            with os.scandir(f"/proc/{pid}/fd") as entries:
                for entry in entries:
                    if _LINKS.get(_target(entry.path)) == kind:
                        ids |= set(_id_in(f"/proc/{pid}/fdinfo/{entry.name}", KINDS[kind][1]))
            if not ids:
                continue
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                comm = file.read().rstrip("\n")
        except OSError:
            continue  # it ended, or is another user's
        for ident in ids:
            found.setdefault(ident, []).append(Owner(pid, comm))
    return found


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _id_in(path: str, name: str) -> Iterator[int]:
    try:
        with open(path) as file:
            for line in file:
                if line.startswith(f"{name}:"):
                    yield int(line.split(":")[1])
    except (OSError, ValueError):
        return


def mounts() -> list[str]:
    """Where BPF file systems are mounted."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.split(" ") for line in file]
    except OSError:
        return []
    return [row[1].replace("\\040", " ") for row in rows if len(row) > 2 and row[2] == "bpf"]


def pins(kind: str) -> dict[int, list[str]]:
    """Paths of pinned objects of a kind ("map", "prog", "link"), by the objects' ids; of those that may be opened."""
    found: dict[int, list[str]] = {}
    for path in paths():
        for flags in (0, MapFlags.RDONLY):
            opened = open_pin(path, flags)
            if isinstance(opened, Fd):
                break
        if not isinstance(opened, Fd):
            continue
        try:
            if _LINKS.get(_target(f"/proc/self/fd/{opened.number}")) == kind:
                result, buffer = object_info(opened.number, 64)
                if result >= 0:
                    at = _ID_OFFSETS[kind]
                    found.setdefault(int.from_bytes(buffer.raw[at : at + 4], "little"), []).append(path)
        finally:
            opened.close()
    return found


def paths() -> Iterator[str]:
    """The files of all BPF file systems, at most `MOST_PINS`."""
    seen: set[tuple[int, int]] = set()
    for mount in mounts():
        for directory, _, names in os.walk(mount):
            for name in sorted(names):
                path = os.path.join(directory, name)
                try:
                    state = os.lstat(path)
                except OSError:
                    continue
                if (state.st_dev, state.st_ino) not in seen and len(seen) < MOST_PINS:
                    seen.add((state.st_dev, state.st_ino))
                    yield path


def loaded_at(since_boot_ns: int) -> float:
    """When a program was loaded, in seconds of `time.time`, from the time since boot that the kernel tells."""
    return time.time() - (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - since_boot_ns) / 1e9
