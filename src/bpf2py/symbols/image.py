"""`Image`: the functions of an executable or a library by address, and where its bytes are mapped.

Function symbols come from ``.symtab``; where a file was stripped, from its debug file (by build id, or by its debug link), else
from ``.dynsym`` and the compressed ``.gnu_debugdata``. Layout: the System V ABI, "Object Files"; elf(5); GDB's manual, "Separate
Debug Files" and "MiniDebugInfo". Whatever a file claims is checked: a damaged one has fewer symbols.
"""

from __future__ import annotations

import lzma
import mmap
import os
import stat
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from bpf2py.elf.layout import SHT_DYNSYM, SHT_SYMTAB, STB_GLOBAL, STB_WEAK, STT_FUNC, STT_GNU_IFUNC
from bpf2py.elf.linked_file import Buffer, LinkedFile, Load

__all__ = [
    "Image",
    "address_of_section",
    "address_of_symbol",
    "bytes_of_symbol",
    "build_id_of",
    "open_file",
    "read_image",
]

MOST_DEBUGDATA = 256 << 20  # bytes of .gnu_debugdata unpacked
ENCLOSING = 32  # functions before an address that are asked whether they still cover it
DEBUG_DIRECTORY = "/usr/lib/debug"


def _functions(file: LinkedFile, *kinds: int) -> Iterator[tuple[int, int, int, str]]:
    """(address, size, rank, name) of the function symbols of tables of some kinds; lower ranks are better names."""
    for _number, table, strings in file.symbol_tables(*kinds):
        names = file.bytes(strings)
        for name, info, _other, section, value, size in file.symbols(table):
            if info & 15 not in (STT_FUNC, STT_GNU_IFUNC) or not section or not name < len(names):
                continue
            end = names.find(b"\0", name)
            text = names[name : end if end >= 0 else None].decode("utf-8", "replace").partition("@")[0]
            if text:
                yield value, size, {STB_GLOBAL: 0, STB_WEAK: 1}.get(info >> 4, 2), text


class Image:
    """The functions of a file.

    Attributes:
        loads: what of the file is mapped where.
        build_id: in hexadecimal, or empty.
        source: where the symbols come from: ``"symtab"``, ``"debug file"``, ``"gnu_debugdata"``, ``"dynsym"`` or ``""`` (there
            are none).
    """

    __slots__ = ("_ends", "_names", "_starts", "build_id", "loads", "source")

    def __init__(
        self, loads: list[Load], build_id: str, functions: Iterator[tuple[int, int, int, str]], source: str
    ) -> None:
        self.loads = loads
        self.build_id = build_id
        best: dict[int, tuple[int, int, str, int]] = {}
        for address, size, rank, name in functions:
            key = (rank, len(name) - len(name.lstrip("_")), name, size)
            known = best.get(address)
            if known is None or key < known:
                best[address] = (*key[:3], max(size, known[3] if known is not None else 0))
            elif size > known[3]:
                best[address] = (*known[:3], size)
        self._starts = sorted(best)
        following = [*self._starts, 1 << 64][1:]
        self._names = [best[start][2] for start in self._starts]
        # A function without a size ends where the next one begins.
        self._ends = [
            start + best[start][3] if best[start][3] else after
            for start, after in zip(self._starts, following, strict=True)
        ]
        self.source = source if self._starts else ""

    def __len__(self) -> int:
        return len(self._starts)

    def address_of(self, offset: int) -> int | None:
        """The address in the file's own address space of a byte of the file."""
        for load in self.loads:
            if load.offset <= offset < load.offset + load.size:
                return offset - load.offset + load.address
        return None

    def at(self, address: int) -> tuple[str, int] | None:
        """(name, bytes from its start) of the function an address of the file's own address space lies in."""
        index = bisect_right(self._starts, address) - 1
        for position in range(index, max(index - ENCLOSING, -1), -1):
            if address < self._ends[position]:
                return self._names[position], address - self._starts[position]
        return None


def build_id_of(data: Buffer) -> str:
    """The build id of an ELF file in hexadecimal, empty where it has none or is not one."""
    try:
        return LinkedFile(data).build_id()
    except (ValueError, struct.error):
        return ""


class DataSymbol(NamedTuple):
    """A variable: where it is in the file's own address space (0 is the beginning of the file's first segment), and its size."""

    address: int
    size: int


