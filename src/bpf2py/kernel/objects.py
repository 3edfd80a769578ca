"""What maps, programs, links and BTF objects of the kernel have in common: ids, pins, facts by descriptor."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.errors import BpfOSError, PermissionDenied
from bpf2py.kernel.syscall import Fd, address_of_bytes, bpf, bpf_inout, bpf_open, check, check_open
from bpf2py.seam.info import MapInfo
from bpf2py.uapi.commands import Command
from bpf2py.uapi.errno import EACCES, EINVAL, ENOENT

if TYPE_CHECKING:
    from bpf2py.uapi import pins
else:
    pins = module("bpf2py.uapi.pins")


def object_info(fd: int, size: int, initial: bytes = b"") -> tuple[int, Any]:
    """BPF_OBJ_GET_INFO_BY_FD: (result, buffer); `initial` presets pointers in the buffer."""
    info = ctypes.create_string_buffer(initial, size)
    return bpf(Command.OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", fd & 0xFFFFFFFF, size, ctypes.addressof(info))), info


_MAP_INFO = struct.Struct("<6I16sIIQQIIIIQ")
_LISTED = {
    Command.MAP_GET_NEXT_ID: "maps",
    Command.PROG_GET_NEXT_ID: "programs",
    Command.LINK_GET_NEXT_ID: "links",
    Command.BTF_GET_NEXT_ID: "BTF",
}


def ids(command: Command) -> Iterator[int]:
    """Every id of a kind of object, by BPF_*_GET_NEXT_ID."""
    current = 0
    while True:
        buffer = ctypes.create_string_buffer(struct.pack("<II", current, 0), 168)
        result = bpf_inout(command, buffer)
        if result == -ENOENT:
            return
        check(result, command, f"list {_LISTED.get(command, 'ids')}")
        current = int.from_bytes(buffer.raw[4:8], "little")
        yield current


def map_info(fd: int) -> MapInfo:
    """struct bpf_map_info of a map descriptor. Raises BpfOSError when it is not a map's."""
    result, buffer = object_info(fd, _MAP_INFO.size)
    check(result, Command.OBJ_GET_INFO_BY_FD, f"map fd {fd}: info")
    row = _MAP_INFO.unpack(buffer.raw)
    kind, ident, key_size, value_size, max_entries, flags, name = row[:7]
    text = name.split(b"\0", 1)[0].decode("ascii", "replace")
    return MapInfo(kind, ident, key_size, value_size, max_entries, flags, text, row[15], row[11], row[12], row[13])


def pin(fd: int, path: str) -> int:
    """BPF_OBJ_PIN."""
    name = os.fsencode(path) + b"\0"
    return bpf(Command.OBJ_PIN, struct.pack("<QII", address_of_bytes(name), fd & 0xFFFFFFFF, 0))


def open_pin(path: str, flags: int = 0) -> Fd | int:
    """BPF_OBJ_GET: a descriptor of a pinned object, or -errno."""
    name = os.fsencode(path) + b"\0"
    return bpf_open(Command.OBJ_GET, struct.pack("<QII", address_of_bytes(name), 0, flags))


def open_pinned(path: str, what: str, flags: int = 0) -> Fd:
    """A pinned object. Raises PermissionDenied or BpfOSError."""
    result = open_pin(pins.pin_path(path, what, "BPF_OBJ_GET"), flags)
    if result == -ENOENT:
        raise BpfOSError(f"{what}: nothing is pinned there", errno=ENOENT, command="BPF_OBJ_GET")
    refused = result == -EACCES
    readable, writable = (refused and os.access(path, mode, effective_ids=True) for mode in (os.R_OK, os.W_OK))
    if not flags and readable and not writable:
        raise PermissionDenied(
            f"{what}: the pin's mode lets this user read only: Map.from_pin(path, read_only=True)",
            errno=EACCES,
            command="BPF_OBJ_GET",
        )
    if readable and writable and not _on_bpffs(path):
        raise BpfOSError(
            f"{what}: this is not a pin, for it is not on a BPF file system", errno=EACCES, command="BPF_OBJ_GET"
        )
    return check_open(result, Command.OBJ_GET, what)


def _on_bpffs(path: str) -> bool:
    """Whether a path is on a BPF file system; true where that cannot be told."""
    try:
        device = os.stat(path).st_dev
        with open("/proc/self/mountinfo") as file:
            rows = [line.split() for line in file]
    except OSError:
        return True
    wanted = f"{os.major(device)}:{os.minor(device)}"
    return any(row[2] == wanted and row[row.index("-") + 1] == "bpf" for row in rows)


def open_id(command: Command, ident: int, flags: int = 0) -> Fd | int:
    """BPF_*_GET_FD_BY_ID: a descriptor, or -errno."""
    return bpf_open(command, struct.pack("<III", ident, 0, flags))


# By the names of their anonymous inodes; links have had both.
_KINDS = {"bpf-map": "map", "bpf-prog": "program", "bpf_link": "link", "bpf-link": "link", "btf": "BTF object"}


def must_be(kind: str, fd: Fd, what: str) -> Fd:
    """Raise BpfOSError when a descriptor is that of something else, whose facts would pass for those of a `kind`."""
    try:
        inode = os.readlink(f"/proc/self/fd/{fd.number}")
    except OSError:
        return fd  # no /proc here
    found = _KINDS.get(inode.removeprefix("anon_inode:"))
    if found != kind:
        fd.close()
        raise BpfOSError(
            f"{what}: this is not a BPF {kind} but {f'a {found}' if found else inode}",
            errno=EINVAL,
            command="BPF_OBJ_GET",
        )
    return fd
