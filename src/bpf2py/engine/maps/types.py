"""How each type of map is laid out in the engine's memory, and which of the library's functions its commands lead to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bpf2py.engine.maps.arena import build_arena
from bpf2py.engine.maps.core import MapCore, MapSystem
from bpf2py.engine.maps.fields import Fields
from bpf2py.engine.maps.rings import enlist, ring_memory
from bpf2py.uapi.errno import EACCES, EINVAL, ENOTSUPP, EOPNOTSUPP, EPERM
from bpf2py.uapi.map_types import MapFlags, MapType

if TYPE_CHECKING:
    from bpf2py.spec.map_spec import MapSpec

__all__ = ["BUILDERS", "PROGRAM_SIDE"]

PAGE = 4096
MOST_DATA = 192 << 20  # bytes for elements of a map that gets its memory as it grows
LRU = (MapType.LRU_HASH, MapType.LRU_PERCPU_HASH)
PER_CPU = (MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH, MapType.PERCPU_ARRAY)

# The library's functions for helpers on maps of one type.
PROGRAM_SIDE: dict[int, dict[str, str]] = {
    MapType.HASH: {
        "map_lookup_elem": "htab_lookup_elem",
        "map_update_elem": "htab_update_elem",
        "map_delete_elem": "htab_delete_elem",
    },
    MapType.PERCPU_HASH: {
        "map_lookup_elem": "htab_percpu_lookup_elem",
        "map_update_elem": "htab_percpu_update_elem",
        "map_delete_elem": "htab_delete_elem",
        "map_lookup_percpu_elem": "htab_percpu_lookup_percpu_elem",
    },
    MapType.LRU_HASH: {
        "map_lookup_elem": "lru_lookup_elem",
        "map_update_elem": "lru_update_elem",
        "map_delete_elem": "lru_delete_elem",
    },
    MapType.LRU_PERCPU_HASH: {
        "map_lookup_elem": "lru_percpu_lookup_elem",
        "map_update_elem": "lru_percpu_update_elem",
        "map_delete_elem": "lru_delete_elem",
        "map_lookup_percpu_elem": "lru_percpu_lookup_percpu_elem",
    },
    MapType.ARRAY: {"map_lookup_elem": "array_lookup_elem", "map_update_elem": "array_update_elem"},
    MapType.PERCPU_ARRAY: {
        "map_lookup_elem": "percpu_array_lookup_elem",
        "map_update_elem": "percpu_array_update_elem",
        "map_lookup_percpu_elem": "percpu_array_lookup_percpu_elem",
    },
    MapType.LPM_TRIE: {
        "map_lookup_elem": "lpm_lookup_elem",
        "map_update_elem": "lpm_update_elem",
        "map_delete_elem": "lpm_delete_elem",
    },
    MapType.ARRAY_OF_MAPS: {"map_lookup_elem": "array_of_maps_lookup_elem"},
    MapType.HASH_OF_MAPS: {"map_lookup_elem": "htab_of_maps_lookup_elem"},
    MapType.QUEUE: {
        "map_push_elem": "queue_push_elem",
        "map_pop_elem": "queue_pop_elem",
        "map_peek_elem": "queue_peek_elem",
    },
    MapType.BLOOM_FILTER: {"map_push_elem": "bloom_push_elem", "map_peek_elem": "bloom_peek_elem"},
}
PROGRAM_SIDE[MapType.STACK] = PROGRAM_SIDE[MapType.QUEUE]
# Arrays of addresses of what programs may look at, as the inner maps' are.
PROGRAM_SIDE[MapType.XSKMAP] = PROGRAM_SIDE[MapType.DEVMAP] = PROGRAM_SIDE[MapType.ARRAY_OF_MAPS]

_HTAB: dict[str, str | int] = {
    "lookup": "htab_sys_lookup",
    "update": "htab_sys_update",
    "delete": "htab_sys_delete",
    "take": "htab_sys_lookup_and_delete",
    "next_key": "htab_sys_next_key",
    "lookup_batch": "htab_sys_lookup_batch",
}
_ARRAY: dict[str, str | int] = {
    "lookup": "array_sys_lookup",
    "update": "array_sys_update",
    "delete": -EINVAL,
    "next_key": "array_sys_next_key",
    "lookup_batch": "array_sys_lookup_batch",
}
_QUEUE: dict[str, str | int] = {
    "lookup": "queue_sys_lookup",
    "update": "queue_sys_update",
    "delete": -EINVAL,
    "take": "queue_sys_lookup_and_delete",
    "next_key": -EINVAL,
}
_BLOOM: dict[str, str | int] = {
    "lookup": "bloom_sys_lookup",
    "update": "bloom_sys_update",
    "delete": -EOPNOTSUPP,
    "next_key": -EOPNOTSUPP,
}
_LPM: dict[str, str | int] = {
    "lookup": "lpm_sys_lookup",
    "update": "lpm_sys_update",
    "delete": "lpm_sys_delete",
    "next_key": "lpm_sys_next_key",
    "lookup_batch": "lpm_sys_lookup_batch",
}
_STACK_TRACE: dict[str, str | int] = {
    "lookup": "stackmap_sys_lookup",
    "update": -EINVAL,
    "delete": "stackmap_sys_delete",
    "next_key": "stackmap_sys_next_key",
}


def power_of_two(number: int) -> int:
    """The smallest power of two that is not below a number."""
    return 1 << max(number - 1, 0).bit_length()


def seed_of(engine: MapSystem, spec: MapSpec) -> int:
    """A map's hash seed."""
    return 0 if spec.flags & MapFlags.ZERO_SEED else engine.random()


