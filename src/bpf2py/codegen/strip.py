"""Objects without debug information, which the kernel never sees and which names the compiler and its directories."""

from __future__ import annotations

import struct

from bpf2py.elf.object_file import ElfFile

# Sections no loader reads: DWARF (types and lines are in .BTF and .BTF.ext), the compiler's name, hints for linkers.
_DROPPED = (".debug_", ".rel.debug_", ".comment", ".llvm_addrsig")
_HEADER_SIZE, _SECTION_SIZE = 64, 64
SHT_NOBITS = 8


def strip(data: bytes) -> bytes:
    """The object with debug sections emptied; their headers stay, so that no index of a section or symbol changes.

    Raises ObjectError when `data` is not a BPF object.
    """
    elf = ElfFile(data)
    (table,) = struct.unpack_from("<Q", data, 0x28)
    out = bytearray(data[:_HEADER_SIZE])
    headers = bytearray(data[table : table + len(elf.sections) * _SECTION_SIZE])
    for section in elf.sections:
        at = section.number * _SECTION_SIZE
        if section.name.startswith(_DROPPED):
            struct.pack_into("<QQ", headers, at + 24, len(out), 0)
        elif section.data and section.type != SHT_NOBITS:
            # Of the alignment in memory, which a damaged object may claim to be gigabytes, the file needs no more than this.
            out += bytes(-len(out) % min(max(section.align, 1), 64))
            struct.pack_into("<Q", headers, at + 24, len(out))
            out += section.data
    out += bytes(-len(out) % 8)
    struct.pack_into("<Q", out, 0x28, len(out))
    return bytes(out + headers)
