"""USDT probes of an executable or library, from its ``.note.stapsdt`` section (SystemTap's note format, version 3)."""

from __future__ import annotations

import mmap
import struct

from bpf2py._typing import NamedTuple
from bpf2py.elf.layout import NHDR
from bpf2py.elf.linked_file import LinkedFile, Load
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
    file = LinkedFile(data)
    if file.cut_short:
        raise ValueError("its sections lie outside of it; is it truncated?")
    machine_name = MACHINES.get(file.machine, f"ELF machine {file.machine}")
    section, base_section = file.find(SECTION), file.find(BASE_SECTION)
    notes = file.bytes(section) if section is not None else b""
    base = base_section.address if base_section is not None else 0
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
                _file_offset(file.loads, address + moved, f"probe {provider}:{name}"),
                _file_offset(file.loads, semaphore + moved, f"semaphore of {provider}:{name}") if semaphore else 0,
                args.strip(),
            )
        )
    return Notes(probes, machine_name)


def _file_offset(loads: list[Load], address: int, what: str) -> int:
    for offset, start, size in loads:
        if start <= address < start + size:
            return address - start + offset
    raise ValueError(f"{what} at {address:#x} lies outside the loaded segments")
