"""Which class is for which map type, and where it is: classes are imported when a map of their type is first made."""

from __future__ import annotations

from bpf2py.uapi.map_types import MapType, map_type

__all__ = ["CLASSES", "class_home"]

# Module and class of each map type; imported when first used.
CLASSES: dict[MapType, tuple[str, str]] = {
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


def class_home(number: int) -> tuple[str, str]:
    """(module in this room, class) of a map type."""
    kind = map_type(number)
    return CLASSES.get(kind, ("raw", "RawMap")) if isinstance(kind, MapType) else ("raw", "RawMap")
