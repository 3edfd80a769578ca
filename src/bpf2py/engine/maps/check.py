"""What kernels answer to BPF_MAP_CREATE: 0 or an errno, from the spec and the version alone.

Source of facts: the map_alloc_check and map_alloc functions of each type in kernel/bpf/, compared with a running kernel.
"""

from __future__ import annotations

from collections.abc import Callable

from bpf2py.engine.maps.fields import Fields
from bpf2py.spec.map_spec import MapSpec
from bpf2py.uapi.errno import E2BIG, EINVAL, ENOTSUPP, EOPNOTSUPP, ERANGE
from bpf2py.uapi.map_types import MAP_TYPE_INFO, MapFlags, MapType

__all__ = ["create_errno"]


KMALLOC_MAX = 1 << 22  # KMALLOC_MAX_SIZE with pages of 4 KiB
PERCPU_MAX = 32 << 10  # PCPU_MIN_UNIT_SIZE
HTAB_ELEM = 48  # sizeof(struct htab_elem)
U32 = (1 << 32) - 1
PAGE = 4096
STORAGE_MAX = 0xFFFF - 128  # BPF_LOCAL_STORAGE_MAX_VALUE_SIZE
STACK_DEPTH = 127  # sysctl_perf_event_max_stack

F = MapFlags
ACCESS = F.RDONLY | F.WRONLY | F.RDONLY_PROG | F.WRONLY_PROG
HASHES = (MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH, MapType.HASH_OF_MAPS)
LRU = (MapType.LRU_HASH, MapType.LRU_PERCPU_HASH)
RING_MAX = ((1 << 24) - 3) * PAGE

Version = tuple[int, ...]


def create_errno(spec: MapSpec, version: Version, cpus: int, fields: Fields, inner: MapSpec | None) -> int:
    """What the kernel of a version answers: 0 or an errno."""
    kind, flags = spec.type, int(spec.flags)
    if not isinstance(kind, MapType) or kind == MapType.UNSPEC or version < _version(MAP_TYPE_INFO[kind].since):
        return EINVAL
    if (spec.key_size | spec.value_size | spec.max_entries | flags) >> 32:  # negative, or too large
        return EINVAL
    if spec.map_extra and kind not in (MapType.BLOOM_FILTER, MapType.ARENA):
        return EINVAL
    if flags & F.RDONLY and flags & F.WRONLY:
        return EINVAL
    if flags & F.NUMA_NODE and spec.numa_node:
        return EINVAL
    error = _CHECKS[kind](spec, version, cpus)
    if error:
        return error
    if kind in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS):
        return _check_inner(inner)
    return _check_fields(spec, fields)


def _version(text: str) -> Version:
    return tuple(int(part) for part in text.split("."))


def _access_ok(flags: int) -> bool:
    both = int(F.RDONLY_PROG | F.WRONLY_PROG)
    return flags & both != both


def _flags_ok(spec: MapSpec, allowed: int) -> bool:
    return not int(spec.flags) & ~allowed and _access_ok(int(spec.flags))


def _hash(spec: MapSpec, version: Version, cpus: int) -> int:
    kind, flags = spec.type, int(spec.flags)
    per_cpu = kind in (MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH)
    if kind == MapType.HASH_OF_MAPS and spec.value_size != 4:
        return EINVAL
    if not _flags_ok(spec, F.NO_PREALLOC | F.NO_COMMON_LRU | F.NUMA_NODE | ACCESS | F.ZERO_SEED):
        return EINVAL
    if kind not in LRU and flags & F.NO_COMMON_LRU:
        return EINVAL
    if kind in LRU and flags & F.NO_PREALLOC:
        return ENOTSUPP
    if flags & F.NUMA_NODE and (per_cpu or flags & F.NO_COMMON_LRU):
        return EINVAL
    if not (spec.max_entries and spec.key_size and spec.value_size):
        return EINVAL
    if spec.key_size + spec.value_size >= KMALLOC_MAX - HTAB_ELEM:
        return E2BIG
    if per_cpu and (spec.value_size + 7) // 8 * 8 > PERCPU_MAX:
        return E2BIG
    entries = spec.max_entries
    if flags & F.NO_COMMON_LRU:
        entries = (entries + cpus - 1) // cpus * cpus
        if entries > U32:
            return E2BIG
    if entries > 1 << 31 or (1 << max(entries - 1, 0).bit_length()) > U32 // 16:
        return E2BIG
    return 0


