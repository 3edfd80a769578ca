"""The part of ELF a BPF object uses: 64-bit little-endian section headers, symbols and REL relocations.

A reader of our own because start-up and damaged input are features here: it imports nothing but `struct`, reads every
section at most once, and answers any damage with `ObjectError`. Layout: the System V ABI, "Object Files".
"""

from __future__ import annotations

from collections.abc import Iterator

from bpf2py._typing import NamedTuple
from bpf2py.elf.layout import (
    EHDR,
    REL,
    SHDR,
    SHF_ALLOC,
    SHF_COMPRESSED,
    SHF_EXECINSTR,
    SHN_LORESERVE,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_NULL,
    SHT_PROGBITS,
    SHT_REL,
    SHT_RELA,
    SHT_SYMTAB,
    STT_SECTION,
    SYM,
)
from bpf2py.errors import ObjectError

MAX_NOBITS = 1 << 30  # the largest plausible .bss
MAX_OVERLAP = 8  # sections do not overlap; without a limit a small file could ask for much memory
MAX_NAME = 4096  # bytes of a name; without a limit names that overlap could ask for much memory


class Section(NamedTuple):
    """A section header; `data` is read through `ElfFile`."""

    number: int
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    entry_size: int
    data: bytes
    align: int = 1

    @property
    def executable(self) -> bool:
        """Whether the section holds instructions."""
        return self.type == SHT_PROGBITS and bool(self.flags & SHF_EXECINSTR)


class Symbol(NamedTuple):
    """A symbol; `section` is an index, or one of the SHN_ numbers."""

    number: int
    name: str
    type: int
    binding: int
    visibility: int
    section: int
    value: int
    size: int

    @property
    def defined(self) -> bool:
        """Whether the symbol lies in a section of this file."""
        return SHN_UNDEF < self.section < SHN_LORESERVE


class Reloc(NamedTuple):
    """A relocation: `offset` in the section it applies to, the symbol's index and the type."""

    offset: int
    symbol: int
    type: int


