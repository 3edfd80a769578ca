"""Stacks as a file for pprof: a gzipped protocol buffer (github.com/google/pprof, proto/profile.proto)."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping

__all__ = ["profile"]

# Numbers of fields of message Profile, and of those in it.
SAMPLE_TYPE, SAMPLE, LOCATION, FUNCTION, STRING_TABLE = 1, 2, 4, 5, 6
TYPE, UNIT = 1, 2  # ValueType
LOCATION_ID, VALUE = 1, 2  # Sample
ID, LINE = 1, 4  # Location
FUNCTION_ID = 1  # Line
NAME = 2  # Function; its id is 1 as well


def profile(counts: Mapping[tuple[str, ...], int], unit: str) -> bytes:
    """All stacks; a location and a function for each name."""
    strings = {"": 0, unit: 1, "count": 2}
    functions: dict[str, int] = {}
    out = bytearray()
    out += _field(SAMPLE_TYPE, _number(TYPE, 1) + _number(UNIT, 1 if unit != "samples" else 2))
    for names, count in counts.items():
        places = [functions.setdefault(name, len(functions) + 1) for name in reversed(names)]
        out += _field(SAMPLE, _packed(LOCATION_ID, places) + _packed(VALUE, [count]))
    for name, number in functions.items():
        out += _field(LOCATION, _number(ID, number) + _field(LINE, _number(FUNCTION_ID, number)))
        out += _field(FUNCTION, _number(ID, number) + _number(NAME, strings.setdefault(name, len(strings))))
    for text in strings:
        out += _field(STRING_TABLE, text.encode("utf-8", "replace"))
    return gzip.compress(bytes(out), mtime=0)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value & (1 << 64) - 1)


def _field(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _packed(field: int, values: Iterable[int]) -> bytes:
    return _field(field, b"".join(map(_varint, values)))