def _array(spec: MapSpec, version: Version, cpus: int) -> int:
    kind, flags = spec.type, int(spec.flags)
    per_cpu = kind == MapType.PERCPU_ARRAY
    if not (spec.max_entries and spec.value_size) or spec.key_size != 4:
        return EINVAL
    allowed = F.NUMA_NODE | F.MMAPABLE | ACCESS | F.PRESERVE_ELEMS | F.INNER_MAP
    if not _flags_ok(spec, allowed) or (per_cpu and flags & F.NUMA_NODE):
        return EINVAL
    if kind != MapType.ARRAY and flags & (F.MMAPABLE | F.INNER_MAP):
        return EINVAL
    if kind != MapType.PERF_EVENT_ARRAY and flags & F.PRESERVE_ELEMS:
        return EINVAL
    if spec.value_size > (1 << 31) - 1:
        return E2BIG
    if per_cpu and (spec.value_size + 7) // 8 * 8 > PERCPU_MAX:
        return E2BIG
    return 0


def _fd_array(spec: MapSpec, version: Version, cpus: int) -> int:
    if spec.value_size != 4 or int(spec.flags) & (F.RDONLY_PROG | F.WRONLY_PROG):
        return EINVAL
    return _array(spec, version, cpus)


def _queue(spec: MapSpec, version: Version, cpus: int) -> int:
    if not (spec.max_entries and spec.value_size) or spec.key_size or not _flags_ok(spec, F.NUMA_NODE | ACCESS):
        return EINVAL
    return E2BIG if spec.value_size > KMALLOC_MAX else 0


def _bloom(spec: MapSpec, version: Version, cpus: int) -> int:
    if spec.value_size > KMALLOC_MAX:
        return E2BIG
    if not (spec.max_entries and spec.value_size) or spec.key_size:
        return EINVAL
    if not _flags_ok(spec, F.NUMA_NODE | F.ZERO_SEED | ACCESS) or spec.map_extra & ~15:
        return EINVAL
    return 0


def _lpm(spec: MapSpec, version: Version, cpus: int) -> int:
    if not spec.max_entries or not spec.flags & F.NO_PREALLOC:
        return EINVAL
    if not _flags_ok(spec, F.NO_PREALLOC | F.NUMA_NODE | ACCESS):
        return EINVAL
    if not 5 <= spec.key_size <= 260 or not 1 <= spec.value_size <= KMALLOC_MAX - 256 - 24:
        return EINVAL
    return 0


def _ring(spec: MapSpec, version: Version, cpus: int) -> int:
    size = spec.max_entries
    if (
        int(spec.flags) & ~F.NUMA_NODE
        or spec.key_size
        or spec.value_size
        or not size
        or size & (size - 1)
        or size % PAGE
    ):
        return EINVAL
    return E2BIG if size > RING_MAX else 0


def _stack_trace(spec: MapSpec, version: Version, cpus: int) -> int:
    if int(spec.flags) & ~(F.NUMA_NODE | F.STACK_BUILD_ID | F.RDONLY | F.WRONLY):
        return EINVAL
    unit = 32 if spec.flags & F.STACK_BUILD_ID else 8
    if not spec.max_entries or spec.key_size != 4 or spec.value_size < 8:
        return EINVAL
    if spec.value_size % unit or spec.value_size // unit > STACK_DEPTH:
        return EINVAL
    return E2BIG if spec.max_entries > 1 << 31 else 0


def _storage(spec: MapSpec, version: Version, cpus: int) -> int:
    if int(spec.flags) & ~(F.NO_PREALLOC | F.CLONE) or not spec.flags & F.NO_PREALLOC or spec.max_entries:
        return EINVAL
    if spec.key_size != 4 or not spec.value_size or not (spec.btf is not None and spec.value_type_id):
        return EINVAL
    return E2BIG if spec.value_size > STORAGE_MAX else 0


def _cgroup_storage(spec: MapSpec, version: Version, cpus: int) -> int:
    most = PERCPU_MAX if spec.type == MapType.PERCPU_CGROUP_STORAGE else STORAGE_MAX
    if spec.key_size not in (8, 16) or not spec.value_size:
        return EINVAL
    if spec.value_size > most:
        return E2BIG
    if not _flags_ok(spec, F.NUMA_NODE | ACCESS) or spec.max_entries:
        return EINVAL
    return 0


