"""The compiled object speaks of names as the program has them: the prefixes that C needed are taken away again."""

from __future__ import annotations

import struct

from bpf2py.btf.reader import HEADER
from bpf2py.btf.types import Kind
from bpf2py.lang.c_types import PREFIX

__all__ = ["names_of_python"]

_MARK = PREFIX.encode()
# Bytes after a type's record, by kind: for each of its members, and once.
_MEMBERS = {Kind.STRUCT: 12, Kind.UNION: 12, Kind.ENUM: 8, Kind.FUNC_PROTO: 8, Kind.DATASEC: 12, Kind.ENUM64: 12}
_ONCE = {Kind.INT: 4, Kind.ARRAY: 12, Kind.VAR: 4, Kind.DECL_TAG: 4}
_NAMED_MEMBERS = (Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.FUNC_PROTO, Kind.ENUM64)


def names_of_python(data: bytes) -> bytes:
    """An object whose types, members and symbols have no prefixes: a name begins later in the same string."""
    if _MARK not in data:
        return data
    out = bytearray(data)
    for name, offset, size, link in _sections(data):
        if name == ".BTF":
            _types(out, offset)
        elif name == ".symtab":
            _symbols(out, offset, size, link)
    return bytes(out)


def _sections(data: bytes) -> list[tuple[str, int, int, int]]:
    """(name, offset, size, offset of the linked section) of every ELF section."""
    (table,) = struct.unpack_from("<Q", data, 0x28)
    count, names = struct.unpack_from("<HH", data, 0x3C)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, table + 64 * i) for i in range(count)]
    result = []
    for header in headers:
        start = headers[names][4] + header[0]
        name = data[start : data.index(b"\0", start)].decode("ascii", "replace")
        link = headers[header[6]][4] if header[6] < count else 0
        result.append((name, header[4], header[5], link))
    return result


def _shorter(out: bytearray, strings: int, at: int) -> None:
    """Let a name's offset point after the prefix."""
    (offset,) = struct.unpack_from("<I", out, at)
    start = strings + offset
    text = bytes(out[start : out.index(0, start)])
    position = text.rfind(_MARK)
    if position >= 0:
        struct.pack_into("<I", out, at, offset + position + len(_MARK))


def _symbols(out: bytearray, offset: int, size: int, strings: int) -> None:
    for at in range(offset, offset + size, 24):
        _shorter(out, strings, at)


def _types(out: bytearray, start: int) -> None:
    header = HEADER.unpack_from(out, start)
    header_length, type_offset, type_length, string_offset = header[3], header[4], header[5], header[6]
    at = start + header_length + type_offset
    end, strings = at + type_length, start + header_length + string_offset
    while at < end:
        _, info, _ = struct.unpack_from("<III", out, at)
        kind, count = Kind(info >> 24 & 0x1F), info & 0xFFFF
        if kind != Kind.DECL_TAG:
            _shorter(out, strings, at)
        at += 12 + _ONCE.get(kind, 0)
        size = _MEMBERS.get(kind, 0)
        for _ in range(count if size else 0):
            if kind in _NAMED_MEMBERS:
                _shorter(out, strings, at)
            at += size
