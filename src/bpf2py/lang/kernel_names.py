"""Where the running kernel's types are, by their names: looked up once, and kept in the user's cache.

A look-up reads through megabytes of BTF, and a program has dozens of names.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from bpf2py.user_cache import private_directory, read_file, write_atomically

if TYPE_CHECKING:
    from bpf2py.btf.reader import Btf

__all__ = ["KernelNames"]

_MOST = 20_000  # names that are kept; a program has dozens


class KernelNames:
    """Ids of types by name, and of types that have a member or enumerator of a name."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._known: dict[str, list[int]] = {}
        self._changed = False
        self._path = _place(btf)
        data = read_file(self._path, own=True) if self._path is not None else None
        if data:
            self._known = _decoded(data, len(btf))

    def ids(self, name: str) -> list[int]:
        """Ids of the types of a name."""
        found = self._known.get(name)
        if found is None or any(self._btf.type(i).name != name for i in found):
            found = self._keep(name, list(self._btf.ids_by_name(name)))
        return found

    def mentioning(self, name: str) -> list[int]:
        """Ids of the types that a name appears in."""
        key = f".{name}"  # no type's name begins with a dot
        found = self._known.get(key)
        return self._keep(key, list(self._btf.ids_mentioning(name))) if found is None else found

    def _keep(self, key: str, ids: list[int]) -> list[int]:
        self._known[key] = ids
        self._changed = True
        return ids

    def save(self) -> None:
        """Keep what was looked up for the next process; a cache that cannot be written is none."""
        if self._changed and self._path is not None and len(self._known) <= _MOST:
            write_atomically(self._path, json.dumps(self._known).encode())
        self._changed = False


def _place(btf: Btf) -> Path | None:
    """A file for this build of the kernel with these types."""
    directory = private_directory()
    if directory is None or not hasattr(os, "uname"):
        return None
    facts = "\0".join((*os.uname()[2:], str(len(btf)), str(btf.start_id)))
    return directory / "names" / f"{hashlib.blake2b(facts.encode(), digest_size=12).hexdigest()}.json"


def _decoded(data: bytes, most: int) -> dict[str, list[int]]:
    """The content of a file; nothing where it is damaged."""
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        key: ids for key, ids in found.items()
        if isinstance(key, str) and isinstance(ids, list) and all(isinstance(i, int) and 0 < i < most for i in ids)
    }  # fmt: skip
