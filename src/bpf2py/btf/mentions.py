"""Which types of a large BTF blob have a member or enumerator of a name, remembered from one process to the next.

A look-up reads through megabytes; a program, or the header that is written for it, has dozens of names. The file is the user's own.
"""

from __future__ import annotations

import json
import zlib

from bpf2py.btf.scanned import place_of
from bpf2py.user_cache import private_place, read_file, write_atomically

__all__ = ["Mentions"]

_MOST = 50_000  # names that are kept
_MAGIC = b"bpf2py BTF mentions 1\n"


class Mentions:
    """Ids of types by what was looked up.

    Args:
        types: the type section.
        count: how many types there are.
    """

    def __init__(self, types: memoryview, count: int) -> None:
        directory = private_place()
        self._path = place_of(directory, types, "-mentions") if directory is not None else None
        self._mark = zlib.crc32(types)  # what was found in other types is not believed
        self._known = _read(self._path, self._mark, count) if self._path is not None else {}
        self._changed = False

    def get(self, key: str) -> list[int] | None:
        """What was found before."""
        return self._known.get(key)

    def put(self, key: str, ids: list[int]) -> None:
        """Remember what was found."""
        self._known[key] = ids
        self._changed = True

    def save(self) -> None:
        """Keep it for other processes; a place that cannot be written to is none."""
        if self._changed and self._path is not None and len(self._known) <= _MOST:
            data = json.dumps(self._known).encode()
            write_atomically(self._path, _MAGIC + zlib.crc32(data, self._mark).to_bytes(4, "little") + data)
        self._changed = False


def _read(path: str, mark: int, count: int) -> dict[str, list[int]]:
    raw = read_file(path, own=True)
    start = len(_MAGIC) + 4
    if (
        raw is None
        or not raw.startswith(_MAGIC)
        or zlib.crc32(raw[start:], mark).to_bytes(4, "little") != raw[start - 4 : start]
    ):
        return {}
    try:
        found = json.loads(raw[start:])
    except ValueError:
        return {}
    if not isinstance(found, dict) or not all(
        isinstance(ids, list) and all(isinstance(i, int) and 0 < i < count for i in ids) for ids in found.values()
    ):
        return {}
    return found
