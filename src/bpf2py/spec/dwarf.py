"""The structs a program's variables have, from an object's debug information (DWARF 4 and 5), as BTF.

An object's BTF lacks what only local variables mention, such as the struct of a record that is reserved in a ring buffer. Read are
the forms clang writes for BPF; what does not make sense ends the reading, and what was found until then counts.

Source of facts: the DWARF Debugging Information Format, versions 4 and 5, chapters 5 and 7.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum

from bpf2py._typing import Any
from bpf2py.btf.reader import HEADER, MAGIC, Btf
from bpf2py.btf.types import Kind
from bpf2py.elf.object_file import ElfFile
from bpf2py.errors import BpfError

__all__ = ["variable_structs"]

MOST_BYTES = 1 << 24  # of .debug_info; programs have some kilobytes
MOST_DEPTH = 32
# A small file could ask for much work without these.
MOST_ENTRIES = 1_000_000
MOST_ATTRIBUTES = 64  # of an entry
MOST_ABBREVIATIONS = 65_536  # of all units
LONGEST_NAME = 4096


class Tag(IntEnum):
    """DW_TAG_*: the entries that are looked at."""

    ARRAY = 0x01
    ENUM = 0x04
    PARAMETER = 0x05
    MEMBER = 0x0D
    POINTER = 0x0F
    UNIT = 0x11
    STRUCT = 0x13
    TYPEDEF = 0x16
    UNION = 0x17
    SUBRANGE = 0x21
    BASE = 0x24
    CONST = 0x26
    ENUMERATOR = 0x28
    VARIABLE = 0x34
    VOLATILE = 0x35
    RESTRICT = 0x37


class At(IntEnum):
    """DW_AT_*: the attributes that are looked at."""

    NAME = 0x03
    BYTE_SIZE = 0x0B
    BIT_SIZE = 0x0D
    CONST_VALUE = 0x1C
    UPPER_BOUND = 0x2F
    COUNT = 0x37
    MEMBER_LOCATION = 0x38
    DECLARATION = 0x3C
    ENCODING = 0x3E
    TYPE = 0x49
    DATA_BIT_OFFSET = 0x6B
    STR_OFFSETS_BASE = 0x72


QUALIFIERS = (Tag.TYPEDEF, Tag.CONST, Tag.VOLATILE, Tag.RESTRICT)
INDIRECT = (*QUALIFIERS, Tag.POINTER, Tag.ARRAY)
# Forms of so many bytes, and whether they are signed; strx and addrx among them.
_FIXED = {
    0x01: 8, 0x05: 2, 0x06: 4, 0x07: 8, 0x0B: 1, 0x0C: 1, 0x0E: 4, 0x10: 4, 0x11: 1, 0x12: 2, 0x13: 4, 0x14: 8, 0x17: 4,
    0x1C: 4, 0x1D: 4, 0x1E: 16, 0x1F: 4, 0x20: 8, 0x25: 1, 0x26: 2, 0x27: 3, 0x28: 4, 0x29: 1, 0x2A: 2, 0x2B: 3, 0x2C: 4,
}  # fmt: skip
_ULEB = (0x0F, 0x15, 0x1A, 0x1B, 0x22, 0x23)
_BLOCKS = {0x03: 2, 0x04: 4, 0x0A: 1}
_STRX = (0x1A, 0x25, 0x26, 0x27, 0x28)
_REFERENCES = (0x11, 0x12, 0x13, 0x14, 0x15)
_FLOAT, _BOOLEAN, _SIGNED = 0x04, 0x02, (0x05, 0x06)  # DW_ATE_*


class Entry:
    """A debugging information entry: its tag, attributes and children."""

    __slots__ = ("attributes", "children", "tag")

    def __init__(self, tag: int, attributes: dict[int, Any]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.children: list[Entry] = []

    @property
    def name(self) -> str:
        """Its name, empty without one."""
        name = self.attributes.get(At.NAME)
        return name if isinstance(name, str) else ""

    def number(self, attribute: int, default: int = 0) -> int:
        """An attribute that is a number."""
        value = self.attributes.get(attribute)
        return value if isinstance(value, int) else default


class _Damaged(Exception):
    """The debug information does not make sense from here on."""


class _Cursor:
    """Reads a section from front to back."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def take(self, count: int) -> bytes:
        """So many bytes."""
        if count < 0 or self.at + count > len(self.data):
            raise _Damaged
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, count: int) -> int:
        """A little-endian number of so many bytes."""
        return int.from_bytes(self.take(count), "little")

    def uleb(self) -> int:
        """A number of variable length."""
        value = shift = 0
        while shift < 64:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value
        raise _Damaged

    def sleb(self) -> int:
        """A signed number of variable length."""
        start = self.at
        value = self.uleb()
        bits = 7 * (self.at - start)
        return value - (1 << bits) if value >> (bits - 1) & 1 else value

    def text(self) -> str:
        """A string that ends with a NUL."""
        return _string(self.data, self.at, self)