def _devices(spec: MapSpec, version: Version, cpus: int) -> int:
    allowed = int(F.NUMA_NODE | F.RDONLY | F.WRONLY)
    if not spec.max_entries or spec.key_size != 4 or spec.value_size not in (4, 8) or int(spec.flags) & ~allowed:
        return EINVAL
    return 0


def _sockets(spec: MapSpec, version: Version, cpus: int) -> int:
    if not spec.max_entries or spec.key_size != 4 or spec.value_size != 4:
        return EINVAL
    return EINVAL if int(spec.flags) & ~int(F.NUMA_NODE | F.RDONLY | F.WRONLY) else 0


def _cpus(spec: MapSpec, version: Version, cpus: int) -> int:
    if not spec.max_entries or spec.key_size != 4 or spec.value_size not in (4, 8) or int(spec.flags) & ~F.NUMA_NODE:
        return EINVAL
    return E2BIG if spec.max_entries > 8192 else 0


def _arena(spec: MapSpec, version: Version, cpus: int) -> int:
    flags = int(spec.flags)
    if spec.key_size or spec.value_size or not spec.max_entries or not flags & F.MMAPABLE:
        return EINVAL
    if flags & ~(F.MMAPABLE | F.SEGV_ON_FAULT | F.NO_USER_CONV) or spec.map_extra % PAGE:
        return EINVAL
    size = spec.max_entries * PAGE
    if size > 1 << 32:
        return E2BIG
    return ERANGE if spec.map_extra >> 32 != spec.map_extra + size - 1 >> 32 else 0


def _unchecked(spec: MapSpec, version: Version, cpus: int) -> int:
    return 0


def _check_inner(inner: MapSpec | None) -> int:
    if inner is None:
        return 9  # EBADF: inner_map_fd is not a map
    if inner.type in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS):
        return EINVAL
    if inner.type in (MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE, MapType.STRUCT_OPS, MapType.PROG_ARRAY):
        return ENOTSUPP
    return 0


_WITH_FIELDS = (*HASHES[:4], MapType.ARRAY, MapType.PERCPU_ARRAY, MapType.CGROUP_STORAGE, MapType.SK_STORAGE,
                MapType.INODE_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE)  # fmt: skip
_WITH_LOCK = (MapType.HASH, MapType.ARRAY, MapType.CGROUP_STORAGE, MapType.SK_STORAGE, MapType.INODE_STORAGE,
              MapType.TASK_STORAGE, MapType.CGRP_STORAGE)  # fmt: skip


def _check_fields(spec: MapSpec, fields: Fields) -> int:
    if fields.places and spec.type not in _WITH_FIELDS:
        return EOPNOTSUPP
    if fields.lock and spec.type not in _WITH_LOCK:
        return EOPNOTSUPP
    return 0


_CHECKS: dict[MapType, Callable[[MapSpec, Version, int], int]] = dict.fromkeys(MapType, _unchecked)
_CHECKS.update(dict.fromkeys(HASHES, _hash))
_CHECKS.update(dict.fromkeys((MapType.ARRAY, MapType.PERCPU_ARRAY), _array))
_CHECKS.update(
    dict.fromkeys(
        (MapType.PROG_ARRAY, MapType.PERF_EVENT_ARRAY, MapType.CGROUP_ARRAY, MapType.ARRAY_OF_MAPS), _fd_array
    )
)
_CHECKS.update(dict.fromkeys((MapType.QUEUE, MapType.STACK), _queue))
_CHECKS.update(dict.fromkeys((MapType.RINGBUF, MapType.USER_RINGBUF), _ring))
_CHECKS.update(
    dict.fromkeys((MapType.SK_STORAGE, MapType.INODE_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE), _storage)
)
_CHECKS.update(dict.fromkeys((MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE), _cgroup_storage))
_CHECKS.update({MapType.DEVMAP: _devices, MapType.DEVMAP_HASH: _devices, MapType.XSKMAP: _sockets})
_CHECKS.update(
    {
        MapType.BLOOM_FILTER: _bloom,
        MapType.LPM_TRIE: _lpm,
        MapType.STACK_TRACE: _stack_trace,
        MapType.CPUMAP: _cpus,
        MapType.ARENA: _arena,
    }
)
