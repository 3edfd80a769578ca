"""Executables and libraries: their segments, sections, build ids and symbol tables.

Layout: the System V ABI, "Object Files"; elf(5).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

from bpf2py._typing import NamedTuple
from bpf2py.elf.layout import (
    EHDR,
    NHDR,
    NT_GNU_BUILD_ID,
    PHDR,
    PT_LOAD,
    PT_NOTE,
    SHDR,
    SHF_COMPRESSED,
    SHT_NOBITS,
    SHT_NOTE,
    SHT_NULL,
    SYM,
)

__all__ = ["Buffer", "LinkedFile", "Load", "Section"]

MOST_HEADERS = 1 << 16

Buffer = bytes | mmap.mmap


class Load(NamedTuple):
    """A PT_LOAD segment: bytes of the file and where they are in the file's own address space."""

    offset: int
    address: int
    size: int


class Section(NamedTuple):
    """A section header."""

    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int


class LinkedFile:
    """The headers of an executable, a library or a debug file.

    Whatever they claim is checked: of what lies outside of the file there is nothing.

    Attributes:
        data: the file's bytes.
        machine: the processor it is for, an EM_ number.
        loads: its PT_LOAD segments.
        notes: where its notes are: (offset, size).
        sections: in the file's order.
        cut_short: whether headers or sections lie outside of the file.

    Raises:
        ValueError: it is not a 64-bit little-endian ELF file.
    """

    def __init__(self, data: Buffer) -> None:
        self.data = data
        if len(data) < EHDR.size or data[:6] != b"\x7fELF\x02\x01":
            raise ValueError("not a 64-bit little-endian ELF file")
        header = EHDR.unpack_from(data)
        self.machine: int = header[2]
        phoff, shoff, phentsize, phnum, shentsize, shnum, shstr = header[5], header[6], *header[9:14]
        self.loads: list[Load] = []
        self.notes: list[tuple[int, int]] = []
        if phentsize == PHDR.size:
            for at in range(phoff, min(phoff + phnum * phentsize, len(data) - PHDR.size + 1), phentsize):
                kind, _flags, offset, address, _physical, size, _memory, _align = PHDR.unpack_from(data, at)
                if kind == PT_LOAD:
                    self.loads.append(Load(offset, address, size))
                elif kind == PT_NOTE:
                    self.notes.append((offset, size))
        rows = []
        if shentsize == SHDR.size and shoff:
            if not shnum:  # more than fit into the header: the first section says how many (elf(5))
                shnum = SHDR.unpack_from(data, shoff)[5] if shoff + SHDR.size <= len(data) else 0
            for at in range(
                shoff, min(shoff + min(shnum, MOST_HEADERS) * shentsize, len(data) - SHDR.size + 1), shentsize
            ):
                rows.append(SHDR.unpack_from(data, at))
        names = rows[shstr][4:6] if shstr < len(rows) else (0, 0)
        self.sections = [
            Section(self.text(names[0] + row[0], 64), row[1], row[2], row[3], row[4], row[5], row[6]) for row in rows
        ]
        self.cut_short = (
            phoff + phnum * phentsize > len(data)
            or shoff + shnum * shentsize > len(data)
            or any(s.type not in (SHT_NULL, SHT_NOBITS) and s.offset + s.size > len(data) for s in self.sections)
        )

    def text(self, at: int, most: int = 4096) -> str:
        """A name that ends with a NUL."""
        piece = self.data[at : at + most]
        return piece.partition(b"\0")[0].decode("utf-8", "replace")

    def bytes(self, section: Section) -> bytes:
        """A section's contents; of what lies outside of the file nothing."""
        if section.type == SHT_NOBITS or section.offset + section.size > len(self.data):
            return b""
        return bytes(self.data[section.offset : section.offset + section.size])

    def find(self, name: str) -> Section | None:
        """The first section with this name."""
        return next((section for section in self.sections if section.name == name), None)

    def build_id(self) -> str:
        """In hexadecimal, empty where there is none."""
        places = self.notes or [(s.offset, s.size) for s in self.sections if s.type == SHT_NOTE]
        for at, size in places:
            end = min(at + size, len(self.data))
            while at + NHDR.size <= end:
                name_size, size_of_note, kind = NHDR.unpack_from(self.data, at)
                name_at = at + NHDR.size
                note_at = name_at + (name_size + 3 & ~3)
                if kind == NT_GNU_BUILD_ID and self.data[name_at : name_at + 4] == b"GNU\0" and size_of_note <= 64:
                    return bytes(self.data[note_at : note_at + size_of_note]).hex()
                at = note_at + (size_of_note + 3 & ~3)
        return ""

    def symbol_tables(self, *kinds: int) -> Iterator[tuple[int, Section, Section]]:
        """(number, section, section of its names) of the symbol tables of some kinds."""
        for number, table in enumerate(self.sections):
            if table.type in kinds and table.link < len(self.sections) and not table.flags & SHF_COMPRESSED:
                yield number, table, self.sections[table.link]

    def symbols(self, table: Section) -> Iterator[tuple[int, int, int, int, int, int]]:
        """(place of the name, info, other, section, value, size) of each symbol of a table."""
        rows = self.bytes(table)
        return SYM.iter_unpack(rows[: len(rows) // SYM.size * SYM.size])
