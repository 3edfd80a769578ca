"""Files that a user's processes keep for one another: where they are, and whether nobody else could have put them there."""

from __future__ import annotations

import os
import stat
import sys

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pathlib
    import tempfile
    import warnings
    from pathlib import Path
else:
    pathlib = module("pathlib")
    tempfile = module("tempfile")
    warnings = module("warnings")

__all__ = ["cache_directory", "private_place", "read_file", "remove", "trusted_directory", "write_atomically"]

MOST = 256 << 20  # bytes of a file worth reading
# A FIFO is opened without waiting for its other end, and then refused.
_OPEN_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def cache_directory() -> Path:
    """Where the cache is: BPF2PY_CACHE_DIR, else $XDG_CACHE_HOME/bpf2py, else ~/.cache/bpf2py. Nothing is created."""
    return pathlib.Path(_place())


def _place() -> str:
    named = os.environ.get("BPF2PY_CACHE_DIR")
    if named:
        return named
    base = os.environ.get("XDG_CACHE_HOME")
    if base and os.path.isabs(base):
        return os.path.join(base, "bpf2py")
    home = os.path.expanduser("~")
    if home != "~":
        return os.path.join(home, ".cache", "bpf2py")
    # No home directory: a temporary place of this user's own.
    return os.path.join(tempfile.gettempdir(), f"bpf2py-{os.getuid() if sys.platform != 'win32' else 'cache'}")


def trusted_directory() -> Path | None:
    """`cache_directory` if what is in it can only be this user's, else None, with a warning; it need not exist yet."""
    directory = cache_directory()
    wrong = _stranger(str(directory))
    if wrong is None:
        return directory
    warnings.warn(
        f"compiled programs are not cached: {wrong}; set BPF2PY_CACHE_DIR to a directory of your own (chmod 700)",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def private_place() -> str | None:
    """The path of `cache_directory` if what is in it can only be this user's, else None; it need not exist yet."""
    directory = _place()
    return directory if _stranger(directory) is None else None


def _stranger(directory: str) -> str | None:
    """Who else could put something into a directory, in words, or None. A temporary directory may be everybody's."""
    if sys.platform == "win32":
        return None
    user, real = os.geteuid(), os.path.realpath(directory)
    for place in _upwards(real):
        try:
            facts = os.stat(place)
        except OSError:
            continue  # made by us when something is stored
        if place == real:
            if facts.st_uid != user:
                return f"{place} belongs to user {facts.st_uid}, not to {user}"
            others = bool(facts.st_mode & 0o022)
        else:
            others = bool(facts.st_mode & 0o002) and not facts.st_mode & stat.S_ISVTX
        if others:
            return f"{place} may be written to by others"
    return None


def _upwards(path: str) -> list[str]:
    """A directory and those it is in, up to the root."""
    found = [path]
    while (above := os.path.dirname(found[-1])) != found[-1]:
        found.append(above)
    return found


def read_file(path: str | Path, *, own: bool = False, most: int = MOST) -> bytes | None:
    """The content of a regular file; None when it is anything else (a FIFO would block), too large or unreadable.

    Args:
        path: the file.
        own: accept only a file of this user that nobody else may write to.
        most: bytes.
    """
    try:
        fd = os.open(path, os.O_RDONLY | _OPEN_FLAGS)
    except (OSError, ValueError):
        return None
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > most:
            return None
        if own and sys.platform != "win32" and (facts.st_uid != os.geteuid() or facts.st_mode & 0o022):
            return None
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read()
    except OSError:
        return None
    finally:
        os.close(fd)


def write_atomically(path: str | Path, data: bytes) -> bool:
    """Write a file so that others see all of it or nothing, also after a crash; False when the place is not writable."""
    directory = os.path.dirname(os.path.abspath(path))
    try:
        for each in reversed(_upwards(directory)):
            if not os.path.isdir(each):
                os.makedirs(each, mode=0o700, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=directory)
    except OSError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except OSError:
        remove(temporary)
        return False
    return True


def remove(path: str | Path) -> None:
    """Remove a file, if that is possible."""
    try:
        os.unlink(path)
    except OSError:
        pass