def _string(data: bytes, offset: int, cursor: _Cursor | None = None) -> str:
    end = data.find(b"\0", offset, offset + LONGEST_NAME) if offset >= 0 else -1
    if end < 0:
        raise _Damaged
    if cursor is not None:
        cursor.at = end + 1
    return data[offset:end].decode("utf-8", "replace")


class _Reader:
    """The entries of an object, by where they are in .debug_info."""

    def __init__(self, elf: ElfFile) -> None:
        def data(name: str) -> bytes:
            section = elf.find(name)
            return section.data if section is not None else b""

        self.info, self.abbrev = data(".debug_info"), data(".debug_abbrev")
        self.strings, self.line_strings = data(".debug_str"), data(".debug_line_str")
        self.offsets = data(".debug_str_offsets")
        self.entries: dict[int, Entry] = {}
        self._tables: dict[int, dict[int, Any]] = {}
        self._rows = 0
        if len(self.info) <= MOST_BYTES:
            try:
                self._read()
            except (_Damaged, struct.error, IndexError):
                pass

    def _read(self) -> None:
        cursor = _Cursor(self.info)
        while cursor.at < len(self.info):
            start = cursor.at
            length = cursor.number(4)
            end = cursor.at + length
            version = cursor.number(2)
            if version == 5:
                kind, address_size, table = cursor.number(1), cursor.number(1), cursor.number(4)
            elif version == 4:
                kind, table, address_size = 1, cursor.number(4), cursor.number(1)
            else:
                raise _Damaged
            if kind == 1 and address_size == 8:
                self._unit(start, cursor, end, self._abbreviations(table))
            cursor.at = end

    def _abbreviations(self, offset: int) -> dict[int, tuple[int, bool, list[tuple[int, int, int]]]]:
        if offset in self._tables:
            return self._tables[offset]
        cursor = _Cursor(self.abbrev, offset)
        found = self._tables[offset] = {}
        while code := cursor.uleb():
            tag, children, attributes = cursor.uleb(), cursor.number(1) != 0, []
            while True:
                name, form = cursor.uleb(), cursor.uleb()
                constant = cursor.sleb() if form == 0x21 else 0
                if not name and not form:
                    break
                attributes.append((name, form, constant))
                if len(attributes) > MOST_ATTRIBUTES:
                    raise _Damaged
            self._rows += 1
            if self._rows > MOST_ABBREVIATIONS:
                raise _Damaged
            found[code] = (tag, children, attributes)
        return found

    def _unit(self, start: int, cursor: _Cursor, end: int, table: dict[int, Any]) -> None:
        parents: list[Entry] = []
        base = 8
        while cursor.at < end:
            at = cursor.at
            code = cursor.uleb()
            if not code:
                if not parents:
                    return
                parents.pop()
                continue
            if code not in table:
                raise _Damaged
            tag, has_children, attributes = table[code]
            values: dict[int, Any] = {}
            strings: list[tuple[int, int]] = []  # the base they count from may come after them
            for name, form, constant in attributes:
                value = self._value(cursor, form, constant, start)
                if form in _STRX:
                    strings.append((name, value))
                else:
                    values[name] = value
            if tag == Tag.UNIT:
                base = values.get(At.STR_OFFSETS_BASE, base)
            for name, index in strings:
                (offset,) = struct.unpack_from("<I", self.offsets, base + 4 * index)
                values[name] = _string(self.strings, offset)
            if len(self.entries) >= MOST_ENTRIES:
                raise _Damaged
            entry = self.entries[at] = Entry(tag, values)
            if parents:
                parents[-1].children.append(entry)
            if has_children:
                parents.append(entry)

    def _value(self, cursor: _Cursor, form: int, constant: int, unit: int) -> Any:
        if form in _FIXED:
            value: Any = cursor.number(_FIXED[form])
            if form == 0x0E:
                value = _string(self.strings, value)
            elif form == 0x1F:
                value = _string(self.line_strings, value)
            return value + unit if form in _REFERENCES else value
        if form in _ULEB:
            return cursor.uleb() + (unit if form in _REFERENCES else 0)
        if form == 0x08:
            return cursor.text()
        if form == 0x0D:
            return cursor.sleb()
        if form == 0x19:
            return 1
        if form == 0x21:
            return constant
        if form in _BLOCKS:
            return cursor.take(cursor.number(_BLOCKS[form]))
        if form in (0x09, 0x18):
            return cursor.take(cursor.uleb())
        raise _Damaged

    def type_of(self, entry: Entry) -> Entry | None:
        """The type an entry names, or None for void."""
        return self.entries.get(entry.number(At.TYPE, -1))

    def behind(self, entry: Entry | None, tags: tuple[int, ...]) -> Entry | None:
        """What is behind types of these kinds."""
        for _ in range(MOST_DEPTH):
            if entry is None or entry.tag not in tags:
                return entry
            entry = self.type_of(entry)
        return None


