"""Functions of executables and libraries: name -> offset in the file, for user-space probes.

A name may stand for several functions: versions of a library's (``memcpy@GLIBC_2.2.5``, ``memcpy@@GLIBC_2.14``), static ones of
several source files, and an indirect function (IFUNC), whose symbol is the address of what chooses the implementation.
"""

from __future__ import annotations

import fnmatch
import mmap
import os
import re
import shutil
import struct
from collections.abc import Callable, Iterator

from bpf2py._typing import NamedTuple
from bpf2py.elf.layout import (
    SHT_DYNSYM,
    SHT_GNU_VERDEF,
    SHT_GNU_VERSYM,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_LOCAL,
    STT_FUNC,
    STT_GNU_IFUNC,
)
from bpf2py.elf.linked_file import LinkedFile, Section
from bpf2py.errors import AttachError

_VERDEF, _VERDAUX = struct.Struct("<HHHHIII"), struct.Struct("<II")
VERSYM_HIDDEN = 0x8000  # not the version that a name without one means
_LIBRARIES = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")


class _Function(NamedTuple):
    """A function's symbol; `offset` in the file."""

    name: str
    version: str
    hidden: bool
    offset: int
    binding: int
    indirect: bool

    @property
    def shown(self) -> str:
        version = f"{'@' if self.hidden else '@@'}{self.version}" if self.version else ""
        return f"{self.name}{version} at {self.offset:#x}{' (static)' if self.binding == STB_LOCAL else ''}"


def find_binary(what: str, name: str) -> str:
    """The path of an executable or library: as given, in PATH, or (``libc``, ``libc.so.6``) where libraries are.

    Raises AttachError when it is not found, or is a script in PATH: another program of that name would not be the one that runs.
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
                if _starts_with(path, b"\x7fELF"):  # libc.so is a text for linkers where it is at all
                    return path
    found = shutil.which(name)
    if found is None:
        raise AttachError(
            f"{what}: there is no executable or library {name!r} in PATH or the library directories", errno=2
        )
    if _starts_with(found, b"#!"):
        raise AttachError(f"{what}: {name!r} in PATH is a script, {found}: give the path of the program that it starts")
    return found


def _starts_with(path: str, magic: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False


def symbol_offset(what: str, path: str, name: str) -> int:
    """Byte offset in the file of a function's first instruction.

    A version may follow: ``malloc@GLIBC_2.2.5``; without one the default version is meant. A global function goes before static
    ones of the same name.

    Raises AttachError when the file is no 64-bit ELF file, has no such function, or several among which the name does not choose.
    """
    base, _, version = name.partition("@")
    default_only, version = version.startswith("@"), version.removeprefix("@")
    found = _functions(what, path, base)
    if not found:
        raise AttachError(
            f"{what}: {path} has no function {name!r} in its symbol tables; give offset= for a stripped file"
        )
    if version:
        fit = [f for f in found if f.version == version and not (default_only and f.hidden)]
        if not fit:
            raise AttachError(f"{what}: {path} has no function {name!r}, but {_list(found)}")
    else:
        fit = [f for f in found if not f.hidden] or found
    # What linkers do with several definitions: a global one goes before weak ones, these before those of one file.
    rank = max(_rank(f) for f in fit)
    fit = [f for f in fit if _rank(f) == rank]
    if len({f.offset for f in fit}) > 1:
        raise AttachError(
            f"{what}: {path} has several functions {name!r}: {_list(fit)}; say which by its version or offset="
        )
    if fit[0].indirect:
        return _resolved(what, path, base, version if fit[0].hidden else "")
    return fit[0].offset


def matching_functions(what: str, path: str, pattern: str) -> dict[int, str]:
    """Names by offset of the functions whose names match a pattern with ``*`` and ``?``; indirect ones are left out.

    Raises AttachError when the file is not a 64-bit ELF file, or none matches.
    """
    # Brackets are not part of such patterns, but may be of a name.
    accepts = re.compile(fnmatch.translate(pattern.replace("[", "[[]"))).match
    found: dict[int, str] = {}
    for function in sorted(_functions(what, path, None), key=lambda f: (-_rank(f), f.name.startswith("_"), f.name)):
        if not function.indirect and accepts(function.name):
            found.setdefault(function.offset, function.name)
    if not found:
        raise AttachError(f"{what}: no function of {path} matches {pattern!r}")
    return dict(sorted(found.items()))


def matching_offsets(what: str, path: str, pattern: str) -> list[int]:
    """Offsets of the functions whose names match; see `matching_functions`."""
    return list(matching_functions(what, path, pattern))


def _rank(function: _Function) -> int:
    return 0 if function.binding == STB_LOCAL else 2 if function.binding == STB_GLOBAL else 1


def _list(functions: list[_Function]) -> str:
    return ", ".join(sorted({f.shown for f in functions}))


def _functions(what: str, path: str, name: str | None) -> list[_Function]:
    """All functions of a file, or those of one name."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            return list(_read(data, name))
    except (OSError, ValueError) as error:
        raise AttachError(
            f"{what}: {path} cannot be read: {error}", errno=getattr(error, "errno", None), command="open"
        ) from None
    except (struct.error, OverflowError, IndexError):
        raise AttachError(f"{what}: {path} is a damaged ELF file") from None


