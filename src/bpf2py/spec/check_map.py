"""Why a kernel refuses a map spec, said from the spec alone (kernel: map_alloc_check of each type, kernel/bpf/)."""

from __future__ import annotations

from bpf2py.spec.map_spec import MapSpec
from bpf2py.uapi.map_types import MapFlags, MapType, type_info

KMALLOC_MAX = 1 << 22  # key plus value of a hash element must be below KMALLOC_MAX_SIZE less its header
PERCPU_MAX = 32 << 10  # PCPU_MIN_UNIT_SIZE: the largest per-CPU value
MAX_BPF_STACK = 512  # hash keys must fit a program's stack

_HASH_LIKE = (MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH, MapType.HASH_OF_MAPS)
_LRU = (MapType.LRU_HASH, MapType.LRU_PERCPU_HASH)
_RINGS = (MapType.RINGBUF, MapType.USER_RINGBUF)
_NEED_BTF = (MapType.SK_STORAGE, MapType.INODE_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE)
_LISTS = (MapType.QUEUE, MapType.STACK, MapType.BLOOM_FILTER)


def explain_create(spec: MapSpec, page_size: int = 4096) -> str | None:
    """The first reason for which kernels refuse `spec`, in terms of its fields; None when nothing is known to be wrong.

    Called after a refusal only: what a kernel accepts is its own decision.
    """
    name = spec.type_name
    info = type_info(spec.type)
    for field in ("key_size", "value_size", "max_entries"):
        if not 0 <= getattr(spec, field) < 1 << 32:
            return f"{field} must be a number of 32 bits, is {getattr(spec, field)}"
    if int(spec.flags) >> 32:
        return f"flags must be a number of 32 bits, are {int(spec.flags):#x}"
    if info.key_size is not None and spec.key_size != info.key_size:
        return f"key_size must be {info.key_size} for {name}, is {spec.key_size}"
    if info.value_size is not None and spec.value_size != info.value_size:
        return f"value_size must be {info.value_size} for {name}, is {spec.value_size}"
    if info.max_entries and spec.max_entries == 0:
        return f"max_entries must not be 0 for {name}"
    if not info.max_entries and spec.max_entries:
        return f"max_entries must be 0 for {name} (its elements belong to other kernel objects), is {spec.max_entries}"
    if info.value_size is None and spec.value_size == 0:
        return f"value_size must not be 0 for {name}"
    for check in (_check_sizes, _check_flags):
        reason = check(spec, name, page_size)
        if reason is not None:
            return reason
    if spec.type in _NEED_BTF and (spec.btf is None or not spec.value_type_id):
        return f"{name} needs BTF of its key and value: load it from an object, __type(key, int), __type(value, TYPE)"
    if spec.type in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS) and spec.inner is None:
        return f"{name} needs the definition of its inner maps (__array(values, ...) or inner=)"
    return None


def _check_sizes(spec: MapSpec, name: str, page_size: int) -> str | None:
    kind = spec.type
    if kind in _HASH_LIKE:
        if spec.key_size == 0:
            return f"key_size must not be 0 for {name}"
        if spec.key_size > MAX_BPF_STACK and spec.key_size + spec.value_size < KMALLOC_MAX:
            return f"key_size must be at most {MAX_BPF_STACK} for {name}, is {spec.key_size}"
        if spec.key_size + spec.value_size >= KMALLOC_MAX - 64:
            return (
                f"key_size + value_size must stay below {KMALLOC_MAX} for {name}, is {spec.key_size + spec.value_size}"
            )
        if spec.max_entries > 1 << 27:
            return f"max_entries must be at most {1 << 27} for {name}, is {spec.max_entries}"
    if type_info(kind).per_cpu and (spec.value_size + 7) // 8 * 8 > PERCPU_MAX:
        return f"value_size must be at most {PERCPU_MAX} for {name}, is {spec.value_size}"
    if kind == MapType.LPM_TRIE and not 5 <= spec.key_size <= 260:
        return f"key_size must be 5..260 for LPM_TRIE (a 32-bit prefix length and 1..256 bytes), is {spec.key_size}"
    if kind in _RINGS and (spec.max_entries & (spec.max_entries - 1) or spec.max_entries % page_size):
        return (
            f"max_entries of {name} is its size in bytes and must be a power of two and a multiple of the page size "
            f"{page_size}, is {spec.max_entries}"
        )
    if kind == MapType.STACK_TRACE:
        unit = 32 if spec.flags & MapFlags.STACK_BUILD_ID else 8
        if spec.value_size < 8 or spec.value_size % unit or spec.value_size // unit > 127:
            return f"value_size of STACK_TRACE must be a multiple of {unit} and hold at most 127 frames, is {spec.value_size}"
    if kind in _LISTS and spec.value_size > KMALLOC_MAX:
        return f"value_size must be at most {KMALLOC_MAX} for {name}, is {spec.value_size}"
    return None


def _check_flags(spec: MapSpec, name: str, _page_size: int) -> str | None:
    flags, kind = spec.flags, spec.type
    rule = type_info(kind).no_prealloc
    if flags & MapFlags.NO_PREALLOC and rule == "refused":
        return f"NO_PREALLOC is not allowed for {name}"
    if not flags & MapFlags.NO_PREALLOC and rule == "required":
        return f"{name} needs map_flags BPF_F_NO_PREALLOC"
    if kind == MapType.ARENA and not flags & MapFlags.MMAPABLE:
        return "ARENA needs map_flags BPF_F_MMAPABLE"
    if flags & MapFlags.NO_COMMON_LRU and kind not in _LRU:
        return f"NO_COMMON_LRU is for LRU_HASH and LRU_PERCPU_HASH, not for {name}"
    if flags & MapFlags.NUMA_NODE and (type_info(kind).per_cpu or flags & MapFlags.NO_COMMON_LRU):
        return f"NUMA_NODE is not allowed for {name}" + (" with NO_COMMON_LRU" if kind in _LRU else "")
    if flags & MapFlags.RDONLY and flags & MapFlags.WRONLY:
        return "RDONLY and WRONLY exclude each other"
    if flags & MapFlags.RDONLY_PROG and flags & MapFlags.WRONLY_PROG:
        return "RDONLY_PROG and WRONLY_PROG exclude each other"
    if flags & MapFlags.MMAPABLE and kind not in (MapType.ARRAY, MapType.ARENA, MapType.STRUCT_OPS):
        return f"MMAPABLE is for ARRAY and ARENA, not for {name}"
    if flags & MapFlags.INNER_MAP and kind != MapType.ARRAY:
        return f"INNER_MAP is for ARRAY, not for {name}"
    if flags & MapFlags.PRESERVE_ELEMS and kind != MapType.PERF_EVENT_ARRAY:
        return f"PRESERVE_ELEMS is for PERF_EVENT_ARRAY, not for {name}"
    if flags & MapFlags.STACK_BUILD_ID and kind != MapType.STACK_TRACE:
        return f"STACK_BUILD_ID is for STACK_TRACE, not for {name}"
    if flags & MapFlags.ZERO_SEED and kind not in (*_HASH_LIKE, MapType.BLOOM_FILTER):
        return f"ZERO_SEED is for hash maps and BLOOM_FILTER, not for {name}"
    if spec.map_extra and kind not in (MapType.BLOOM_FILTER, MapType.ARENA):
        return f"map_extra must be 0 for {name}, is {spec.map_extra}"
    if kind == MapType.BLOOM_FILTER and spec.map_extra > 15:
        return f"map_extra of BLOOM_FILTER is its number of hash functions, at most 15, is {spec.map_extra}"
    return None