class _Writer:
    """Types as BTF. Pointers lead to void: what they point to is not in a record."""

    def __init__(self, reader: _Reader) -> None:
        self.reader = reader
        self.types = bytearray()
        self.strings = bytearray(b"\0")
        self.count = 0
        self.ids: dict[int, int] = {}

    def add(self, entry: Entry | None, depth: int = 0) -> int:
        """The id of a type. Raises _Damaged for what BTF cannot say."""
        if entry is None:
            return 0
        known = self.ids.get(id(entry))
        if known is not None:
            return known
        if depth > MOST_DEPTH:
            raise _Damaged
        made = self._make(entry, depth + 1)
        self.ids[id(entry)] = made
        return made

    def _make(self, entry: Entry, depth: int) -> int:
        tag, size = entry.tag, entry.number(At.BYTE_SIZE)
        if tag in (Tag.CONST, Tag.VOLATILE, Tag.RESTRICT):
            return self.add(self.reader.type_of(entry), depth)
        if tag == Tag.TYPEDEF:
            return self._record(entry.name, Kind.TYPEDEF, 0, self.add(self.reader.type_of(entry), depth))
        if tag == Tag.POINTER:
            return self._record("", Kind.PTR, 0, 0)
        if tag == Tag.BASE:
            return self._base(entry, size)
        if tag == Tag.ENUM:
            values = [
                (child.name, child.number(At.CONST_VALUE)) for child in entry.children if child.tag == Tag.ENUMERATOR
            ]
            rows = [(self._name(name), value & 0xFFFFFFFF) for name, value in values]
            signed = any(value < 0 for _, value in values)
            return self._record(entry.name, Kind.ENUM, len(rows), size, rows, flag=signed)
        if tag == Tag.ARRAY:
            element = self.add(self.reader.type_of(entry), depth)
            for child in reversed([child for child in entry.children if child.tag == Tag.SUBRANGE]):
                bound = child.number(At.UPPER_BOUND, -1) + 1
                element = self._record("", Kind.ARRAY, 0, 0, [(element, self._index(), child.number(At.COUNT, bound))])
            return element
        if tag in (Tag.STRUCT, Tag.UNION) and not entry.number(At.DECLARATION):
            return self._struct(entry, size, depth)
        raise _Damaged

    def _index(self) -> int:
        if -1 not in self.ids:
            self.ids[-1] = self._record("u32", Kind.INT, 0, 4, [(32,)])
        return self.ids[-1]

    def _base(self, entry: Entry, size: int) -> int:
        encoding = entry.number(At.ENCODING)
        if encoding == _FLOAT:
            return self._record(entry.name, Kind.FLOAT, 0, size)
        flags = 4 if encoding == _BOOLEAN else 1 if encoding in _SIGNED else 0
        return self._record(entry.name, Kind.INT, 0, size, [(flags << 24 | 8 * size,)])

    def _struct(self, entry: Entry, size: int, depth: int) -> int:
        rows = []
        members = [child for child in entry.children if child.tag == Tag.MEMBER]
        bits = any(At.BIT_SIZE in child.attributes for child in members)
        for child in members:
            offset = child.number(At.DATA_BIT_OFFSET, 8 * child.number(At.MEMBER_LOCATION))
            width = child.number(At.BIT_SIZE)
            place = (width << 24 | offset) if bits else offset
            rows.append((self._name(child.name), self.add(self.reader.type_of(child), depth), place & 0xFFFFFFFF))
        kind = Kind.STRUCT if entry.tag == Tag.STRUCT else Kind.UNION
        return self._record(entry.name, kind, len(rows), size, rows, flag=bits)

    def _name(self, text: str) -> int:
        if not text:
            return 0
        offset = len(self.strings)
        self.strings += text.encode("utf-8", "replace") + b"\0"
        return offset

    def _record(
        self, name: str, kind: Kind, vlen: int, word: int, rows: Sequence[tuple[int, ...]] = (), flag: bool = False
    ) -> int:
        if vlen > 0xFFFF:
            raise _Damaged
        words = [self._name(name), flag << 31 | int(kind) << 24 | vlen, word, *(item for row in rows for item in row)]
        self.types += struct.pack(f"<{len(words)}I", *words)
        self.count += 1
        return self.count

    def btf(self, name: str) -> Btf:
        """All types that were added."""
        header = HEADER.pack(MAGIC, 1, 0, HEADER.size, 0, len(self.types), len(self.types), len(self.strings))
        return Btf(header + bytes(self.types) + bytes(self.strings), name=name)


