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

from bpf2py.user_cache import read_file, remove, trusted_directory, write_atomically

__all__ = ["Cache", "Entry", "file_digest"]

_MAGIC = b"bpf2py object cache 2\n"
_LIMIT = 256 << 20  # bytes of entries; a busy test suite makes a few thousand of 20 kB


class Entry(NamedTuple):
    """What the cache gives back: the object file and what the compiler said when it made it."""

    data: bytes
    warnings: str


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


def python_path() -> str:
    """Hash of where Python looks for modules."""
    return digest([each or os.getcwd() for each in sys.path])


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
            if facts["search"] is not None and facts["search"] != python_path():
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
        search: str | None = None,
    ) -> None:
        """Store an object with the files it was made of, the places where no file may appear, its kernel and `python_path()`."""
        path = self._path(key)
        known = {name: file_digest(name) for name in files} if path is not None else {}
        if path is None or None in known.values():
            return
        facts = {
            "key": key,
            "files": known,
            "absent": list(absent),
            "kernel": kernel,
            "search": search,
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
            remove(path)
            total -= size
            if total <= self.limit * 3 // 4:
                break
