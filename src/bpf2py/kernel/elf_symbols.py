"""Functions of executables and libraries: name -> offset in the file, for user-space probes."""

from __future__ import annotations

import mmap
import os
import shutil
import struct
from typing import NamedTuple

from bpf2py.errors import AttachError

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
SHT_SYMTAB, SHT_DYNSYM, SHT_NOBITS = 2, 11, 8
STT_FUNC, STT_GNU_IFUNC = 2, 10
_LIBRARIES = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")


class _Section(NamedTuple):
    type: int
    address: int
    offset: int
    size: int
    link: int


def find_binary(what: str, name: str) -> str:
    """The path of an executable or library: as given, in PATH, or (``libc``, ``libc.so.6``) where libraries are.

    Raises AttachError when it is not found.
    """
    if "/" in name:
        if os.path.exists(name):
            return name
        raise AttachError(f"{what}: there is no file {name}", errno=2, command="open")
    if ".so" in name or name.startswith("lib"):
        multiarch = f"{os.uname().machine}-linux-gnu"
        for directory in (f"/lib/{multiarch}", f"/usr/lib/{multiarch}", *_LIBRARIES):
            for file in (name, f"{name}.so", f"{name}.so.6"):
                path = os.path.join(directory, file)
                if os.path.exists(path):
                    return path
    found = shutil.which(name)
    if found is None:
        raise AttachError(
            f"{what}: there is no executable or library {name!r} in PATH or the library directories", errno=2
        )
    return found


def symbol_offset(what: str, path: str, name: str) -> int:
    """Byte offset in the file of a function's first instruction. A version may follow: ``malloc@GLIBC_2.2.5``.

    Raises AttachError when the file is no 64-bit ELF file or has no such function.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            found = _find(data, name.split("@", 1)[0])
    except (OSError, ValueError) as error:
        raise AttachError(
            f"{what}: {path} cannot be read: {error}", errno=getattr(error, "errno", None), command="open"
        ) from None
    except struct.error:
        raise AttachError(f"{what}: {path} is a damaged ELF file") from None
    if found is None:
        raise AttachError(
            f"{what}: {path} has no function {name!r} in its symbol tables; give offset= for a stripped file"
        )
    return found


def _find(data: mmap.mmap, name: str) -> int | None:
    if data[:5] != b"\x7fELF\x02" or data[5] != 1:
        raise ValueError("not a 64-bit little-endian ELF file")
    header = _EHDR.unpack_from(data)
    offset, size, count = header[6], header[11], header[12]
    if size != _SHDR.size:
        return None
    sections = []
    for i in range(count):
        row = _SHDR.unpack_from(data, offset + i * size)
        sections.append(_Section(row[1], row[3], row[4], row[5], row[6]))
    needle = name.encode() + b"\0"  # linkers let a name be the end of a longer one
    for table in sections:
        if table.type not in (SHT_SYMTAB, SHT_DYNSYM) or table.link >= len(sections):
            continue
        strings = sections[table.link]
        names, at = set(), data.find(needle, strings.offset, strings.offset + strings.size)
        while at >= 0:
            names.add(at - strings.offset)
            at = data.find(needle, at + 1, strings.offset + strings.size)
        if not names:
            continue
        rows = data[table.offset : table.offset + table.size // _SYM.size * _SYM.size]
        for string, info, _other, section, value, _size in _SYM.iter_unpack(rows):
            if string in names and info & 0xF in (STT_FUNC, STT_GNU_IFUNC) and 0 < section < len(sections):
                home = sections[section]
                return int(value - home.address + home.offset)
    return None
