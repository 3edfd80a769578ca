"""Maps as Python collections: one file per family, one class per map type."""

from __future__ import annotations

from bpf2py._lazy import import_module, lazily
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.uapi.map_types import MapType, map_type

if TYPE_CHECKING:
    from bpf2py.maps.arena import ArenaMap
    from bpf2py.maps.array import ArrayMap
    from bpf2py.maps.base import AnyMap, Map
    from bpf2py.maps.bloom import BloomFilterMap
    from bpf2py.maps.cgroup_storage import CgroupStorageMap, PerCpuCgroupStorageMap
    from bpf2py.maps.fd_values import (
        CgroupArrayMap,
        CpuMap,
        DevMap,
        MapOfMaps,
        PerfEventArrayMap,
        ProgArrayMap,
        SockMap,
        XskMap,
    )
    from bpf2py.maps.hash import HashMap, LruHashMap
    from bpf2py.maps.histogram import Histogram
    from bpf2py.maps.lpm import LpmTrieMap
    from bpf2py.maps.one_cpu import OneCpu
    from bpf2py.maps.percpu import LruPerCpuHashMap, PerCpuArrayMap, PerCpuHashMap
    from bpf2py.maps.queue import QueueMap, StackMap
    from bpf2py.maps.raw import RawMap
    from bpf2py.maps.ringbuf import RingbufMap, UserRingbufMap
    from bpf2py.maps.stack_trace import StackTraceMap
    from bpf2py.maps.storage import StorageMap
    from bpf2py.maps.struct_ops import StructOpsMap

__all__ = [
    "AnyMap",
    "ArenaMap",
    "ArrayMap",
    "BloomFilterMap",
    "CgroupArrayMap",
    "CgroupStorageMap",
    "CpuMap",
    "DevMap",
    "HashMap",
    "Histogram",
    "LpmTrieMap",
    "LruHashMap",
    "LruPerCpuHashMap",
    "Map",
    "MapOfMaps",
    "OneCpu",
    "PerCpuArrayMap",
    "PerCpuCgroupStorageMap",
    "PerCpuHashMap",
    "PerfEventArrayMap",
    "ProgArrayMap",
    "QueueMap",
    "RawMap",
    "RingbufMap",
    "SockMap",
    "StackMap",
    "StackTraceMap",
    "StorageMap",
    "StructOpsMap",
    "UserRingbufMap",
    "XskMap",
]

# Module and class of each map type; imported when first used.
_CLASSES: dict[MapType, tuple[str, str]] = {
    MapType.HASH: ("hash", "HashMap"),
    MapType.RHASH: ("hash", "HashMap"),
    MapType.LRU_HASH: ("hash", "LruHashMap"),
    MapType.ARRAY: ("array", "ArrayMap"),
    MapType.PERCPU_HASH: ("percpu", "PerCpuHashMap"),
    MapType.PERCPU_ARRAY: ("percpu", "PerCpuArrayMap"),
    MapType.LRU_PERCPU_HASH: ("percpu", "LruPerCpuHashMap"),
    MapType.LPM_TRIE: ("lpm", "LpmTrieMap"),
    MapType.QUEUE: ("queue", "QueueMap"),
    MapType.STACK: ("queue", "StackMap"),
    MapType.BLOOM_FILTER: ("bloom", "BloomFilterMap"),
    MapType.STACK_TRACE: ("stack_trace", "StackTraceMap"),
    MapType.RINGBUF: ("ringbuf", "RingbufMap"),
    MapType.USER_RINGBUF: ("ringbuf", "UserRingbufMap"),
    MapType.PROG_ARRAY: ("fd_values", "ProgArrayMap"),
    MapType.PERF_EVENT_ARRAY: ("fd_values", "PerfEventArrayMap"),
    MapType.CGROUP_ARRAY: ("fd_values", "CgroupArrayMap"),
    MapType.ARRAY_OF_MAPS: ("fd_values", "MapOfMaps"),
    MapType.HASH_OF_MAPS: ("fd_values", "MapOfMaps"),
    MapType.DEVMAP: ("fd_values", "DevMap"),
    MapType.DEVMAP_HASH: ("fd_values", "DevMap"),
    MapType.CPUMAP: ("fd_values", "CpuMap"),
    MapType.XSKMAP: ("fd_values", "XskMap"),
    MapType.SOCKMAP: ("fd_values", "SockMap"),
    MapType.SOCKHASH: ("fd_values", "SockMap"),
    MapType.REUSEPORT_SOCKARRAY: ("fd_values", "SockMap"),
    MapType.SK_STORAGE: ("storage", "StorageMap"),
    MapType.INODE_STORAGE: ("storage", "StorageMap"),
    MapType.TASK_STORAGE: ("storage", "StorageMap"),
    MapType.CGRP_STORAGE: ("storage", "StorageMap"),
    MapType.CGROUP_STORAGE: ("cgroup_storage", "CgroupStorageMap"),
    MapType.PERCPU_CGROUP_STORAGE: ("cgroup_storage", "PerCpuCgroupStorageMap"),
    MapType.ARENA: ("arena", "ArenaMap"),
}


_HOMES = {
    "AnyMap": "maps.base",
    "Map": "maps.base",
    "Histogram": "maps.histogram",
    "OneCpu": "maps.one_cpu",
    "RawMap": "maps.raw",
    "StructOpsMap": "maps.struct_ops",
    **{name: f"maps.{module}" for module, name in _CLASSES.values()},
}
__getattr__, __dir__ = lazily(__name__, globals(), _HOMES)


def class_home(number: int) -> tuple[str, str]:
    """(module in this package, class) of a map type."""
    kind = map_type(number)
    return _CLASSES.get(kind, ("raw", "RawMap")) if isinstance(kind, MapType) else ("raw", "RawMap")


def class_for(number: int) -> type[Map[Any, Any]]:
    """The class of a map type; `RawMap` for types newer than this library."""
    module, name = class_home(number)
    found: type[Map[Any, Any]] = getattr(import_module(f"bpf2py.maps.{module}"), name)
    return found