def build_hash(engine: MapSystem, spec: MapSpec, fields: Fields) -> MapCore:
    """HASH, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH."""
    cpus, kind, flags = engine.possible_cpus, spec.type, spec.flags
    entries = spec.max_entries
    own_lists = bool(flags & MapFlags.NO_COMMON_LRU)
    if own_lists:
        entries = (entries + cpus - 1) // cpus * cpus
    core = MapCore(engine, spec, entries)
    slot = (spec.value_size + 7) // 8 * 8 if kind in PER_CPU else 0
    stored = slot * cpus if slot else spec.value_size
    stride = (spec.key_size + 7) // 8 * 8 + (stored + 7) // 8 * 8
    lay_out_table(core, entries, stride, slot, fields)
    core.names = _HTAB
    if engine.version < (5, 14):
        core.names = {name: found for name, found in _HTAB.items() if name != "take"}
    core.batch = "buckets"
    return core


def lay_out_table(core: MapCore, entries: int, stride: int, slot: int, fields: Fields, private: bool = False) -> None:
    """A hash table's memory."""
    engine, info = core.engine, core.info
    cpus, lru = engine.possible_cpus, info.type in LRU
    own_lists = bool(info.flags & MapFlags.NO_COMMON_LRU)
    unit = 20 if lru else 8
    if lru:
        elements = entries
    elif info.flags & MapFlags.NO_PREALLOC:
        elements = min(entries + 1, max(MOST_DATA // stride, 16))
    else:
        elements = entries + cpus
    sentinels = (3 * cpus if own_lists else 3 + 2 * cpus) if lru else 0
    buckets = power_of_two(entries)
    core.describe(
        stride,
        slot,
        core.allocate((elements + 1) * stride, private),
        core.allocate((elements + 1 + sentinels) * unit, True),
        fields,
    )
    table = core.allocate(buckets * 4, True)
    side = core.allocate(cpus * 40 + 64, True)
    core.own("QIIQQQQQII", table, buckets - 1, seed_of(engine, core.spec), 0, 0, 0, 0, side, 0, elements)
    engine.operation("htab_init")(core.header, 0, 0, 0, 0)


def build_array(engine: MapSystem, spec: MapSpec, fields: Fields) -> MapCore:
    """ARRAY and PERCPU_ARRAY."""
    core = MapCore(engine, spec)
    slot = (spec.value_size + 7) // 8 * 8
    per_cpu = spec.type == MapType.PERCPU_ARRAY
    stride = slot * engine.possible_cpus if per_cpu else slot
    size = stride * spec.max_entries
    if spec.flags & MapFlags.MMAPABLE:
        size = (size + PAGE - 1) // PAGE * PAGE
    core.describe(stride, slot if per_cpu else 0, core.allocate(size), 0, fields)
    core.names = _ARRAY
    core.batch = "none" if per_cpu and engine.version < (5, 13) else "indices"
    if spec.type == MapType.ARRAY:
        core.map_memory = _array_memory(core, size)
    return core


def _array_memory(core: MapCore, size: int) -> Callable[[int, bool, int], int]:
    address, fields, flags = core.data_address, core.fields, core.info.flags
    header, memory = core.header, core.engine.memory

    def place(length: int, writable: bool, offset: int) -> int:
        if fields.places:
            raise OSError(ENOTSUPP, "values with members of the kernel's cannot be mapped")
        if writable and memory.u32[header + 48 >> 2]:
            raise OSError(EPERM, "the map is frozen")
        if writable and flags & MapFlags.RDONLY_PROG:
            raise OSError(EACCES, "the map is read-only for programs, so nobody may write after it is frozen")
        if not flags & MapFlags.MMAPABLE or offset + length > size:
            raise OSError(EINVAL, "not mappable, or beyond its end")
        return address + offset

    return place


def build_queue(engine: MapSystem, spec: MapSpec, fields: Fields) -> MapCore:
    """QUEUE and STACK."""
    core = MapCore(engine, spec)
    stride = (spec.value_size + 7) // 8 * 8
    core.describe(stride, 0, core.allocate(stride * (spec.max_entries + 1)))
    core.own("III", 0, 0, spec.max_entries + 1 & 0xFFFFFFFF)
    core.names = _QUEUE
    return core


def build_bloom(engine: MapSystem, spec: MapSpec, fields: Fields) -> MapCore:
    """BLOOM_FILTER: bits for max_entries * functions / ln 2, rounded up to a power of two, as the kernel rounds."""
    core = MapCore(engine, spec)
    functions = spec.map_extra & 15 or 5
    bits = spec.max_entries * functions
    rounded = max(power_of_two(bits // 5 * 7), 64)
    bits = 1 << 32 if bits >= 1 << 32 or bits // 5 * 7 > 1 << 31 else rounded
    core.describe(0, 0, core.allocate(bits // 8))
    core.own("III", bits - 1, seed_of(engine, spec), functions)
    core.names = _BLOOM
    return core


def build_lpm(engine: MapSystem, spec: MapSpec, fields: Fields) -> MapCore:
    """LPM_TRIE: a node for each prefix, and one less for where they part."""
    core = MapCore(engine, spec)
    value_at = (spec.key_size + 7) // 8 * 8
    stride = value_at + (spec.value_size + 7) // 8 * 8
    nodes = min(2 * spec.max_entries + 2, max(MOST_DATA // stride, 16))
    core.describe(stride, 0, core.allocate(nodes * stride), core.allocate(nodes * 16, True))
    core.own("IIIIII", 0, 0, 1, nodes, value_at, spec.key_size - 4)
    core.names = _LPM
    core.batch = "keys" if engine.version >= (5, 11) else "none"
    return core


def build_stack_trace(engine: MapSystem, spec: MapSpec, fields: Fields) -> MapCore:
    """STACK_TRACE: filled by `stackmap_store`."""
    core = MapCore(engine, spec)
    buckets = power_of_two(spec.max_entries)
    core.describe(spec.value_size, 0, core.allocate(buckets * spec.value_size), core.allocate(buckets * 16, True))
    core.own("Q", buckets)
    core.names = _STACK_TRACE
    if engine.version >= (6, 18):
        core.names = {**_STACK_TRACE, "take": "stackmap_sys_lookup_and_delete"}
    return core


def build_ring(engine: MapSystem, spec: MapSpec, fields: Fields) -> MapCore:
    """RINGBUF and USER_RINGBUF: the consumer's page, the producer's, the data and room for a copy of it."""
    core = MapCore(engine, spec)
    size, memory = spec.max_entries, engine.memory
    positions = core.allocate(2 * PAGE + 2 * size)
    core.describe(1, 0, positions + 2 * PAGE)
    core.names = dict.fromkeys(("update", "delete", "next_key"), -ENOTSUPP)
    following = enlist(core) if spec.type == MapType.RINGBUF else 0
    core.own("QQQ", following, positions, size - 1)
    core.map_memory = ring_memory(core, positions, 2 * PAGE + 2 * size)
    assert memory is engine.memory
    return core


BUILDERS: dict[int, Callable[[MapSystem, MapSpec, Fields], MapCore]] = {
    **dict.fromkeys((MapType.HASH, MapType.PERCPU_HASH, *LRU), build_hash),
    MapType.ARRAY: build_array,
    MapType.PERCPU_ARRAY: build_array,
    MapType.QUEUE: build_queue,
    MapType.STACK: build_queue,
    MapType.BLOOM_FILTER: build_bloom,
    MapType.LPM_TRIE: build_lpm,
    MapType.STACK_TRACE: build_stack_trace,
    MapType.RINGBUF: build_ring,
    MapType.USER_RINGBUF: build_ring,
    MapType.ARENA: build_arena,
}