def address_of_symbol(data: Buffer, name: str) -> DataSymbol | None:
    """A variable or function of an ELF file by its name, relative to where its first segment begins."""
    try:
        file = LinkedFile(data)
        wanted = name.encode()
        for _number, table, strings in sorted(
            file.symbol_tables(SHT_DYNSYM, SHT_SYMTAB), key=lambda row: row[1].type != SHT_DYNSYM
        ):
            names = file.bytes(strings)
            at = names.find(b"\0" + wanted + b"\0") + 1
            if not at:
                continue
            for string, _info, _other, section, value, size in file.symbols(table):
                if string == at and section:
                    first = min((load.address - load.offset for load in file.loads if not load.offset), default=0)
                    return DataSymbol(value - first, size)
    except (ValueError, struct.error, IndexError, OverflowError):
        pass
    return None


def address_of_section(data: Buffer, name: str) -> int | None:
    """Where a section of an ELF file is, relative to where its first segment begins; None where it has none."""
    try:
        file = LinkedFile(data)
    except (ValueError, struct.error):
        return None
    found = file.find(name)
    if found is None or not found.address:
        return None
    return found.address - min((load.address - load.offset for load in file.loads if not load.offset), default=0)


def bytes_of_symbol(data: Buffer, name: str, size: int) -> bytes:
    """What a variable of an ELF file begins with before it is changed; nothing where it is not there, or begins as zeros."""
    found = address_of_symbol(data, name)
    if found is None:
        return b""
    loads = LinkedFile(data).loads
    first = min((load.address - load.offset for load in loads if not load.offset), default=0)
    for load in loads:
        into = found.address + first - load.address
        if 0 <= into < load.size:
            return bytes(data[load.offset + into : load.offset + min(into + size, load.size)])
    return b""


def open_file(path: str) -> mmap.mmap | None:
    """A file's bytes if it is a regular one that can be read, None else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return None
        return mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    except (OSError, ValueError):
        return None
    finally:
        os.close(fd)


def read_image(data: Buffer, directory: str = "", root: str = "") -> Image:
    """The functions of an ELF file.

    Args:
        data: its bytes.
        directory: where it lies, for debug files named by a debug link.
        root: a directory that stands for ``/``: of another mount namespace.

    Raises ValueError for what is not a 64-bit little-endian ELF file.
    """
    try:
        file = LinkedFile(data)
        build_id = file.build_id()
        if any(section.type == SHT_SYMTAB for section in file.sections):
            return Image(file.loads, build_id, _functions(file, SHT_SYMTAB, SHT_DYNSYM), "symtab")
        debug = _debug_file(file, build_id, directory, root)
        if debug is not None:
            with debug:
                return Image(file.loads, build_id, _functions(LinkedFile(debug), SHT_SYMTAB), "debug file")
        functions = list(_functions(file, SHT_DYNSYM))
        more = _mini_debug(file)
        return Image(file.loads, build_id, iter(functions + more), "gnu_debugdata" if more else "dynsym")
    except (struct.error, IndexError, OverflowError) as error:
        raise ValueError(f"a damaged ELF file: {error}") from None


def _debug_file(file: LinkedFile, build_id: str, directory: str, root: str) -> mmap.mmap | None:
    paths: list[tuple[str, int | None]] = []
    if len(build_id) > 2:
        paths.append((f"{root}{DEBUG_DIRECTORY}/.build-id/{build_id[:2]}/{build_id[2:]}.debug", None))
    link = file.find(".gnu_debuglink")
    if link is not None and directory:
        contents = file.bytes(link)
        name = contents.partition(b"\0")[0].decode("utf-8", "replace")
        at = len(name.encode()) + 4 & ~3
        if name and "/" not in name and name not in (".", "..") and len(contents) >= at + 4:
            crc = int.from_bytes(contents[at : at + 4], "little")
            places = (f"{root}{directory}", f"{root}{directory}/.debug", f"{root}{DEBUG_DIRECTORY}{directory}")
            paths += [(f"{place}/{name}", crc) for place in places]
    for path, wanted in paths:
        found = open_file(path)
        if found is None:
            continue
        try:
            same = LinkedFile(found).build_id() == build_id if wanted is None else zlib.crc32(found) == wanted
        except (ValueError, struct.error):
            same = False
        if same:
            return found
        found.close()
    return None


def _mini_debug(file: LinkedFile) -> list[tuple[int, int, int, str]]:
    """Functions of ``.gnu_debugdata``: an ELF file with a symbol table, compressed by xz."""
    section = file.find(".gnu_debugdata")
    if section is None:
        return []
    try:
        unpacker = lzma.LZMADecompressor(memlimit=MOST_DEBUGDATA)
        unpacked = unpacker.decompress(file.bytes(section), MOST_DEBUGDATA)
        return list(_functions(LinkedFile(unpacked), SHT_SYMTAB))
    except (lzma.LZMAError, ValueError, struct.error, EOFError):
        return []
