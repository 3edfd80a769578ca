"""A cache of compiled objects that is right by content: an entry holds as long as every file that went in is unchanged.

An entry is one file. Its name is the hash of what is known before compiling (source, flags, compiler); inside stand the
headers the compiler read, each with the hash of its content, and the places earlier on the search path where a header
of that name would have been taken instead. Entries appear by rename, so that readers and writers need no lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Cache", "Entry", "cache_directory", "file_digest", "read_file", "trusted_directory", "write_atomically"]

_MAGIC = b"bpf2py object cache 2\n"
MOST = 256 << 20  # bytes of a file worth reading
# A FIFO is opened without waiting for its other end, and then refused.
_OPEN_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_LIMIT = 256 << 20  # bytes of entries; a busy test suite makes a few thousand of 20 kB


class Entry(NamedTuple):
    """What the cache gives back: the object file and what the compiler said when it made it."""

    data: bytes
    warnings: str


def cache_directory() -> Path:
    """Where the cache is: BPF2PY_CACHE_DIR, else $XDG_CACHE_HOME/bpf2py, else ~/.cache/bpf2py. Nothing is created."""
    named = os.environ.get("BPF2PY_CACHE_DIR")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    if base and os.path.isabs(base):
        return Path(base, "bpf2py")
    try:
        return Path.home() / ".cache" / "bpf2py"
    except RuntimeError:  # no home directory: a temporary place of this user's own
        import tempfile

        return Path(tempfile.gettempdir(), f"bpf2py-{os.getuid() if sys.platform != 'win32' else 'cache'}")


def trusted_directory() -> Path | None:
    """`cache_directory` if what is in it can only be this user's, else None, with a warning; it need not exist yet."""
    directory = cache_directory()
    wrong = _stranger(directory)
    if wrong is None:
        return directory
    warnings.warn(
        f"compiled programs are not cached: {wrong}; set BPF2PY_CACHE_DIR to a directory of your own (chmod 700)",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def _stranger(directory: Path) -> str | None:
    """Who else could put something into a directory, in words, or None. A temporary directory may be everybody's."""
    if sys.platform == "win32":
        return None
    user, real = os.geteuid(), Path(os.path.realpath(directory))
    for place in (real, *real.parents):
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


def file_digest(path: str | Path) -> str | None:
    """Hash of a file's content; None when it cannot be read."""
    data = read_file(path)
    return hashlib.blake2b(data, digest_size=16).hexdigest() if data is not None else None


def digest(parts: Iterable[str | bytes]) -> str:
    """Hash of a sequence of strings, none of which can run into its neighbour."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
        state.update(b"%d:" % len(data))
        state.update(data)
    return state.hexdigest()


def write_atomically(path: Path, data: bytes) -> bool:
    """Write a file so that others see all of it or nothing, also after a crash; False when the place is not writable."""
    import tempfile

    try:
        for directory in (*reversed(path.parents), path.parent):
            if not directory.exists():
                directory.mkdir(mode=0o700, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    except OSError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except OSError:
        _remove(temporary)
        return False
    return True


def _remove(path: str | Path) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


class Cache:
    """The entries below one directory. Every failure to read or write is a miss, never an error.

    Args:
        directory: where the entries are; created on the first store. Default: `trusted_directory()`; nothing is kept where
            there is none.
        limit: bytes above which a store removes the entries unused for longest.
    """

    __slots__ = ("directory", "limit", "root")

    def __init__(self, directory: Path | None = None, *, limit: int = _LIMIT) -> None:
        self.root = directory if directory is not None else trusted_directory()
        self.directory = self.root / "objects" if self.root is not None else None
        self.limit = limit

    def _path(self, key: str) -> Path | None:
        return self.directory / key[:2] / key if self.directory is not None else None

    def get(self, key: str, *, kernel: Callable[[], str | None] = lambda: None) -> Entry | None:
        """The entry of that key, if every file that went into it is still what it was.

        Args:
            key: the entry's name.
            kernel: asked for the identity of the running kernel when the entry holds for one kernel only.
        """
        path = self._path(key)
        raw = read_file(path, own=True) if path is not None else None
        if path is None or raw is None:
            return None
        head, separator, data = raw[len(_MAGIC) :].partition(b"\n")
        if not raw.startswith(_MAGIC) or not separator:
            return None
        try:
            facts = json.loads(head)
            if hashlib.blake2b(data, digest_size=16).hexdigest() != facts["data"] or facts["key"] != key:
                return None
            if facts["kernel"] is not None and facts["kernel"] != kernel():
                return None
            if any(os.path.exists(place) for place in facts["absent"]):
                return None
            if any(file_digest(name) != known for name, known in facts["files"].items()):
                return None
            entry = Entry(data, str(facts["warnings"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        try:
            os.utime(path)  # pruning goes by the time of last use
        except OSError:
            pass
        return entry

    def put(
        self,
        key: str,
        entry: Entry,
        *,
        files: Sequence[str],
        absent: Sequence[str] = (),
        kernel: str | None = None,
    ) -> None:
        """Store an object with the files it was made of, the places where no file may appear, and its kernel."""
        path = self._path(key)
        known = {name: file_digest(name) for name in files} if path is not None else {}
        if path is None or None in known.values():
            return
        facts = {
            "key": key,
            "files": known,
            "absent": list(absent),
            "kernel": kernel,
            "warnings": entry.warnings,
            "data": hashlib.blake2b(entry.data, digest_size=16).hexdigest(),
        }
        data = b"".join((_MAGIC, json.dumps(facts).encode(), b"\n", entry.data))
        if write_atomically(path, data):
            self.prune()

    def prune(self) -> None:
        """Remove the entries unused for longest until the rest takes at most three quarters of the limit."""
        entries = []
        if self.directory is None:
            return
        try:
            for folder in os.scandir(self.directory):
                if folder.is_dir():
                    for item in os.scandir(folder):
                        facts = item.stat()
                        entries.append((facts.st_mtime, facts.st_size, item.path))
        except OSError:
            return
        total = sum(size for _, size, _ in entries)
        if total <= self.limit:
            return
        for _, size, path in sorted(entries):
            _remove(path)
            total -= size
            if total <= self.limit * 3 // 4:
                break
