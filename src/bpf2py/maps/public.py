"""The classes of maps as type checkers see them: `Map.create` says which of them it gives, and of which keys and values.

A class cannot name those that inherit from it but in its own module, and the families are in modules of their own, of which a
program imports few. So what is declared here, for type checkers alone, are subclasses of them all: `bpf2py.Map` and what
`bpf2py.maps` has. At run time these names are the classes of `maps/base.py` and of the families.
"""

# ruff: noqa: D101 the classes at run time have the docstrings
# A type that is not literal may be any of the literal ones.
# mypy: disable-error-code="overload-overlap"

from __future__ import annotations

from bpf2py._typing import TYPE_CHECKING, Any, TypeVar, overload
from bpf2py.uapi.map_types import MapFlags, MapType

if TYPE_CHECKING:
    from typing import Unpack

    from bpf2py.btf.declare import Typed
    from bpf2py.maps import (
        arena,
        array,
        base,
        bloom,
        cgroup_storage,
        fd_values,
        hash,
        lpm,
        percpu,
        queue,
        raw,
        ringbuf,
        stack_trace,
        storage,
        struct_ops,
    )
    from bpf2py.maps.base import AnyMap, K, V
    from bpf2py.maps.create import (
        ARENA,
        ARRAY,
        ARRAY_OF_MAPS,
        BLOOM_FILTER,
        CGROUP_ARRAY,
        CGROUP_STORAGE,
        CPUMAP,
        DEVMAP,
        DEVMAP_HASH,
        HASH,
        HASH_OF_MAPS,
        LPM_TRIE,
        LRU_HASH,
        LRU_PERCPU_HASH,
        PERCPU_ARRAY,
        PERCPU_CGROUP_STORAGE,
        PERCPU_HASH,
        PERF_EVENT_ARRAY,
        PROG_ARRAY,
        QUEUE,
        RINGBUF,
        SOCKHASH,
        SOCKMAP,
        STACK,
        STACK_TRACE,
        USER_RINGBUF,
        XSKMAP,
        Integer,
        Options,
        OptionsAndKey,
        TypesAndRest,
    )
    from bpf2py.maps.fd_values import E
    from bpf2py.maps.percpu import PerCpu

Key = TypeVar("Key")
Value = TypeVar("Value")

