"""Maps as Python collections: one file per family, one class per map type."""

from __future__ import annotations

from bpf2py._lazy import lazily
from bpf2py._typing import TYPE_CHECKING
from bpf2py.maps.classes import CLASSES

if TYPE_CHECKING:
    from bpf2py.maps.base import AnyMap
    from bpf2py.maps.histogram import Histogram
    from bpf2py.maps.one_cpu import OneCpu
    from bpf2py.maps.public import (
        ArenaMap,
        ArrayMap,
        BloomFilterMap,
        CgroupArrayMap,
        CgroupStorageMap,
        CpuMap,
        DevMap,
        HashMap,
        LpmTrieMap,
        LruHashMap,
        LruPerCpuHashMap,
        Map,
        MapOfMaps,
        PerCpuArrayMap,
        PerCpuCgroupStorageMap,
        PerCpuHashMap,
        PerfEventArrayMap,
        ProgArrayMap,
        QueueMap,
        RawMap,
        RingbufMap,
        SockMap,
        StackMap,
        StackTraceMap,
        StorageMap,
        StructOpsMap,
        UserRingbufMap,
        XskMap,
    )

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

_HOMES = {
    "AnyMap": "maps.base",
    "Map": "maps.base",
    "Histogram": "maps.histogram",
    "OneCpu": "maps.one_cpu",
    "RawMap": "maps.raw",
    "StructOpsMap": "maps.struct_ops",
    **{name: f"maps.{module}" for module, name in CLASSES.values()},
}
__getattr__, __dir__ = lazily(__name__, globals(), _HOMES)
