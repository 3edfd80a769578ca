"""Control groups v2: where the hierarchy is mounted."""

from __future__ import annotations

import os

from bpf2py.errors import AttachError


def mount_point() -> str | None:
    """Where cgroup2 is mounted, or None."""
    try:
        with open("/proc/self/mounts") as file:
            rows = [line.split(" ") for line in file]
    except OSError:
        return None
    return next((row[1].replace("\\040", " ") for row in rows if len(row) > 2 and row[2] == "cgroup2"), None)


def open_cgroup(what: str, path: str) -> int:
    """A descriptor of a cgroup: a path below the mount point of cgroup2, or a full path. Raises AttachError."""
    full = path
    if not os.path.isdir(full):
        root = mount_point()
        if root is None:
            raise AttachError(
                f"{what}: cgroup2 is not mounted: mkdir -p /run/cgroup2 && mount -t cgroup2 none /run/cgroup2"
            )
        full = os.path.join(root, path.lstrip("/"))
    try:
        return os.open(full, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise AttachError(f"{what}: cgroup {path}: {error.strerror}", errno=error.errno, command="open") from None
