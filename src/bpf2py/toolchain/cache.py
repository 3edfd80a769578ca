"""A cache of compiled objects that is right by content: an entry holds as long as every file that went in is unchanged.

An entry is one file. Its name is the hash of what is known before compiling (source, flags, compiler); inside stand the
headers the compiler read, each with the hash of its content, and the places earlier on the search path where a header
of that name would have been taken instead. Entries appear by rename, so that readers and writers need no lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Cache", "Entry", "cache_directory", "file_digest"]

_MAGIC = b"bpf2py object cache 1\n"
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


def file_digest(path: str | Path) -> str | None:
    """Hash of a file's content; None when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.blake2b(file.read(), digest_size=16).hexdigest()
    except OSError:
        return None


def digest(parts: Iterable[str | bytes]) -> str:
    """Hash of a sequence of strings, none of which can run into its neighbour."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
        state.update(b"%d:" % len(data))
        state.update(data)
    return state.hexdigest()


def write_atomically(path: Path, data: bytes) -> bool:
    """Write a file so that others see all of it or nothing; False when the place is not writable."""
    import tempfile

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    except OSError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
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
        directory: where the entries are; created on the first store.
        limit: bytes above which a store removes the entries unused for longest.
    """

    __slots__ = ("directory", "limit")

    def __init__(self, directory: Path | None = None, *, limit: int = _LIMIT) -> None:
        self.directory = (directory if directory is not None else cache_directory()) / "objects"
        self.limit = limit

    def _path(self, key: str) -> Path:
        return self.directory / key[:2] / key

    def get(self, key: str, *, kernel: Callable[[], str | None] = lambda: None) -> Entry | None:
        """The entry of that key, if every file that went into it is still what it was.

        Args:
            key: the entry's name.
            kernel: asked for the identity of the running kernel when the entry holds for one kernel only.
        """
        path = self._path(key)
        try:
            raw = path.read_bytes()
        except OSError:
            return None
        head, separator, data = raw[len(_MAGIC) :].partition(b"\n")
        if not raw.startswith(_MAGIC) or not separator:
            return None
        try:
            facts = json.loads(head)
            if hashlib.blake2b(data, digest_size=16).hexdigest() != facts["data"]:
                return None
            if facts["kernel"] is not None and facts["kernel"] != kernel():
                return None
            if any(os.path.exists(place) for place in facts["absent"]):
                return None
            if any(file_digest(name) != known for name, known in facts["files"].items()):
                return None
            entry = Entry(data, facts["warnings"])
        except (ValueError, KeyError, TypeError, AttributeError):
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
        known = {name: file_digest(name) for name in files}
        if None in known.values():
            return
        facts = {
            "files": known,
            "absent": list(absent),
            "kernel": kernel,
            "warnings": entry.warnings,
            "data": hashlib.blake2b(entry.data, digest_size=16).hexdigest(),
        }
        data = b"".join((_MAGIC, json.dumps(facts).encode(), b"\n", entry.data))
        if write_atomically(self._path(key), data):
            self.prune()

    def prune(self) -> None:
        """Remove the entries unused for longest until the rest takes at most three quarters of the limit."""
        entries = []
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
