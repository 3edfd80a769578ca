"""Reading tracefs, also where nobody mounted it: then through a private mount no other process sees."""

from __future__ import annotations

import ctypes
import difflib
import os

from bpf2py.errors import AttachError, PermissionDenied
from bpf2py.kernel.syscall import Fd, libc

PLACES = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
# The same numbers on every architecture (since Linux 5.2).
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSCONFIG_CMD_CREATE = 6

_private: Fd | None = None


def directory() -> Fd | str:
    """Where tracefs is: a path, or a descriptor of a private mount. Raises PermissionDenied when it cannot be had."""
    global _private
    for path in PLACES:
        if os.path.isdir(f"{path}/events"):
            return path
    if _private is None or _private.closed:
        _private = _mount_privately()
    return _private


def read(path: str) -> str:
    """The text of a file of tracefs, such as ``events/syscalls/sys_enter_execve/id``. Raises OSError."""
    root = directory()
    if isinstance(root, str):
        with open(f"{root}/{path}") as file:
            return file.read()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root.number)
    with os.fdopen(fd) as file:
        return file.read()


def listdir(path: str) -> list[str]:
    """The names in a directory of tracefs. Raises OSError."""
    root = directory()
    if isinstance(root, str):
        return os.listdir(f"{root}/{path}")
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root.number)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def event_id(what: str, category: str, name: str) -> int:
    """The number of a tracepoint. Raises AttachError, naming similar ones, when there is none."""
    try:
        return int(read(f"events/{category}/{name}/id"))
    except FileNotFoundError:
        pass
    except PermissionError as error:
        raise PermissionDenied(
            f"{what}: tracefs may not be read: run as root, or mount it readable", errno=error.errno, command="open"
        ) from None
    try:
        near = difflib.get_close_matches(name, listdir(f"events/{category}"), 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
    except OSError:
        near = difflib.get_close_matches(category, listdir("events"), 3)
        hint = f": there is no category {category!r}" + (f"; did you mean {' or '.join(near)}?" if near else "")
    raise AttachError(f"{what}: the kernel has no tracepoint {category}/{name}{hint}", errno=2, command="open")


def _mount_privately() -> Fd:
    system = libc().syscall
    context = system(_FSOPEN, b"tracefs", 1)
    if context >= 0:
        owner = Fd(context)
        try:
            if system(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0) == 0:
                mount = system(_FSMOUNT, context, 1, 0)
                if mount >= 0:
                    return Fd(mount)
        finally:
            owner.close()
    errno = ctypes.get_errno()
    raise PermissionDenied(
        "tracefs is not mounted and could not be mounted for this process; as root: mount -t tracefs nodev /sys/kernel/tracing",
        errno=errno,
        command="fsopen",
    )
