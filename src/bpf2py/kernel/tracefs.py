"""Reading tracefs, also where nobody mounted it: then through a private mount no other process sees."""

from __future__ import annotations

import ctypes
import difflib
import os

from bpf2py.errors import AttachError, PermissionDenied
from bpf2py.kernel.syscall import Fd, environment_error, libc, open_call
from bpf2py.uapi.errno import ENOSYS

PLACES = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
# The same numbers on every architecture (since Linux 5.2).
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSCONFIG_CMD_CREATE = 6


class Tracefs:
    """tracefs while it is read; a private mount is closed at the end of the ``with`` block.

    Raises PermissionDenied when it is not mounted and cannot be.
    """

    def __init__(self) -> None:
        self._path = next((path for path in PLACES if os.path.isdir(f"{path}/events")), None)
        self._mount = _mount_privately() if self._path is None else None

    def __enter__(self) -> Tracefs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close a private mount; closing twice is harmless."""
        if self._mount is not None:
            self._mount.close()

    def read(self, path: str) -> str:
        """The text of a file, such as ``events/syscalls/sys_enter_execve/id``. Raises OSError."""
        with open(self.path(path)) as file:
            return file.read()

    def listdir(self, path: str) -> list[str]:
        """The names in a directory. Raises OSError."""
        return os.listdir(self.path(path))

    def path(self, path: str) -> str:
        """The full path of a file, for as long as this is open."""
        return f"/proc/self/fd/{self._mount.number}/{path}" if self._mount is not None else f"{self._path}/{path}"


def event_id(what: str, category: str, name: str) -> int:
    """The number of a tracepoint. Raises AttachError, naming similar ones, when there is none."""
    for part in (category, name):  # a section's name says which: it must not lead out of the directory
        if not part or part in (".", "..") or "/" in part or "\0" in part:
            raise AttachError(
                f"{what}: {part!r} is not a name of a tracepoint or its category", errno=2, command="open"
            )
    with Tracefs() as tracefs:
        try:
            return int(tracefs.read(f"events/{category}/{name}/id"))
        except FileNotFoundError:
            pass
        except ValueError:
            raise AttachError(f"{what}: the tracepoint {category}/{name} cannot be attached to", errno=22) from None
        except PermissionError as error:
            raise PermissionDenied(
                f"{what}: tracefs may not be read: run as root, or mount it readable", errno=error.errno, command="open"
            ) from None
        except OSError as error:
            raise environment_error(error.errno or 0, what, "open") or AttachError(
                f"{what}: {category}/{name}: {error.strerror}", errno=error.errno, command="open"
            ) from None
        try:
            near = difflib.get_close_matches(name, tracefs.listdir(f"events/{category}"), 3)
            hint = ""
        except OSError:
            near = difflib.get_close_matches(category, tracefs.listdir("events"), 3)
            hint = f": there is no category {category!r}"
    if near:
        hint += f"; did you mean {' or '.join(near)}?"
    raise AttachError(f"{what}: the kernel has no tracepoint {category}/{name}{hint}", errno=2, command="open")


def _mount_privately() -> Fd:
    context = open_call(_FSOPEN, b"tracefs", 1)
    if isinstance(context, Fd):
        errno = 0
        try:
            if libc().syscall(_FSCONFIG, context.number, _FSCONFIG_CMD_CREATE, None, None, 0) == 0:
                mount = open_call(_FSMOUNT, context.number, 1, 0)
                if isinstance(mount, Fd):
                    return mount
                errno = -mount
            else:
                errno = ctypes.get_errno()
        finally:
            context.close()
    else:
        errno = -context
    elsewhere = environment_error(errno, "tracefs", "fsopen") if errno != ENOSYS else None
    if elsewhere is not None:
        raise elsewhere
    raise PermissionDenied(
        "tracefs is not mounted and could not be mounted for this process; as root: mount -t tracefs nodev /sys/kernel/tracing",
        errno=errno,
        command="fsopen",
    )
