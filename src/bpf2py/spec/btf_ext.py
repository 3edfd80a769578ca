"""The .BTF.ext section: function, line and CO-RE relocation records (Documentation/bpf/btf.rst, section 4)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from bpf2py.btf.reader import MAGIC, Btf
from bpf2py.errors import ObjectError

SECTION = ".BTF.ext"


class FuncInfo(NamedTuple):
    """A function that starts at `offset` (bytes in its section) has the FUNC type `type_id`."""

    offset: int
    type_id: int


class LineInfo(NamedTuple):
    """From `offset` (bytes in its section) on, instructions come from this source line."""

    offset: int
    file_off: int
    line_off: int
    line_col: int

    @property
    def line(self) -> int:
        """Line number."""
        return self.line_col >> 10

    @property
    def column(self) -> int:
        """Column number."""
        return self.line_col & 0x3FF


class CoreReloc(NamedTuple):
    """A CO-RE relocation record: which instruction, which local type, which access path, which kind."""

    offset: int
    type_id: int
    access: str
    kind: int


class BtfExt(NamedTuple):
    """Records by section name, each list sorted by offset."""

    funcs: dict[str, list[FuncInfo]]
    lines: dict[str, list[LineInfo]]
    core_relocs: dict[str, list[CoreReloc]]


def read_btf_ext(data: bytes, btf: Btf, file: str) -> BtfExt:
    """Parse .BTF.ext. Raises ObjectError when it is damaged."""

    def fail(what: str, offset: int) -> ObjectError:
        return ObjectError(f"{file}: {what}", section=SECTION, offset=offset)

    if len(data) < 24:
        raise fail("the header is cut short", 0)
    magic, version, _flags, hdr_len = struct.unpack_from("<HBBI", data)
    if magic != MAGIC or version != 1:
        raise fail(f"magic {magic:#06x} version {version} are not those of BTF.ext", 0)
    if hdr_len < 24 or hdr_len > len(data):
        raise fail(f"the header length {hdr_len} is wrong", 4)
    spans = list(struct.unpack_from("<IIII", data, 8))
    spans += struct.unpack_from("<II", data, 24) if hdr_len >= 32 else (0, 0)

    def records(start: int, length: int, minimum: int) -> Iterator[tuple[str, int]]:
        """(section name, position of a record) of one of the three tables."""
        at, end = hdr_len + start, hdr_len + start + length
        if end > len(data):
            raise fail("a table lies outside the section", at)
        if not length:
            return
        if length < 4:
            raise fail("a table is cut short", at)
        (size,) = struct.unpack_from("<I", data, at)
        at += 4
        if size < minimum or size % 4:
            raise fail(f"record size {size} is wrong", at)
        while at < end:
            if at + 8 > end:
                raise fail("a section's header is cut short", at)
            name_off, count = struct.unpack_from("<II", data, at)
            at += 8
            if at + count * size > end:
                raise fail("a section's records are cut short", at)
            name = btf.string(name_off)
            for _ in range(count):
                yield name, at
                at += size

    funcs: dict[str, list[FuncInfo]] = {}
    for name, at in records(spans[0], spans[1], 8):
        funcs.setdefault(name, []).append(FuncInfo(*struct.unpack_from("<II", data, at)))
    lines: dict[str, list[LineInfo]] = {}
    for name, at in records(spans[2], spans[3], 16):
        lines.setdefault(name, []).append(LineInfo(*struct.unpack_from("<IIII", data, at)))
    relocs: dict[str, list[CoreReloc]] = {}
    for name, at in records(spans[4], spans[5], 16):
        offset, type_id, access_off, kind = struct.unpack_from("<IIII", data, at)
        relocs.setdefault(name, []).append(CoreReloc(offset, type_id, btf.string(access_off), kind))
    for table in (funcs, lines, relocs):
        for rows in table.values():
            rows.sort(key=lambda row: row[0])
    return BtfExt(funcs, lines, relocs)
