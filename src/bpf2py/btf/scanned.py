"""Where the types of a large BTF blob start, remembered from one process to the next.

To find that takes a step for each of a kernel's 130,000 types, longer than anything else a short program does. The file is
the user's own, and is checked against the blob before it is believed.
"""

from __future__ import annotations

import os
import sys
import zlib
from array import array
from collections.abc import Callable
from pathlib import Path

from bpf2py.user_cache import private_directory, read_file, write_atomically

__all__ = ["place_of", "remembered"]

SAMPLES = 256  # records that are checked
_MAGIC = b"bpf2py BTF offsets 1\n"
_EDGE = 1 << 16


def remembered(types: bytes, scan: Callable[[], array[int]], length_of: Callable[[int], int]) -> array[int]:
    """What `scan()` gives: the offset of each record, from a file where there is one.

    Args:
        types: the type section.
        length_of: the length of the record at an offset, in bytes. Raises IndexError where none fits.
    """
    directory = private_directory()
    if directory is None or array("I").itemsize != 4:
        return scan()
    path = place_of(directory, types)
    found = _read(path, types, length_of)
    if found is None:
        found = scan()
        data = found.tobytes()
        write_atomically(path, _MAGIC + zlib.crc32(data).to_bytes(4, "little") + data)
    return found


def place_of(directory: Path, types: bytes, what: str = "") -> Path:
    """The file for `what` is remembered of a blob."""
    mark = zlib.crc32(types[-_EDGE:], zlib.crc32(types[:_EDGE]))
    release = os.uname().release if hasattr(os, "uname") else sys.platform
    return directory / "btf" / f"{release}-{len(types)}-{mark:08x}-{sys.byteorder}{what}"


def _read(path: Path, types: bytes, length_of: Callable[[int], int]) -> array[int] | None:
    raw = read_file(path, own=True)
    if raw is None or not raw.startswith(_MAGIC) or len(raw) % 4 != (len(_MAGIC) + 4) % 4:
        return None
    start = len(_MAGIC) + 4
    if zlib.crc32(memoryview(raw)[start:]).to_bytes(4, "little") != raw[start - 4 : start]:
        return None
    offsets = array("I")
    offsets.frombytes(memoryview(raw)[start:])
    return offsets if _fits(offsets, len(types), length_of) else None


def _fits(offsets: array[int], end: int, length_of: Callable[[int], int]) -> bool:
    """Whether a sample of the records, the first and the last among them, are where the next one says they end."""
    if not offsets or offsets[0]:
        return False
    last = len(offsets) - 1
    try:
        for index in {*range(0, last, max(1, last // SAMPLES)), last}:
            follower = offsets[index + 1] if index < last else end
            if offsets[index] + length_of(offsets[index]) != follower:
                return False
    except IndexError:
        return False
    return True