class ElfFile:
    """Sections, symbols and relocations of an object file.

    Args:
        data: the whole file.
        name: what to call the file in errors.

    Raises:
        ObjectError: not a 64-bit little-endian ELF file, or damaged.
    """

    def __init__(self, data: bytes, name: str = "object") -> None:
        self.name = name
        if data[:4] != b"\x7fELF":
            raise ObjectError(
                f"{name}: not an ELF file (an object compiled with clang -target bpf is expected)", offset=0
            )
        if len(data) < EHDR.size:
            raise ObjectError(f"{name}: the ELF header is cut short: {len(data)} bytes", offset=0)
        (
            ident,
            _type,
            machine,
            _version,
            _entry,
            _phoff,
            shoff,
            _flags,
            _ehsize,
            _phentsize,
            _phnum,
            shentsize,
            shnum,
            shstr,
        ) = EHDR.unpack_from(data)
        if ident[4] != 2:
            raise ObjectError(f"{name}: a 64-bit ELF file is expected, not a 32-bit one", offset=4)
        if ident[5] != 1:
            raise ObjectError(f"{name}: big-endian objects are not supported; compile with -target bpfel", offset=5)
        self.machine = machine
        if shentsize != SHDR.size or not shnum:
            raise ObjectError(f"{name}: there are no section headers", offset=0x3A)
        if shoff + shnum * shentsize > len(data):
            raise ObjectError(f"{name}: the section headers lie outside the file; is it truncated?", offset=0x28)
        headers = [SHDR.unpack_from(data, shoff + i * shentsize) for i in range(shnum)]
        if shstr >= shnum:
            raise ObjectError(f"{name}: the section name table's index {shstr} is out of range", offset=0x3E)
        names = self._contents(data, "section names", *headers[shstr][1:6])
        if sum(header[5] for header in headers if header[1] not in (SHT_NULL, SHT_NOBITS)) > MAX_OVERLAP * len(data):
            raise ObjectError(f"{name}: the sections overlap", offset=0x28)
        self.sections: list[Section] = []
        for index, (name_off, kind, flags, _addr, offset, size, link, info, align, entry_size) in enumerate(headers):
            section_name = _string(names, name_off, name, "section names")
            contents = self._contents(data, section_name, kind, flags, 0, offset, size)
            self.sections.append(
                Section(index, section_name, kind, flags, offset, size, link, info, entry_size, contents, align)
            )
        self.symbols = list(self._read_symbols())

    def _contents(self, data: bytes, section: str, kind: int, flags: int, _addr: int, offset: int, size: int) -> bytes:
        if kind in (SHT_NULL, SHT_NOBITS):
            if size > MAX_NOBITS:
                raise ObjectError(f"{self.name}: section size {size} is not plausible", section=section)
            return b""
        if flags & SHF_COMPRESSED:
            raise ObjectError(f"{self.name}: compressed sections are not supported", section=section)
        if offset + size > len(data):
            raise ObjectError(
                f"{self.name}: the section lies outside the file; is it truncated?", section=section, offset=offset
            )
        return data[offset : offset + size]

    def find(self, name: str) -> Section | None:
        """The first section with this name that has contents or a size."""
        return next((s for s in self.sections if s.name == name and s.type != SHT_NULL), None)

    def section(self, index: int) -> Section:
        """The section with this index."""
        if not 0 < index < len(self.sections):
            raise ObjectError(f"{self.name}: there is no section with index {index}")
        return self.sections[index]

    def symbol(self, index: int) -> Symbol:
        """The symbol with this index."""
        if not 0 <= index < len(self.symbols):
            raise ObjectError(f"{self.name}: there is no symbol with index {index}", section=".symtab")
        return self.symbols[index]

    def _read_symbols(self) -> Iterator[Symbol]:
        table = next((s for s in self.sections if s.type == SHT_SYMTAB), None)
        if table is None:
            return
        if table.size % SYM.size:
            raise ObjectError(f"{self.name}: the symbol table is cut short", section=table.name)
        strings = self.section(table.link).data
        for index, (name_off, info, other, section, value, size) in enumerate(SYM.iter_unpack(table.data)):
            symbol_name = _string(strings, name_off, self.name, table.name)
            if not symbol_name and info & 0xF == STT_SECTION and 0 < section < len(self.sections):
                symbol_name = self.sections[section].name
            yield Symbol(index, symbol_name, info & 0xF, info >> 4, other & 3, section, value, size)

    def relocations(self) -> Iterator[tuple[Section, list[Reloc]]]:
        """Sections for the kernel, and .BTF, that have relocations, with these by offset; a section may come more than once."""
        for section in self.sections:
            if section.type == SHT_RELA:
                target = self.section(section.info)
                if target.flags & SHF_ALLOC:
                    raise ObjectError(f"{self.name}: RELA relocations are not used by BPF", section=section.name)
            if section.type != SHT_REL:
                continue
            if section.size % REL.size:
                raise ObjectError(f"{self.name}: the relocations are cut short", section=section.name)
            target = self.section(section.info)
            if not target.flags & SHF_ALLOC and target.name != ".BTF":
                continue  # debug information and .BTF.ext, many and of no use: nothing of theirs moves
            relocs = [Reloc(offset, info >> 32, info & 0xFFFFFFFF) for offset, info in REL.iter_unpack(section.data)]
            yield target, sorted(relocs)


def _string(table: bytes, offset: int, file: str, section: str) -> str:
    end = table.find(b"\0", offset)
    if offset and (offset >= len(table) or end < 0):
        raise ObjectError(f"{file}: a name lies outside the string table", section=section, offset=offset)
    if end - offset > MAX_NAME:
        raise ObjectError(f"{file}: a name of {end - offset} bytes is not plausible", section=section, offset=offset)
    return table[offset:end].decode("utf-8", "surrogateescape") if end > offset else ""
