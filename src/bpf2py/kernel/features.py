"""What the running kernel can do, found out by trying; the library asks only after something failed."""

from __future__ import annotations

import mmap
import os
import platform
import struct
from functools import cache

from bpf2py.kernel.syscall import EACCES, EPERM, bpf, older_than
from bpf2py.spec.map_spec import MapSpec
from bpf2py.uapi.commands import Command
from bpf2py.uapi.map_types import MAP_TYPE_INFO, MapFlags, MapType


@cache
def map_type(kind: MapType) -> bool | None:
    """Whether the kernel knows a map type; None when that cannot be told (no rights, or the type needs more than sizes)."""
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
