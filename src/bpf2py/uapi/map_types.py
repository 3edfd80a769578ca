"""Map types, map flags and update flags, with the kernel version that brought each (include/uapi/linux/bpf.h)."""

from __future__ import annotations

from bpf2py._typing import NamedTuple
from bpf2py.errors import EncodeError
from bpf2py.uapi.enums import KernelEnum, KernelFlag


class MapType(KernelEnum):
    """BPF_MAP_TYPE_* numbers."""

    UNSPEC = 0
    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERF_EVENT_ARRAY = 4
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    STACK_TRACE = 7
    CGROUP_ARRAY = 8
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    DEVMAP = 14
    SOCKMAP = 15
    CPUMAP = 16
    XSKMAP = 17
    SOCKHASH = 18
    CGROUP_STORAGE = 19
    REUSEPORT_SOCKARRAY = 20
    PERCPU_CGROUP_STORAGE = 21
    QUEUE = 22
    STACK = 23
    SK_STORAGE = 24
    DEVMAP_HASH = 25
    STRUCT_OPS = 26
    RINGBUF = 27
    INODE_STORAGE = 28
    TASK_STORAGE = 29
    BLOOM_FILTER = 30
    USER_RINGBUF = 31
    CGRP_STORAGE = 32
    ARENA = 33
    INSN_ARRAY = 34
    RHASH = 35


class MapFlags(KernelFlag):
    """BPF_F_* flags of BPF_MAP_CREATE."""

    NO_PREALLOC = 1 << 0
    NO_COMMON_LRU = 1 << 1
    NUMA_NODE = 1 << 2
    RDONLY = 1 << 3
    WRONLY = 1 << 4
    STACK_BUILD_ID = 1 << 5
    ZERO_SEED = 1 << 6
    RDONLY_PROG = 1 << 7
    WRONLY_PROG = 1 << 8
    CLONE = 1 << 9
    MMAPABLE = 1 << 10
    PRESERVE_ELEMS = 1 << 11
    INNER_MAP = 1 << 12
    LINK = 1 << 13
    PATH_FD = 1 << 14
    VTYPE_BTF_OBJ_FD = 1 << 15
    TOKEN_FD = 1 << 16
    SEGV_ON_FAULT = 1 << 17
    NO_USER_CONV = 1 << 18
    RB_OVERWRITE = 1 << 19


# Those that not every kernel with the map type has (include/uapi/linux/bpf.h).
MAP_FLAG_SINCE: dict[MapFlags, str] = {
    MapFlags.RDONLY_PROG: "5.2",
    MapFlags.WRONLY_PROG: "5.2",
    MapFlags.MMAPABLE: "5.5",
    MapFlags.PRESERVE_ELEMS: "5.10",
    MapFlags.INNER_MAP: "5.10",
    MapFlags.SEGV_ON_FAULT: "6.9",
    MapFlags.NO_USER_CONV: "6.9",
    MapFlags.RB_OVERWRITE: "6.19",
}


class UpdateFlags(KernelFlag):
    """Flags of BPF_MAP_UPDATE_ELEM; LOCK and CPU also of lookups.

    CPU (its number goes into the upper 32 bits) and ALL_CPUS since Linux 7.0.
    """

    ANY = 0
    NOEXIST = 1
    EXIST = 2
    LOCK = 4
    CPU = 8
    ALL_CPUS = 16


class MapTypeInfo(NamedTuple):
    """What is known of a map type without asking a kernel.

    `key_size`/`value_size` are what the kernel insists on (None: free). `key` is "index" (u32 below max_entries), "key"
    (any bytes) or "none". `per_cpu`: values are one per possible CPU. `fd_value`: values name other kernel objects.
    """

    since: str
    key: str = "key"
    key_size: int | None = None
    value_size: int | None = None
    per_cpu: bool = False
    max_entries: bool = True
    fd_value: str | None = None
    no_prealloc: str = "refused"


