"""Looking at programs, links and maps of the whole machine: by id, and what the kernel made of the code."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, NamedTuple
from bpf2py.kernel.objects import ids, map_info, object_info, open_id
from bpf2py.kernel.program_fd import PROG_INFO_SIZE, ProgramFd
from bpf2py.kernel.syscall import Fd, bpf_open, check, check_open
from bpf2py.seam.info import MapInfo, ProgramInfo
from bpf2py.uapi.commands import Command
from bpf2py.uapi.errno import E2BIG, EAGAIN, ENOENT

if TYPE_CHECKING:
    from bpf2py.btf.reader import Btf
    from bpf2py.kernel import btf as kernel_btf
    from bpf2py.kernel import link_info as link_infos
    from bpf2py.linker import link as linked
    from bpf2py.spec import btf_ext
else:
    btf_ext = module("bpf2py.spec.btf_ext")
    link_infos = module("bpf2py.kernel.link_info")
    kernel_btf = module("bpf2py.kernel.btf")
    linked = module("bpf2py.linker.link")

BPF_STATS_RUN_TIME = 0
_LINE = struct.Struct("<IIII")  # struct bpf_line_info


def _opened(list_command: Command, open_command: Command) -> Iterator[Fd]:
    """A descriptor of each object of a kind; those that go away meanwhile are skipped."""
    for ident in ids(list_command):
        fd = open_id(open_command, ident)
        if fd in (-ENOENT, -EAGAIN):
            continue  # gone, or a link that is not complete yet (bpf_link_by_id in kernel/bpf/syscall.c)
        owner = check_open(fd, open_command, f"id {ident}")
        try:
            yield owner
        finally:
            owner.close()


def programs() -> Iterator[ProgramInfo]:
    """Every program of the machine (Linux 4.13, CAP_SYS_ADMIN)."""
    for fd in _opened(Command.PROG_GET_NEXT_ID, Command.PROG_GET_FD_BY_ID):
        yield ProgramFd(Fd(-1), "").info_of(fd.number)


def maps() -> Iterator[MapInfo]:
    """Every map of the machine (Linux 4.13, CAP_SYS_ADMIN)."""
    for fd in _opened(Command.MAP_GET_NEXT_ID, Command.MAP_GET_FD_BY_ID):
        yield map_info(fd.number)


def map_memory(ident: int) -> int | None:
    """Bytes the kernel accounts to a map (``memlock`` of /proc/PID/fdinfo), None when the map is gone."""
    owner = open_id(Command.MAP_GET_FD_BY_ID, ident)
    if not isinstance(owner, Fd):
        return None
    try:
        with open(f"/proc/self/fdinfo/{owner.number}") as file:
            rows = dict(line.split(":", 1) for line in file if ":" in line)
        return int(rows.get("memlock", "0"))
    finally:
        owner.close()


def links() -> Iterator[link_infos.LinkInfo]:
    """Every link of the machine (Linux 5.8, CAP_SYS_ADMIN)."""
    for fd in _opened(Command.LINK_GET_NEXT_ID, Command.LINK_GET_FD_BY_ID):
        yield link_infos.link_info(fd.number)


class BtfInfo(NamedTuple):
    """Facts of a BTF object: struct bpf_btf_info; `name` is that of the kernel or module it is of, else empty."""

    id: int
    size: int
    name: str
    kernel: bool


def btfs() -> Iterator[BtfInfo]:
    """Every BTF object of the machine (Linux 5.4, CAP_SYS_ADMIN)."""
    for fd in _opened(Command.BTF_GET_NEXT_ID, Command.BTF_GET_FD_BY_ID):
        text = ctypes.create_string_buffer(64)
        # struct bpf_btf_info: u64 btf, u32 btf_size, u32 id, u64 name, u32 name_len, u32 kernel_btf
        initial = struct.pack("<QIIQII", 0, 0, 0, ctypes.addressof(text), 64, 0)
        result, buffer = object_info(fd.number, 32, initial)
        if result == -E2BIG:  # before Linux 5.11 only programs and maps had BTF, which had no name
            result, buffer = object_info(fd.number, 16)
            buffer = ctypes.create_string_buffer(buffer.raw, 32)
        check(result, Command.OBJ_GET_INFO_BY_FD, "BTF: info")
        _, size, ident, _, _, kernel = struct.unpack("<QIIQII", buffer.raw)
        yield BtfInfo(ident, size, text.value.decode("utf-8", "replace"), bool(kernel))


def code(fd: int, jited: bool = False) -> bytes:
    """The program as the kernel runs it: after the verifier (8 bytes an instruction), or machine code with `jited`.

    Empty where the kernel does not show it: without CAP_SYS_ADMIN, or with kernel.kptr_restrict for machine code.
    """
    result, buffer = object_info(fd, 64)
    check(result, Command.OBJ_GET_INFO_BY_FD, "program: info")
    size = int.from_bytes(buffer.raw[16:20] if jited else buffer.raw[20:24], "little")
    if not size:
        return b""
    data = ctypes.create_string_buffer(size)
    initial = bytearray(48)
    if jited:
        struct.pack_into("<I", initial, 16, size)
        struct.pack_into("<Q", initial, 24, ctypes.addressof(data))
    else:
        struct.pack_into("<I", initial, 20, size)
        struct.pack_into("<Q", initial, 32, ctypes.addressof(data))
    result, buffer = object_info(fd, 64, bytes(initial))
    check(result, Command.OBJ_GET_INFO_BY_FD, "program: info")
    shown = int.from_bytes(buffer.raw[24:32] if jited else buffer.raw[32:40], "little")
    if not shown:
        return b""
    return data.raw if jited else _with_distances(data.raw)


def _debug_records(fd: int, size: int, pointer: int, count: int, sizes: int) -> tuple[Btf, bytes] | None:
    """(types, records of `size` bytes) of a program; the others are where their pointer, count and size are in its facts."""
    result, buffer = object_info(fd, PROG_INFO_SIZE)
    check(result, Command.OBJ_GET_INFO_BY_FD, "program: info")
    (btf_id,) = struct.unpack_from("<I", buffer.raw, 128)
    (number,) = struct.unpack_from("<I", buffer.raw, count)
    btf = kernel_btf.btf_by_id(btf_id) if btf_id and number else None
    if btf is None:
        return None
    records = ctypes.create_string_buffer(size * number)
    initial = bytearray(PROG_INFO_SIZE)
    struct.pack_into("<I", initial, count, number)
    struct.pack_into("<Q", initial, pointer, ctypes.addressof(records))
    struct.pack_into("<I", initial, sizes, size)
    result, _ = object_info(fd, PROG_INFO_SIZE, bytes(initial))
    check(result, Command.OBJ_GET_INFO_BY_FD, "program: info")
    return btf, records.raw


def entry_function(fd: int) -> str:
    """The name in BTF of a program's first function, which the program's own name has 15 letters of; "" without BTF (Linux 5.0)."""
    found = _debug_records(fd, 8, pointer=136, count=144, sizes=132)
    if found is None:
        return ""
    btf, records = found
    _, number = struct.unpack_from("<II", records)
    return btf.type(number).name if number else ""


def source_lines(fd: int) -> list[tuple[int, str]]:
    """(instruction, ``file:line: text``) of a program as the kernel runs it; empty without BTF or CAP_SYS_ADMIN (Linux 5.0)."""
    found = _debug_records(fd, _LINE.size, pointer=152, count=148, sizes=172)
    if found is None:
        return []
    btf, records = found
    return [
        (slot, linked.source_text(btf_ext.LineInfo(slot * 8, file, text, place), btf))
        for slot, file, text, place in _LINE.iter_unpack(records)
    ]


def _with_distances(code: bytes) -> bytes:
    """Calls between functions as object files have them: compiled programs show the distance in the 16 bits of the offset."""
    patched = bytearray(code)
    for at in range(0, len(code), 8):
        if code[at] == 0x85 and code[at + 1] == 0x10:
            (distance,) = struct.unpack_from("<h", code, at + 2)
            if distance:
                struct.pack_into("<hi", patched, at + 2, 0, distance)
    return bytes(patched)


def helper_names(code: bytes) -> dict[int, str]:
    """Names of the helpers a program as the kernel runs it calls, by instruction: calls hold distances from __bpf_call_base."""
    from bpf2py.kernel.ksyms import ksym, ksym_address

    base = ksym_address("__bpf_call_base")
    names: dict[int, str] = {}
    if base is None:
        return names
    for at in range(0, len(code), 8):
        if code[at] == 0x85 and code[at + 1] >> 4 == 0:
            symbol = ksym(base + int.from_bytes(code[at + 4 : at + 8], "little", signed=True))
            if symbol is not None and symbol.offset == 0:
                names[at // 8] = symbol.name
    return names


def enable_stats() -> Fd:
    """Count runs and run time of all programs until the descriptor is closed (BPF_ENABLE_STATS, Linux 5.8)."""
    result = bpf_open(Command.ENABLE_STATS, struct.pack("<I", BPF_STATS_RUN_TIME))
    return check_open(result, Command.ENABLE_STATS, "enable_stats")