if TYPE_CHECKING:

    class Map(base.Map[K, V]):
        """What all maps can do, and how they are made."""

        @overload
        @staticmethod
        def create(type: HASH, *, key: Integer, value: Integer, **options: Unpack[Options]) -> HashMap[int, int]: ...
        @overload
        @staticmethod
        def create(
            type: HASH, *, key: Integer, value: Typed[Value], **options: Unpack[Options]
        ) -> HashMap[int, Value]: ...
        @overload
        @staticmethod
        def create(type: HASH, *, key: Typed[Key], value: Integer, **options: Unpack[Options]) -> HashMap[Key, int]: ...
        @overload
        @staticmethod
        def create(
            type: HASH, *, key: Typed[Key], value: Typed[Value], **options: Unpack[Options]
        ) -> HashMap[Key, Value]: ...
        @overload
        @staticmethod
        def create(
            type: HASH,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> HashMap[Any, Any]: ...
        @overload
        @staticmethod
        def create(
            type: LRU_HASH, *, key: Integer, value: Integer, **options: Unpack[Options]
        ) -> LruHashMap[int, int]: ...
        @overload
        @staticmethod
        def create(
            type: LRU_HASH, *, key: Integer, value: Typed[Value], **options: Unpack[Options]
        ) -> LruHashMap[int, Value]: ...
        @overload
        @staticmethod
        def create(
            type: LRU_HASH, *, key: Typed[Key], value: Integer, **options: Unpack[Options]
        ) -> LruHashMap[Key, int]: ...
        @overload
        @staticmethod
        def create(
            type: LRU_HASH, *, key: Typed[Key], value: Typed[Value], **options: Unpack[Options]
        ) -> LruHashMap[Key, Value]: ...
        @overload
        @staticmethod
        def create(
            type: LRU_HASH,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> LruHashMap[Any, Any]: ...
        @overload
        @staticmethod
        def create(
            type: PERCPU_HASH, *, key: Integer, value: Integer, **options: Unpack[Options]
        ) -> PerCpuHashMap[int, int]: ...
        @overload
        @staticmethod
        def create(
            type: PERCPU_HASH, *, key: Integer, value: Typed[Value], **options: Unpack[Options]
        ) -> PerCpuHashMap[int, Value]: ...
        @overload
        @staticmethod
        def create(
            type: PERCPU_HASH, *, key: Typed[Key], value: Integer, **options: Unpack[Options]
        ) -> PerCpuHashMap[Key, int]: ...
        @overload
        @staticmethod
        def create(
            type: PERCPU_HASH, *, key: Typed[Key], value: Typed[Value], **options: Unpack[Options]
        ) -> PerCpuHashMap[Key, Value]: ...
        @overload
        @staticmethod
        def create(
            type: PERCPU_HASH,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> PerCpuHashMap[Any, Any]: ...
        @overload
        @staticmethod
        def create(
            type: LRU_PERCPU_HASH, *, key: Integer, value: Integer, **options: Unpack[Options]
        ) -> LruPerCpuHashMap[int, int]: ...
        @overload
        @staticmethod
        def create(
            type: LRU_PERCPU_HASH, *, key: Integer, value: Typed[Value], **options: Unpack[Options]
        ) -> LruPerCpuHashMap[int, Value]: ...
        @overload
        @staticmethod
        def create(
            type: LRU_PERCPU_HASH, *, key: Typed[Key], value: Integer, **options: Unpack[Options]
        ) -> LruPerCpuHashMap[Key, int]: ...
        @overload
        @staticmethod
        def create(
            type: LRU_PERCPU_HASH, *, key: Typed[Key], value: Typed[Value], **options: Unpack[Options]
        ) -> LruPerCpuHashMap[Key, Value]: ...
        @overload
        @staticmethod
        def create(
            type: LRU_PERCPU_HASH,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> LruPerCpuHashMap[Any, Any]: ...
        @overload
        @staticmethod
        def create(type: ARRAY, *, value: Integer, **options: Unpack[OptionsAndKey]) -> ArrayMap[int]: ...
        @overload
        @staticmethod
        def create(type: ARRAY, *, value: Typed[Value], **options: Unpack[OptionsAndKey]) -> ArrayMap[Value]: ...
        @overload
        @staticmethod
        def create(
            type: ARRAY,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> ArrayMap[Any]: ...
        @overload
        @staticmethod
        def create(type: PERCPU_ARRAY, *, value: Integer, **options: Unpack[OptionsAndKey]) -> PerCpuArrayMap[int]: ...
        @overload
        @staticmethod
        def create(
            type: PERCPU_ARRAY, *, value: Typed[Value], **options: Unpack[OptionsAndKey]
        ) -> PerCpuArrayMap[Value]: ...
        @overload
        @staticmethod
        def create(
            type: PERCPU_ARRAY,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> PerCpuArrayMap[Any]: ...
        @overload
        @staticmethod
        def create(type: QUEUE, *, value: Integer, **options: Unpack[OptionsAndKey]) -> QueueMap[int]: ...
        @overload
        @staticmethod
        def create(type: QUEUE, *, value: Typed[Value], **options: Unpack[OptionsAndKey]) -> QueueMap[Value]: ...
        @overload
        @staticmethod
        def create(
            type: QUEUE,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> QueueMap[Any]: ...
        @overload
        @staticmethod
        def create(type: STACK, *, value: Integer, **options: Unpack[OptionsAndKey]) -> StackMap[int]: ...
        @overload
        @staticmethod
        def create(type: STACK, *, value: Typed[Value], **options: Unpack[OptionsAndKey]) -> StackMap[Value]: ...
        @overload
        @staticmethod
        def create(
            type: STACK,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> StackMap[Any]: ...
        @overload
        @staticmethod
        def create(type: BLOOM_FILTER, *, value: Integer, **options: Unpack[OptionsAndKey]) -> BloomFilterMap[int]: ...
        @overload
        @staticmethod
        def create(
            type: BLOOM_FILTER, *, value: Typed[Value], **options: Unpack[OptionsAndKey]
        ) -> BloomFilterMap[Value]: ...
        @overload
        @staticmethod
        def create(
            type: BLOOM_FILTER,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> BloomFilterMap[Any]: ...
        @overload
        @staticmethod
        def create(type: RINGBUF, *, value: Integer, **options: Unpack[OptionsAndKey]) -> RingbufMap[int]: ...
        @overload
        @staticmethod
        def create(type: RINGBUF, *, value: Typed[Value], **options: Unpack[OptionsAndKey]) -> RingbufMap[Value]: ...
        @overload
        @staticmethod
        def create(
            type: RINGBUF,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> RingbufMap[Any]: ...
        @overload
        @staticmethod
        def create(type: USER_RINGBUF, *, value: Integer, **options: Unpack[OptionsAndKey]) -> UserRingbufMap[int]: ...
        @overload
        @staticmethod
        def create(
            type: USER_RINGBUF, *, value: Typed[Value], **options: Unpack[OptionsAndKey]
        ) -> UserRingbufMap[Value]: ...
        @overload
        @staticmethod
        def create(
            type: USER_RINGBUF,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> UserRingbufMap[Any]: ...
        @overload
        @staticmethod
        def create(type: LPM_TRIE, *, value: Integer, **options: Unpack[OptionsAndKey]) -> LpmTrieMap[int]: ...
        @overload
        @staticmethod
        def create(type: LPM_TRIE, *, value: Typed[Value], **options: Unpack[OptionsAndKey]) -> LpmTrieMap[Value]: ...
        @overload
        @staticmethod
        def create(
            type: LPM_TRIE,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> LpmTrieMap[Any]: ...
        @overload
        @staticmethod
        def create(
            type: PERF_EVENT_ARRAY, *, value: Integer, **options: Unpack[OptionsAndKey]
        ) -> PerfEventArrayMap[int]: ...
        @overload
        @staticmethod
        def create(
            type: PERF_EVENT_ARRAY, *, value: Typed[Value], **options: Unpack[OptionsAndKey]
        ) -> PerfEventArrayMap[Value]: ...
        @overload
        @staticmethod
        def create(
            type: PERF_EVENT_ARRAY,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> PerfEventArrayMap[Any]: ...
        @overload
        @staticmethod
        def create(
            type: PROG_ARRAY,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> ProgArrayMap: ...
        @overload
        @staticmethod
        def create(
            type: CGROUP_ARRAY,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> CgroupArrayMap: ...
        @overload
        @staticmethod
        def create(
            type: STACK_TRACE,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> StackTraceMap: ...
        @overload
        @staticmethod
        def create(
            type: ARRAY_OF_MAPS,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> MapOfMaps[int]: ...
        @overload
        @staticmethod
        def create(
            type: HASH_OF_MAPS,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> MapOfMaps[Any]: ...
        @overload
        @staticmethod
        def create(
            type: DEVMAP,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> DevMap[int]: ...
        @overload
        @staticmethod
        def create(
            type: DEVMAP_HASH,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> DevMap[Any]: ...
        @overload
        @staticmethod
        def create(
            type: CPUMAP,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> CpuMap: ...
        @overload
        @staticmethod
        def create(
            type: XSKMAP,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> XskMap: ...
        @overload
        @staticmethod
        def create(
            type: SOCKMAP,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> SockMap[int]: ...
        @overload
        @staticmethod
        def create(
            type: SOCKHASH,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> SockMap[Any]: ...
        @overload
        @staticmethod
        def create(
            type: CGROUP_STORAGE,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> CgroupStorageMap[Any, Any]: ...
        @overload
        @staticmethod
        def create(
            type: PERCPU_CGROUP_STORAGE,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> PerCpuCgroupStorageMap[Any, Any]: ...
        @overload
        @staticmethod
        def create(
            type: ARENA,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> ArenaMap: ...
        @overload
        @staticmethod
        def create(
            type: MapType | int | str,
            key_size: int | None = ...,
            value_size: int | None = ...,
            max_entries: int = ...,
            flags: MapFlags | int = ...,
            **options: Unpack[TypesAndRest],
        ) -> AnyMap: ...
        @staticmethod
        def create(
            type: MapType | int | str,
            key_size: int | None = None,
            value_size: int | None = None,
            max_entries: int = 0,
            flags: MapFlags | int = 0,
            **options: Unpack[TypesAndRest],
        ) -> AnyMap:
            return base.Map.create(type, key_size, value_size, max_entries, flags, **options)

    class HashMap(hash.HashMap[K, V], Map[K, V]): ...

    class LruHashMap(hash.LruHashMap[K, V], Map[K, V]): ...

    class PerCpuHashMap(percpu.PerCpuHashMap[K, V], Map[K, PerCpu[V]]): ...

    class LruPerCpuHashMap(percpu.LruPerCpuHashMap[K, V], PerCpuHashMap[K, V]): ...

    class ArrayMap(array.ArrayMap[V], Map[int, V]): ...

    class PerCpuArrayMap(percpu.PerCpuArrayMap[V], ArrayMap[PerCpu[V]]): ...

    class QueueMap(queue.QueueMap[V], Map[None, V]): ...

    class StackMap(queue.StackMap[V], QueueMap[V]): ...

    class BloomFilterMap(bloom.BloomFilterMap[V], Map[None, V]): ...

    class RingbufMap(ringbuf.RingbufMap[V], Map[None, V]): ...

    class UserRingbufMap(ringbuf.UserRingbufMap[V], Map[None, V]): ...

    class LpmTrieMap(lpm.LpmTrieMap[V], Map[Any, V]): ...

    class PerfEventArrayMap(fd_values.PerfEventArrayMap[E], Map[int, Any]): ...

    class ProgArrayMap(fd_values.ProgArrayMap, Map[int, Any]): ...

    class CgroupArrayMap(fd_values.CgroupArrayMap, Map[int, Any]): ...

    class MapOfMaps(fd_values.MapOfMaps[K], Map[K, Any]): ...

    class DevMap(fd_values.DevMap[K], Map[K, Any]): ...

    class CpuMap(fd_values.CpuMap, DevMap[int]): ...

    class XskMap(fd_values.XskMap, Map[int, Any]): ...

    class SockMap(fd_values.SockMap[K], Map[K, Any]): ...

    class StackTraceMap(stack_trace.StackTraceMap, Map[int, list[Any]]): ...

    class StorageMap(storage.StorageMap[V], Map[Any, V]): ...

    class CgroupStorageMap(cgroup_storage.CgroupStorageMap[K, V], Map[K, V]): ...

    class PerCpuCgroupStorageMap(cgroup_storage.PerCpuCgroupStorageMap[K, V], Map[K, PerCpu[V]]): ...

    class ArenaMap(arena.ArenaMap, Map[None, None]): ...

    class StructOpsMap(struct_ops.StructOpsMap, Map[int, bytes]): ...

    class RawMap(raw.RawMap[K, V], Map[K, V]): ...
