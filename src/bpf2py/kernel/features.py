"""What the running kernel can do, found out by trying; the library asks only after something failed."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Callable
from functools import wraps

from bpf2py._typing import Any, ParamSpec
from bpf2py.btf.types import Kind
from bpf2py.btf.vmlinux import vmlinux
from bpf2py.errors import ENOTSUPP, BpfError
from bpf2py.kernel.syscall import address_of_bytes, bpf, kernel_version, older_than
from bpf2py.spec.map_spec import MapSpec
from bpf2py.spec.program_spec import BPF_F_SLEEPABLE
from bpf2py.uapi.commands import Command
from bpf2py.uapi.errno import EACCES, EINTR, EINVAL, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM
from bpf2py.uapi.map_types import MAP_TYPE_INFO, MapFlags, MapType
from bpf2py.uapi.program_types import AttachType, ProgramType

P = ParamSpec("P")


# BTF with one type, int.
_INT = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 16, 16, 5) + struct.pack("<IIII", 1, 1 << 24, 4, 32) + b"\0int\0"


def map_type(kind: MapType | str) -> bool | None:
    """Whether the kernel knows a map type: True, False, or None when that cannot be told (no rights).

    Args:
        kind: the type, or its name in any case: ``features.map_type("arena")``.
    """
    return _map_type(MapType[kind.upper()] if isinstance(kind, str) else kind)


def _told(result: int) -> bool:
    """Whether a refusal says something of the kernel, and not of the rights, the limits or the memory of this process."""
    return result >= 0 or -result not in (EPERM, EACCES, EMFILE, ENFILE, ENOSYS, ENOMEM, EINTR)


def _remembered(function: Callable[P, bool | None]) -> Callable[P, bool | None]:
    """Keep what is known; what could not be told is asked again."""
    known: dict[Any, bool] = {}

    @wraps(function)
    def ask(*args: P.args, **kwargs: P.kwargs) -> bool | None:
        if args in known:
            return known[args]
        found = function(*args, **kwargs)
        if found is not None:
            known[args] = found
        return found

    return ask


@_remembered
def _map_type(kind: MapType) -> bool | None:
    info = MAP_TYPE_INFO.get(kind)
    if info is None:
        return None
    key_size = 4 if info.key_size is None else info.key_size
    value_size = 4 if info.value_size is None else info.value_size
    max_entries = 1 if info.max_entries else 0
    flags, inner, btf, struct_ops = 0, -1, -1, 0
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
    elif kind == MapType.STRUCT_OPS:
        struct_ops = 1  # no interface of the kernel's, which it says in words of its own
    elif kind.name.endswith("_STORAGE"):
        btf = bpf(Command.BTF_LOAD, struct.pack("<QQI", address_of_bytes(_INT), 0, len(_INT)))
        if btf < 0:
            return None
    attr = bytearray(64)
    struct.pack_into("<6I", attr, 0, kind, key_size, value_size, max_entries, flags, max(inner, 0))
    struct.pack_into("<4I", attr, 48, max(btf, 0), int(btf >= 0), int(btf >= 0), struct_ops)
    result = bpf(Command.MAP_CREATE, attr)
    for fd in (inner, btf, result):
        if fd >= 0:
            os.close(fd)
    if not _told(result):
        return None
    return result >= 0 or (bool(struct_ops) and result == -ENOTSUPP)


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


@_remembered
def _program_type(kind: ProgramType) -> bool | None:
    result, log = _load(kind, _RETURN_0)
    if result >= 0:
        return True
    if -result in (EPERM, EACCES):
        return None if kind not in _NEEDS_BTF_ID or not _program_type(ProgramType.TRACEPOINT) else True
    if not _told(result):
        return None
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


def kfunc(name: str) -> bool | None:
    """Whether the kernel or a loaded module has a function that programs may call (Linux 5.13).

    True, False, or None when that cannot be told: there is no BTF, or it does not say which functions are for programs.

    Args:
        name: such as ``"bpf_task_from_pid"``.
    """
    from bpf2py.kernel.btf import modules

    try:
        known = [vmlinux(), *modules()]
    except BpfError:
        return None
    marked = False  # before 6.10, and with old build tools, they are not: every function may then be one
    for btf in known:
        ids = [i for i in btf.ids_by_name(name) if btf.kind(i) == Kind.FUNC]
        tags = {btf.type(i).type_id for i in btf.ids_by_name("bpf_kfunc") if btf.kind(i) == Kind.DECL_TAG}  # type: ignore[union-attr]
        marked = marked or bool(tags)
        if any(i in tags for i in ids):
            return True
        if ids and not marked:
            return None
    return False


def _typed_tracepoint() -> int:
    """The BTF id of a tracepoint programs of type TRACING can be loaded for, 0 when there is none."""
    try:
        return vmlinux().find("btf_trace_sched_switch", Kind.TYPEDEF)
    except BpfError:
        return 0


@_remembered
def _helper(number: int, kind: ProgramType) -> bool | None:
    if kind in _NEEDS_BTF_ID and kind != ProgramType.TRACING:
        return None  # the kernel refuses the made-up target before it looks at the code
    code = struct.pack("<BBhi", 0x85, 0, 0, number) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    target = _typed_tracepoint() if kind == ProgramType.TRACING else 0
    if kind == ProgramType.TRACING and not target:
        return None
    result, log = _load(kind, code, target)
    if result >= 0:
        return True
    if not _told(result) and not log:
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


def _load(kind: ProgramType, code: bytes, tracepoint: int = 0) -> tuple[int, str]:
    log = ctypes.create_string_buffer(_LOG_SIZE)
    license_text = b"GPL\0"
    attr = bytearray(152)
    struct.pack_into(
        "<IIQQII", attr, 0, kind, len(code) // 8, address_of_bytes(code), address_of_bytes(license_text), 1, _LOG_SIZE
    )
    struct.pack_into("<Q", attr, 32, ctypes.addressof(log))
    struct.pack_into("<I", attr, 44, BPF_F_SLEEPABLE if kind == ProgramType.SYSCALL else 0)
    struct.pack_into("<I", attr, 68, AttachType.TRACE_RAW_TP if tracepoint else _EXPECTED.get(kind, 0))
    if kind in _NEEDS_BTF_ID:
        struct.pack_into("<I", attr, 108, tracepoint or 1)
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
    return False if _told(result) else None


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
        return info.since, f"map type {kind.name} needs Linux {info.since}, this is {os.uname().release}"
    return None
