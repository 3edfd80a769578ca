"""The .BTF.ext section: function, line and CO-RE relocation records (Documentation/bpf/btf.rst, section 4)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import starmap
from operator import itemgetter

from bpf2py._typing import NamedTuple
from bpf2py.btf.reader import MAGIC, Btf
from bpf2py.errors import ObjectError

SECTION = ".BTF.ext"
_FUNC, _LINE, _CORE = struct.Struct("<II"), struct.Struct("<IIII"), struct.Struct("<IIII")


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
    """Records by section name, each list sorted by offset; `lines` are the fields of `LineInfo`, for they are many."""

    funcs: dict[str, list[FuncInfo]]
    lines: dict[str, list[tuple[int, int, int, int]]]
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

    def records(start: int, length: int, form: struct.Struct) -> Iterator[tuple[str, Iterable[tuple[int, ...]]]]:
        """(section name, records) of one of the three tables; records may be longer than what we know of them."""
        at, end = hdr_len + start, hdr_len + start + length
        if end > len(data):
            raise fail("a table lies outside the section", at)
        if not length:
            return
        if length < 4:
            raise fail("a table is cut short", at)
        (size,) = struct.unpack_from("<I", data, at)
        at += 4
        if size < form.size or size % 4:
            raise fail(f"record size {size} is wrong", at)
        while at < end:
            if at + 8 > end:
                raise fail("a section's header is cut short", at)
            name_off, count = struct.unpack_from("<II", data, at)
            at += 8
            if at + count * size > end:
                raise fail("a section's records are cut short", at)
            rows = data[at : at + count * size]
            whole = form if size == form.size else struct.Struct(f"{form.format}{size - form.size}x")
            yield btf.string(name_off), whole.iter_unpack(rows)
            at += count * size

    funcs: dict[str, list[FuncInfo]] = {}
    for name, rows in records(spans[0], spans[1], _FUNC):
        funcs.setdefault(name, []).extend(starmap(FuncInfo, rows))
    lines: dict[str, list[tuple[int, int, int, int]]] = {}
    for name, rows in records(spans[2], spans[3], _LINE):
        lines.setdefault(name, []).extend(rows)  # type: ignore[arg-type]
    relocs: dict[str, list[CoreReloc]] = {}
    access: dict[int, str] = {}  # the same few paths come again and again
    for name, rows in records(spans[4], spans[5], _CORE):
        found = relocs.setdefault(name, [])
        for offset, type_id, access_off, kind in rows:
            text = access.get(access_off)
            if text is None:
                text = access[access_off] = btf.string(access_off)
            found.append(CoreReloc(offset, type_id, text, kind))
    for table in (funcs, lines, relocs):
        for each in table.values():
            each.sort(key=itemgetter(0))
    return BtfExt(funcs, lines, relocs)
