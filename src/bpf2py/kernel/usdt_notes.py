"""USDT probes of an executable or library, from its ``.note.stapsdt`` section (SystemTap's note format, version 3)."""

from __future__ import annotations

import mmap
import struct

from bpf2py._typing import NamedTuple
from bpf2py.elf.layout import (
    EHDR,
    NHDR,
    PHDR,
    PT_LOAD,
    SHDR,
)
from bpf2py.errors import AttachError

SECTION, BASE_SECTION = ".note.stapsdt", ".stapsdt.base"
NOTE_TYPE, NOTE_OWNER = 3, b"stapsdt\0"
EM_X86_64, EM_AARCH64 = 62, 183
MACHINES = {EM_X86_64: "x86_64", EM_AARCH64: "aarch64"}


class Probe(NamedTuple):
    """One location of a probe.

    Attributes:
        provider, name: what it is called.
        offset: of its instruction in the file, in bytes.
        semaphore: offset in the file of the counter that tells the program somebody listens, 0 without one.
        args: the argument specs as they stand in the note, such as ``-4@%edi 8@16(%rsp)``.
    """

    provider: str
    name: str
    offset: int
    semaphore: int
    args: str


class Notes(NamedTuple):
    """All probes of a file, and the CPU it is for (as `platform.machine()` names it)."""

    probes: list[Probe]
    machine: str


def read_notes(what: str, path: str) -> Notes:
    """Read the probes of a file. Raises AttachError when it cannot be read or is no 64-bit ELF file."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            return _read(data)
    except (OSError, ValueError) as error:
        raise AttachError(
            f"{what}: {path} cannot be read: {error}", errno=getattr(error, "errno", None), command="open"
        ) from None
    except (struct.error, OverflowError):
        raise AttachError(f"{what}: {path} is a damaged ELF file") from None


def _read(data: mmap.mmap) -> Notes:
    if data[:5] != b"\x7fELF\x02" or data[5] != 1:
        raise ValueError("not a 64-bit little-endian ELF file")
    header = EHDR.unpack_from(data)
    machine, phoff, shoff = header[2], header[5], header[6]
    phentsize, phnum, shentsize, shnum, shstr = header[9:14]
    machine_name = MACHINES.get(machine, f"ELF machine {machine}")
    if shentsize != SHDR.size or shstr >= shnum:
        return Notes([], machine_name)
    loads = []
    if phentsize == PHDR.size:
        rows = (PHDR.unpack_from(data, phoff + i * phentsize) for i in range(phnum))
        loads = [
            (flags, offset, address, size) for kind, flags, offset, address, _, size, *_ in rows if kind == PT_LOAD
        ]
    sections = [SHDR.unpack_from(data, shoff + i * shentsize) for i in range(shnum)]
    names = data[sections[shstr][4] : sections[shstr][4] + sections[shstr][5]]
    notes, base = b"", 0
    for section in sections:
        section_name = names[section[0] : names.find(b"\0", section[0])]
        if section_name == SECTION.encode():
            notes = data[section[4] : section[4] + section[5]]
        elif section_name == BASE_SECTION.encode():
            base = section[3]
    probes = []
    at = 0
    while at < len(notes):  # every note has a header, so that this ends
        name_size, size, kind = NHDR.unpack_from(notes, at)
        owner_at = at + NHDR.size
        body_at = owner_at + (name_size + 3) // 4 * 4
        at = body_at + (size + 3) // 4 * 4
        if body_at + size > len(notes):
            raise ValueError(f"a note in {SECTION} is cut short")
        if kind != NOTE_TYPE or notes[owner_at : owner_at + name_size] != NOTE_OWNER:
            continue
        address, linked_base, semaphore = struct.unpack_from("<QQQ", notes, body_at)
        texts = notes[body_at + 24 : body_at + size].split(b"\0")
        if len(texts) < 3:
            raise ValueError(f"a note in {SECTION} is cut short")
        # Prelinking moves addresses, but not the ones in notes: the section's address tells by how much.
        moved = base - linked_base if base else 0
        provider, name, args = (text.decode("utf-8", "replace") for text in texts[:3])
        probes.append(
            Probe(
                provider,
                name,
                _file_offset(loads, address + moved, f"probe {provider}:{name}"),
                _file_offset(loads, semaphore + moved, f"semaphore of {provider}:{name}") if semaphore else 0,
                args.strip(),
            )
        )
    return Notes(probes, machine_name)


def _file_offset(loads: list[tuple[int, int, int, int]], address: int, what: str) -> int:
    for _flags, offset, start, size in loads:
        if start <= address < start + size:
            return address - start + offset
    raise ValueError(f"{what} at {address:#x} lies outside the loaded segments")
