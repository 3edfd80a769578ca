"""What the running kernel can do, found out by trying; the library asks only after something failed."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
from functools import cache

from bpf2py.kernel.syscall import EACCES, EINVAL, EPERM, address_of_bytes, bpf, kernel_version, older_than
from bpf2py.spec.map_spec import MapSpec
from bpf2py.spec.program_spec import BPF_F_SLEEPABLE
from bpf2py.uapi.commands import Command
from bpf2py.uapi.map_types import MAP_TYPE_INFO, MapFlags, MapType
from bpf2py.uapi.program_types import AttachType, ProgramType


def map_type(kind: MapType | str) -> bool | None:
    """Whether the kernel knows a map type: True, False, or None when that cannot be told (no rights, or the type needs BTF).

    Args:
        kind: the type, or its name in any case: ``features.map_type("arena")``.
    """
    return _map_type(MapType[kind.upper()] if isinstance(kind, str) else kind)


@cache
def _map_type(kind: MapType) -> bool | None:
    info = MAP_TYPE_INFO.get(kind)
    if info is None:
        return None
    key_size = 4 if info.key_size is None else info.key_size
    value_size = 4 if info.value_size is None else info.value_size
    max_entries = 1 if info.max_entries else 0
    flags, inner = 0, -1
    if info.no_prealloc == "required":
        flags |= MapFlags.NO_PREALLOC
    if kind in (MapType.RINGBUF, MapType.USER_RINGBUF):
        max_entries = mmap.PAGESIZE
    elif kind == MapType.ARENA:
        flags |= MapFlags.MMAPABLE
    elif kind in (MapType.LPM_TRIE, MapType.STACK_TRACE):
        key_size, value_size = (8, 4) if kind == MapType.LPM_TRIE else (4, 8)
    elif kind in (MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE):
        key_size = 16
    elif kind in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS):
        inner = bpf(Command.MAP_CREATE, struct.pack("<5I", MapType.ARRAY, 4, 4, 1, 0))
        if inner < 0:
            return None
    elif kind.name.endswith("_STORAGE") or kind == MapType.STRUCT_OPS:
        return None  # needs BTF of the value
    attr = struct.pack("<6I", kind, key_size, value_size, max_entries, flags, max(inner, 0))
    result = bpf(Command.MAP_CREATE, attr)
    if inner >= 0:
        os.close(inner)
    if result >= 0:
        os.close(result)
        return True
    return None if -result in (EPERM, EACCES) else False


# What the kernel wants at load besides the type: an attach type, or a BTF id that then turns out wrong.
_EXPECTED = {
    ProgramType.CGROUP_SOCK_ADDR: AttachType.CGROUP_INET4_CONNECT,
    ProgramType.CGROUP_SOCKOPT: AttachType.CGROUP_GETSOCKOPT,
    ProgramType.SK_LOOKUP: AttachType.SK_LOOKUP,
    ProgramType.NETFILTER: AttachType.NETFILTER,
    ProgramType.TRACING: AttachType.TRACE_FENTRY,
    ProgramType.LSM: AttachType.LSM_MAC,
}
_NEEDS_BTF_ID = (ProgramType.TRACING, ProgramType.LSM, ProgramType.EXT, ProgramType.STRUCT_OPS)
_RETURN_0 = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
_LOG_SIZE = 1 << 14


def program_type(kind: ProgramType | str) -> bool | None:
    """Whether the kernel knows a program type: True, False, or None when that cannot be told (no rights)."""
    return _program_type(ProgramType[kind.upper()] if isinstance(kind, str) else kind)


@cache
def _program_type(kind: ProgramType) -> bool | None:
    result, log = _load(kind, _RETURN_0)
    if result >= 0:
        return True
    if -result in (EPERM, EACCES):
        return None if kind not in _NEEDS_BTF_ID or not _program_type(ProgramType.TRACEPOINT) else True
    # A type that is known gets as far as its own checks, which write to the log (or have an errno of their own).
    return bool(log) or -result not in (EINVAL,)


def helper(name: str, kind: ProgramType | str) -> bool | None:
    """Whether programs of a type may call a helper: True, False, or None when that cannot be told.

    Args:
        name: such as ``"bpf_ringbuf_output"``.
        kind: the program type.

    Raises KeyError for a helper this library does not know.
    """
    from bpf2py.isa.helpers import HELPERS_BY_NAME

    number = HELPERS_BY_NAME[name.removeprefix("bpf_")].id
    return _helper(number, ProgramType[kind.upper()] if isinstance(kind, str) else kind)


@cache
def _helper(number: int, kind: ProgramType) -> bool | None:
    if kind in _NEEDS_BTF_ID:
        return None  # the kernel refuses the made-up target before it looks at the code
    code = struct.pack("<BBhi", 0x85, 0, 0, number) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    result, log = _load(kind, code)
    if result >= 0:
        return True
    if -result in (EPERM, EACCES) and not log:
        return None
    if not log:
        return None if not _program_type(kind) else False
    refused = (
        "invalid func ",
        "unknown func ",
        "program of this type cannot use helper ",
        "helper call is not allowed",
    )
    return not any(text in log for text in refused)


def _load(kind: ProgramType, code: bytes) -> tuple[int, str]:
    log = ctypes.create_string_buffer(_LOG_SIZE)
    license_text = b"GPL\0"
    attr = bytearray(152)
    struct.pack_into(
        "<IIQQII", attr, 0, kind, len(code) // 8, address_of_bytes(code), address_of_bytes(license_text), 1, _LOG_SIZE
    )
    struct.pack_into("<Q", attr, 32, ctypes.addressof(log))
    struct.pack_into("<I", attr, 44, BPF_F_SLEEPABLE if kind == ProgramType.SYSCALL else 0)
    struct.pack_into("<I", attr, 68, _EXPECTED.get(kind, 0))
    if kind in _NEEDS_BTF_ID:
        struct.pack_into("<I", attr, 108, 1)
    version = kernel_version()
    struct.pack_into("<I", attr, 40, (version[0] << 16) + (version[1] << 8) + min(version[2], 255))
    result = bpf(Command.PROG_LOAD, attr)
    if result >= 0:
        os.close(result)
    return result, log.value.decode("utf-8", "replace")


def map_flag(flag: MapFlags | str, kind: MapType | str = MapType.ARRAY) -> bool | None:
    """Whether the kernel takes a creation flag for a map type: True, False, or None when that cannot be told."""
    wanted = MapFlags[flag.upper()] if isinstance(flag, str) else flag
    of = MapType[kind.upper()] if isinstance(kind, str) else kind
    info = MAP_TYPE_INFO[of]
    attr = struct.pack("<5I", of, info.key_size or 4, info.value_size or 8, 1, wanted)
    result = bpf(Command.MAP_CREATE, attr)
    if result >= 0:
        os.close(result)
        return True
    return None if -result in (EPERM, EACCES) else False


def explain_map_type(spec: MapSpec) -> tuple[str, str] | None:
    """(version, text) when the kernel lacks the map type of a refused spec, else None."""
    kind = spec.type
    if not isinstance(kind, MapType):
        return None
    info = MAP_TYPE_INFO.get(kind)
    if info is None:
        return None
    known = map_type(kind)
    if known is False or (known is None and older_than(info.since)):
        return info.since, f"map type {kind.name} needs Linux {info.since}, this is {platform.release()}"
    return None