# NO_PREALLOC is "allowed", "required" or "refused"; kernel: the *_alloc_check functions in kernel/bpf/.
MAP_TYPE_INFO: dict[MapType, MapTypeInfo] = {
    MapType.HASH: MapTypeInfo("3.19", no_prealloc="allowed"),
    MapType.ARRAY: MapTypeInfo("3.19", "index", 4),
    MapType.PROG_ARRAY: MapTypeInfo("4.2", "index", 4, 4, fd_value="program"),
    MapType.PERF_EVENT_ARRAY: MapTypeInfo("4.3", "index", 4, 4, fd_value="perf event"),
    MapType.PERCPU_HASH: MapTypeInfo("4.6", per_cpu=True, no_prealloc="allowed"),
    MapType.PERCPU_ARRAY: MapTypeInfo("4.6", "index", 4, per_cpu=True),
    MapType.STACK_TRACE: MapTypeInfo("4.6", "key", 4),
    MapType.CGROUP_ARRAY: MapTypeInfo("4.8", "index", 4, 4, fd_value="cgroup"),
    MapType.LRU_HASH: MapTypeInfo("4.10"),
    MapType.LRU_PERCPU_HASH: MapTypeInfo("4.10", per_cpu=True),
    MapType.LPM_TRIE: MapTypeInfo("4.11", no_prealloc="required"),
    MapType.ARRAY_OF_MAPS: MapTypeInfo("4.12", "index", 4, 4, fd_value="map"),
    MapType.HASH_OF_MAPS: MapTypeInfo("4.12", "key", None, 4, fd_value="map", no_prealloc="allowed"),
    MapType.DEVMAP: MapTypeInfo("4.14", "index", 4),
    MapType.SOCKMAP: MapTypeInfo("4.14", "index", 4, fd_value="socket"),
    MapType.CPUMAP: MapTypeInfo("4.15", "index", 4),
    MapType.XSKMAP: MapTypeInfo("4.18", "index", 4, 4, fd_value="socket"),
    MapType.SOCKHASH: MapTypeInfo("4.18", fd_value="socket"),
    MapType.CGROUP_STORAGE: MapTypeInfo("4.19", max_entries=False),
    MapType.REUSEPORT_SOCKARRAY: MapTypeInfo("4.19", "index", 4, fd_value="socket"),
    MapType.PERCPU_CGROUP_STORAGE: MapTypeInfo("4.20", per_cpu=True, max_entries=False),
    MapType.QUEUE: MapTypeInfo("4.20", "none", 0),
    MapType.STACK: MapTypeInfo("4.20", "none", 0),
    MapType.SK_STORAGE: MapTypeInfo("5.2", "key", 4, max_entries=False, no_prealloc="required", fd_value=None),
    MapType.DEVMAP_HASH: MapTypeInfo("5.4", "key", 4),
    MapType.STRUCT_OPS: MapTypeInfo("5.6", "index", 4),
    MapType.RINGBUF: MapTypeInfo("5.8", "none", 0, 0),
    MapType.INODE_STORAGE: MapTypeInfo("5.10", "key", 4, max_entries=False, no_prealloc="required"),
    MapType.TASK_STORAGE: MapTypeInfo("5.11", "key", 4, max_entries=False, no_prealloc="required"),
    MapType.BLOOM_FILTER: MapTypeInfo("5.16", "none", 0),
    MapType.USER_RINGBUF: MapTypeInfo("6.1", "none", 0, 0),
    MapType.CGRP_STORAGE: MapTypeInfo("6.2", "key", 4, max_entries=False, no_prealloc="required"),
    MapType.ARENA: MapTypeInfo("6.9", "none", 0, 0),
    MapType.INSN_ARRAY: MapTypeInfo("6.19", "index", 4, 16),
    MapType.RHASH: MapTypeInfo("7.2", no_prealloc="required"),
}

UNKNOWN_MAP_TYPE = MapTypeInfo("unknown")


def map_type(number: int) -> MapType | int:
    """The `MapType` of a number, or the number itself for a type newer than this table."""
    try:
        return MapType(number)
    except ValueError:
        return number


def map_type_named(name: str) -> MapType:
    """The type with a name, in any case. Raises EncodeError, with names that are like it."""
    try:
        return MapType[name.upper().removeprefix("BPF_MAP_TYPE_")]
    except KeyError:
        import difflib

        near = difflib.get_close_matches(name.upper(), [kind.name for kind in MapType], 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise EncodeError(f"there is no map type {name!r}{hint}") from None


def type_name(number: int) -> str:
    """The kernel's name of a map type without the BPF_MAP_TYPE_ prefix, or its number."""
    known = map_type(number)
    return known.name if isinstance(known, MapType) else str(number)


def type_info(number: int) -> MapTypeInfo:
    """Facts of a map type; those of a plain keyed map for unknown ones."""
    known = map_type(number)
    return MAP_TYPE_INFO.get(known, UNKNOWN_MAP_TYPE) if isinstance(known, MapType) else UNKNOWN_MAP_TYPE
