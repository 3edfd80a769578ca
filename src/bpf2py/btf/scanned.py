"""Where the types of a large BTF blob start, and their names in order, remembered from one process to the next.

To find that takes a step for each of a kernel's 130,000 types, longer than anything else a short program does. The file is
the user's own, and is checked against the blob before it is believed.
"""

from __future__ import annotations

import os
import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

from bpf2py._typing import NamedTuple
from bpf2py.btf.names import essential_name
from bpf2py.user_cache import private_place, read_file, write_atomically

__all__ = ["Records", "name_hash", "place_of", "remembered", "scanned"]

SAMPLES = 256  # records, and names, that are checked
_MAGIC = b"bpf2py BTF offsets 2\n   "  # a multiple of eight bytes: what follows is aligned
_HEAD = len(_MAGIC) + 8
_EDGE = 1 << 16


class Records(NamedTuple):
    """What is known of a blob without looking at it.

    Attributes:
        offsets: of each record in the type section.
        names: for each type with a name ``name_hash(name) << 32 | index of its record``, in order.
    """

    offsets: Sequence[int]
    names: Sequence[int]

    def named(self, name: bytes) -> Iterator[int]:
        """Indices of records that may have this name, whatever their flavour: another may have the same hash."""
        at = bisect_left(self.names, name_hash(name) << 32)
        end = bisect_left(self.names, name_hash(name) + 1 << 32)
        return (self.names[each] & 0xFFFFFFFF for each in range(at, end))


def name_hash(name: bytes) -> int:
    """32 bits of a name, the same for all its flavours."""
    if b"___" in name:
        name = essential_name(name.decode("latin-1")).encode("latin-1")
    return zlib.crc32(name)


def scanned(types: Sequence[int], strings: bytes, offsets: array[int]) -> Records:
    """What is found by looking at all of the blob.

    Args:
        types: the type section.
        strings: the string section.
        offsets: of the records.
    """
    hashes, at = {}, 0
    for each in strings.split(b"\0"):
        hashes[at] = name_hash(each)
        at += len(each) + 1
    words = array("I")
    words.frombytes(types)  # type: ignore[arg-type]
    if sys.byteorder == "big":
        words.byteswap()
    names = array("Q")
    found = []
    for index, offset in enumerate(offsets):
        name = words[offset >> 2]
        if name:
            known = hashes.get(name)
            if known is None:  # the tail of another name, or nothing at all
                known = name_hash(strings[name : strings.find(b"\0", name)])
            found.append(known << 32 | index)
    found.sort()
    names.fromlist(found)
    return Records(offsets, names)


def remembered(
    types: Sequence[int],
    scan: Callable[[], Records],
    length_of: Callable[[int], int],
    name_of: Callable[[int], bytes],
) -> Records:
    """What `scan()` gives, from a file where there is one.

    Args:
        types: the type section.
        length_of: the length of the record at an offset, in bytes. Raises IndexError where none fits.
        name_of: the name of the record at an offset.
    """
    directory = private_place()
    if directory is None or array("I").itemsize != 4:
        return scan()
    path = place_of(directory, types)
    found = _read(path, len(types), length_of, name_of)
    if found is None:
        found = scan()
        data = len(found.offsets).to_bytes(8, "little") + _bytes(found.names) + _bytes(found.offsets)
        write_atomically(path, _MAGIC + zlib.crc32(data).to_bytes(8, "little") + data)
    return found


def _bytes(numbers: Sequence[int]) -> bytes:
    assert isinstance(numbers, array)
    return numbers.tobytes()


def place_of(directory: str, types: Sequence[int], what: str = "") -> str:
    """The file for what is remembered of a blob."""
    mark = zlib.crc32(bytes(types[-_EDGE:]), zlib.crc32(bytes(types[:_EDGE])))
    release = os.uname().release if hasattr(os, "uname") else sys.platform
    return os.path.join(directory, "btf", f"{release}-{len(types)}-{mark:08x}-{sys.byteorder}-2{what}")


def _read(path: str, end: int, length_of: Callable[[int], int], name_of: Callable[[int], bytes]) -> Records | None:
    raw = read_file(path, own=True)
    if raw is None or not raw.startswith(_MAGIC) or len(raw) < _HEAD + 8:
        return None
    data = memoryview(raw)[_HEAD:]
    if zlib.crc32(data).to_bytes(8, "little") != raw[_HEAD - 8 : _HEAD]:
        return None
    count = int.from_bytes(data[:8], "little")
    first = len(data) - 4 * count
    if first < 8 or first % 8:
        return None
    found = Records(data[first:].cast("I"), data[8:first].cast("Q"))
    return found if _fits(found, end, length_of, name_of) else None


def _fits(found: Records, end: int, length_of: Callable[[int], int], name_of: Callable[[int], bytes]) -> bool:
    """Whether a sample of the records, the first and the last among them, are where the next one says they end, and named so."""
    offsets, names = found
    if not offsets or offsets[0] or len(names) > len(offsets):
        return False
    last = len(offsets) - 1
    try:
        for index in {*range(0, last, max(1, last // SAMPLES)), last}:
            follower = offsets[index + 1] if index < last else end
            if offsets[index] + length_of(offsets[index]) != follower:
                return False
        for place in range(0, len(names), max(1, len(names) // SAMPLES)):
            if name_hash(name_of(offsets[names[place] & 0xFFFFFFFF])) != names[place] >> 32:
                return False
    except IndexError:
        return False
    return True