def variable_structs(data: bytes, name: str = "object") -> tuple[Btf, dict[str, int]] | None:
    """The structs and unions variables of an object have, or point to: their BTF, and ids by the name people write.

    Args:
        data: an ELF object file.
        name: what to call it.

    Returns:
        None without debug information. Structs without a name go by that of their typedef.
    """
    try:
        reader = _Reader(ElfFile(data, name))
        writer = _Writer(reader)
        found: dict[str, int] = {}
        for label, entry in _structs(reader):
            if label not in found:
                try:
                    found[label] = writer.add(entry)
                except (_Damaged, struct.error):
                    continue
        return (writer.btf(name), found) if found else None
    except BpfError:
        return None


def _structs(reader: _Reader) -> Iterator[tuple[str, Entry]]:
    for entry in reader.entries.values():
        if entry.tag not in (Tag.VARIABLE, Tag.PARAMETER):
            continue
        typed = reader.behind(reader.type_of(entry), (Tag.CONST, Tag.VOLATILE, Tag.RESTRICT, Tag.POINTER, Tag.ARRAY))
        target = reader.behind(typed, INDIRECT)
        if target is None or target.tag not in (Tag.STRUCT, Tag.UNION) or target.number(At.DECLARATION):
            continue
        if target.name:
            yield target.name, target
        elif typed is not None and typed.tag == Tag.TYPEDEF and typed.name:
            yield typed.name, typed
