"""Kernel functions on strings (Linux 6.17): kernel/bpf/helpers.c.

They read up to 65,536 bytes (XATTR_SIZE_MAX) of a string; the kernel's characters are unsigned. Errors: -ERANGE for an
address no string can be at, -EFAULT where it runs out of memory, -E2BIG for one that does not end, -ENOENT where nothing is
found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from bpf2py.engine.helpers.memory import kernel_error
from bpf2py.engine.memory import PUBLIC
from bpf2py.uapi.errno import E2BIG, EFAULT, ENOENT

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


LIMIT = 65536


class Stop(Exception):
    """Ends a function with a result."""

    def __init__(self, result: int) -> None:
        self.result = result


class Text:
    """A string in the program's memory, by index."""

    __slots__ = ("_address", "_memory", "_size")

    def __init__(self, engine: Machine, address: int) -> None:
        self._memory, self._size, self._address = engine.memory.view, engine.memory.size, address
        if not PUBLIC <= address < self._size:
            raise Stop(kernel_error(address))

    def __getitem__(self, index: int) -> int:
        address = self._address + index
        if address >= self._size:
            raise Stop(-EFAULT)
        found: int = self._memory[address]
        return found


def _function(search: Callable[..., int], *kinds: type[int] | type[Text]) -> Callable[..., int]:
    def call(engine: Machine, *arguments: int) -> int:
        try:
            given: list[Any] = [
                Text(engine, value) if kind is Text else value for kind, value in zip(kinds, arguments, strict=False)
            ]
            return search(*given)
        except Stop as stop:
            return stop.result

    call.__doc__ = search.__doc__
    return call


def _lower(octet: int) -> int:
    """tolower() of the kernel, whose letters are Latin-1 (lib/ctype.c)."""
    if 0x41 <= octet <= 0x5A or (0xC0 <= octet <= 0xDE and octet != 0xD7):
        return octet + 32
    return octet


def _compare(left: Text, right: Text, fold: Callable[[int], int] = int) -> int:
    for index in range(LIMIT):
        a, b = fold(left[index]), fold(right[index])
        if a != b:
            return -1 if a < b else 1
        if not a:
            return 0
    return -E2BIG


def _compare_folded(left: Text, right: Text) -> int:
    return _compare(left, right, _lower)


def _find(text: Text, character: int, count: int = LIMIT) -> int:
    for index in _indices(count):
        if text[index] == character & 0xFF:
            return index
        if not text[index]:
            return -ENOENT
    return -ENOENT if count < LIMIT else -E2BIG


def _find_in(text: Text, count: int, character: int) -> int:
    return _find(text, character, count)


def _indices(count: int) -> Iterator[int]:
    return iter(range(min(count, LIMIT)))


def _find_or_end(text: Text, character: int) -> int:
    for index in range(LIMIT):
        if text[index] in (character & 0xFF, 0):
            return index
    return -E2BIG


def _find_last(text: Text, character: int) -> int:
    found, wanted = -ENOENT, character & 0xFFFFFFFF  # an int, which no char equals that it does not fit
    for index in range(LIMIT):
        octet = text[index]
        if octet == wanted:
            found = index
        if not octet:
            return found
    return -E2BIG


def _length(text: Text, count: int = LIMIT) -> int:
    for index in _indices(count):
        if not text[index]:
            return index
    return count if count < LIMIT else -E2BIG


def _length_of(text: Text) -> int:
    return _length(text)


def _span(text: Text, others: Text, among: bool) -> int:
    for index in range(LIMIT):
        octet = text[index]
        if not octet:
            return index
        if (_find(others, octet) >= 0) is not among:
            return index
    return -E2BIG


def _span_of(text: Text, accepted: Text) -> int:
    return _span(text, accepted, True)


def _span_without(text: Text, rejected: Text) -> int:
    return _span(text, rejected, False)


def _search(text: Text, part: Text, length: int = LIMIT) -> int:
    for start in range(LIMIT):
        offset = 0
        while start + offset <= length and offset < LIMIT:
            wanted = part[offset]
            if not wanted:
                return start
            if start + offset == length:
                break
            octet = text[start + offset]
            if not octet:
                return -ENOENT
            if octet != wanted:
                break
            offset += 1
        if offset == LIMIT:
            return -E2BIG
        if start + offset == length:
            return -ENOENT
    return -E2BIG


def _search_all(text: Text, part: Text) -> int:
    return _search(text, part)


bpf_strcmp = _function(_compare, Text, Text)
bpf_strcasecmp = _function(_compare_folded, Text, Text)
bpf_strchr = _function(_find, Text, int)
bpf_strnchr = _function(_find_in, Text, int, int)
bpf_strchrnul = _function(_find_or_end, Text, int)
bpf_strrchr = _function(_find_last, Text, int)
bpf_strlen = _function(_length_of, Text)
bpf_strnlen = _function(_length, Text, int)
bpf_strspn = _function(_span_of, Text, Text)
bpf_strcspn = _function(_span_without, Text, Text)
bpf_strstr = _function(_search_all, Text, Text)
bpf_strnstr = _function(_search, Text, Text, int)