def _read(data: mmap.mmap, name: str | None) -> Iterator[_Function]:
    file = LinkedFile(data)
    if file.cut_short:
        raise ValueError("its sections lie outside of it; is it truncated?")
    for number, table, strings in file.symbol_tables(SHT_SYMTAB, SHT_DYNSYM):
        places = None if name is None else _string_offsets(data, strings, os.fsencode(name))
        if places is not None and not places:
            continue
        version_of = _versions(data, file.sections, number)
        for index, (string, info, _other, section, value, _size) in enumerate(file.symbols(table)):
            if info & 0xF not in (STT_FUNC, STT_GNU_IFUNC) or not 0 < section < len(file.sections):
                continue
            if places is not None and string not in places:
                continue
            start = strings.offset + string
            text = os.fsdecode(data[start : data.find(b"\0", start)])
            # In .symtab the version is part of the name.
            base, at, version = text.partition("@")
            hidden = bool(at) and not version.startswith("@")
            if not at:
                version, hidden = version_of(index)
            home = file.sections[section]
            place = value - home.address + home.offset
            yield _Function(base, version.removeprefix("@"), hidden, place, info >> 4, info & 0xF == STT_GNU_IFUNC)


def _string_offsets(data: mmap.mmap, strings: Section, name: bytes) -> set[int]:
    """Where a name, or the same with a version, may begin: linkers let a name be the end of a longer one."""
    found = set()
    for needle in (name + b"\0", name + b"@"):
        at = data.find(needle, strings.offset, strings.offset + strings.size)
        while at >= 0:
            found.add(at - strings.offset)
            at = data.find(needle, at + 1, strings.offset + strings.size)
    return found


def _versions(data: mmap.mmap, sections: list[Section], table: int) -> Callable[[int], tuple[str, bool]]:
    """(version, whether it is hidden) of each symbol of a table."""
    numbers = next((s for s in sections if s.type == SHT_GNU_VERSYM and s.link == table), None)
    defined = next((s for s in sections if s.type == SHT_GNU_VERDEF and s.link < len(sections)), None)
    if numbers is None or defined is None:
        return lambda _index: ("", False)
    names: dict[int, str] = {}
    strings, at = sections[defined.link].offset, defined.offset
    while at + _VERDEF.size <= defined.offset + defined.size and len(names) < VERSYM_HIDDEN:
        _, _, number, _, _, first, following = _VERDEF.unpack_from(data, at)
        (string, _) = _VERDAUX.unpack_from(data, at + first)
        start = strings + string
        names[number] = os.fsdecode(data[start : data.find(b"\0", start)])
        if not following:
            break
        at += following
    start = numbers.offset

    def version(index: int) -> tuple[str, bool]:
        number = int.from_bytes(data[start + 2 * index : start + 2 * index + 2], "little")
        own = number & ~VERSYM_HIDDEN
        return (names.get(own, ""), bool(number & VERSYM_HIDDEN)) if own > 1 else ("", False)

    return version


def _resolved(what: str, path: str, name: str, version: str) -> int:
    """The implementation an indirect function has on this CPU, where this process has the library loaded already."""
    import ctypes

    reason = "the library is not loaded in this process, which could tell"
    try:
        library = ctypes.CDLL(os.path.realpath(path), mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        address = ctypes.cast(library[name], ctypes.c_void_p).value or 0
        if version:
            reason = "only its default version can be asked for"
        else:
            offset = _file_offset(os.stat(path), address)
            if offset is not None:
                return offset
            reason = "its implementation is not in this file"
    except (OSError, AttributeError):
        pass
    raise AttachError(
        f"{what}: {name} of {path} is an indirect function (IFUNC): the CPU decides which implementation runs, and {reason}; "
        "name the implementation, or give offset="
    )


def _file_offset(file: os.stat_result, address: int) -> int | None:
    """The offset in a file of an address of this process that is mapped from it."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, _, offset, device, inode = line.split()[:5]
            start, end = (int(part, 16) for part in span.split("-"))
            if start <= address < end:
                known = (int(inode), *(int(part, 16) for part in device.split(":")))
                same = known == (file.st_ino, os.major(file.st_dev), os.minor(file.st_dev))
                return address - start + int(offset, 16) if same else None
    return None
