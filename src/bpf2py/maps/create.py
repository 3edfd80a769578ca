"""What `Map.create` gives, by the map type and the types of its keys and values; for type checkers alone."""

# A type that is not literal may be any of the literal ones.
# mypy: disable-error-code="overload-overlap"

from __future__ import annotations

from bpf2py._typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict, TypeVar, overload
from bpf2py.btf.codec import Codec
from bpf2py.uapi.map_types import MapFlags, MapType

if TYPE_CHECKING:
    from typing import Unpack

    from bpf2py.backends import BackendChoice
    from bpf2py.maps import (
        AnyMap,
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
        MapOfMaps,
        PerCpuArrayMap,
        PerCpuCgroupStorageMap,
        PerCpuHashMap,
        PerfEventArrayMap,
        ProgArrayMap,
        QueueMap,
        RingbufMap,
        SockMap,
        StackMap,
        StackTraceMap,
        UserRingbufMap,
        XskMap,
    )
    from bpf2py.spec.map_spec import MapSpec

__all__ = ["CreateMap", "Integer", "TypeName", "Typed"]

K = TypeVar("K")
V = TypeVar("V")

# Names of C types whose values are an int.
Integer: TypeAlias = Literal[
    "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "__u8", "__u16", "__u32", "__u64", "__s8", "__s16", "__s32", "__s64",
    "uint8_t", "uint16_t", "uint32_t", "uint64_t", "int8_t", "int16_t", "int32_t", "int64_t", "short", "unsigned short", "int",
    "unsigned int", "unsigned", "long", "unsigned long", "long long", "unsigned long long", "size_t", "pid_t",
]  # fmt: skip
# A codec, or a class of a generated module.
Typed: TypeAlias = Codec[V] | type[V]
# What `key=`, `value=` and a reader's `type=` take: also other C types by name, and a number of raw bytes.
TypeName: TypeAlias = str | int | Codec[Any] | type[Any]


class Options(TypedDict, total=False):
    """Options of `Map.create` that say nothing of types."""

    key_size: int | None
    value_size: int | None
    max_entries: int
    flags: MapFlags | int
    name: str
    map_extra: int
    numa_node: int | None
    inner: MapSpec | None
    exclusive: bytes | None
    backend: BackendChoice


class OptionsAndKey(Options, total=False):
    """With the type of keys, where the map type says it."""

    key: TypeName | None


class AllOptions(OptionsAndKey, total=False):
    """With the types of keys and values, of which nothing more is known."""

    value: TypeName | None


class CreateMap(Protocol):
    """`Map.create`."""

    @overload
    def __call__(
        self, type: Literal[MapType.HASH, "HASH"], *, key: Integer, value: Integer, **options: Unpack[Options]
    ) -> HashMap[int, int]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.HASH, "HASH"], *, key: Integer, value: Typed[V], **options: Unpack[Options]
    ) -> HashMap[int, V]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.HASH, "HASH"], *, key: Typed[K], value: Integer, **options: Unpack[Options]
    ) -> HashMap[K, int]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.HASH, "HASH"], *, key: Typed[K], value: Typed[V], **options: Unpack[Options]
    ) -> HashMap[K, V]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.HASH, "HASH"], *sizes: int, **options: Unpack[AllOptions]
    ) -> HashMap[Any, Any]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.LRU_HASH, "LRU_HASH"], *, key: Integer, value: Integer, **options: Unpack[Options]
    ) -> LruHashMap[int, int]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.LRU_HASH, "LRU_HASH"], *, key: Integer, value: Typed[V], **options: Unpack[Options]
    ) -> LruHashMap[int, V]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.LRU_HASH, "LRU_HASH"], *, key: Typed[K], value: Integer, **options: Unpack[Options]
    ) -> LruHashMap[K, int]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.LRU_HASH, "LRU_HASH"], *, key: Typed[K], value: Typed[V], **options: Unpack[Options]
    ) -> LruHashMap[K, V]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.LRU_HASH, "LRU_HASH"], *sizes: int, **options: Unpack[AllOptions]
    ) -> LruHashMap[Any, Any]: ...
    @overload
    def __call__(
        self,
        type: Literal[MapType.PERCPU_HASH, "PERCPU_HASH"],
        *,
        key: Integer,
        value: Integer,
        **options: Unpack[Options],
    ) -> PerCpuHashMap[int, int]: ...
    @overload
    def __call__(
        self,
        type: Literal[MapType.PERCPU_HASH, "PERCPU_HASH"],
        *,
        key: Integer,
        value: Typed[V],
        **options: Unpack[Options],
    ) -> PerCpuHashMap[int, V]: ...
    @overload
    def __call__(
        self,
        type: Literal[MapType.PERCPU_HASH, "PERCPU_HASH"],
        *,
        key: Typed[K],
        value: Integer,
        **options: Unpack[Options],
    ) -> PerCpuHashMap[K, int]: ...
    @overload
    def __call__(
        self,
        type: Literal[MapType.PERCPU_HASH, "PERCPU_HASH"],
        *,
        key: Typed[K],
        value: Typed[V],
        **options: Unpack[Options],
    ) -> PerCpuHashMap[K, V]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.PERCPU_HASH, "PERCPU_HASH"], *sizes: int, **options: Unpack[AllOptions]
    ) -> PerCpuHashMap[Any, Any]: ...
    @overload
    def __call__(
        self,
        type: Literal[MapType.LRU_PERCPU_HASH, "LRU_PERCPU_HASH"],
        *,
        key: Integer,
        value: Integer,
        **options: Unpack[Options],
    ) -> LruPerCpuHashMap[int, int]: ...
    @overload
    def __call__(
        self,
        type: Literal[MapType.LRU_PERCPU_HASH, "LRU_PERCPU_HASH"],
        *,
        key: Integer,
        value: Typed[V],
        **options: Unpack[Options],
    ) -> LruPerCpuHashMap[int, V]: ...
    @overload
    def __call__(
        self,
        type: Literal[MapType.LRU_PERCPU_HASH, "LRU_PERCPU_HASH"],
        *,
        key: Typed[K],
        value: Integer,
        **options: Unpack[Options],
    ) -> LruPerCpuHashMap[K, int]: ...
    @overload
    def __call__(
        self,
        type: Literal[MapType.LRU_PERCPU_HASH, "LRU_PERCPU_HASH"],
        *,
        key: Typed[K],
        value: Typed[V],
        **options: Unpack[Options],
    ) -> LruPerCpuHashMap[K, V]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.LRU_PERCPU_HASH, "LRU_PERCPU_HASH"], *sizes: int, **options: Unpack[AllOptions]
    ) -> LruPerCpuHashMap[Any, Any]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.ARRAY, "ARRAY"], *, value: Integer, **options: Unpack[OptionsAndKey]
    ) -> ArrayMap[int]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.ARRAY, "ARRAY"], *, value: Typed[V], **options: Unpack[OptionsAndKey]
    ) -> ArrayMap[V]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.ARRAY, "ARRAY"], *sizes: int, **options: Unpack[AllOptions]
    ) -> ArrayMap[Any]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.PERCPU_ARRAY, "PERCPU_ARRAY"], *, value: Integer, **options: Unpack[OptionsAndKey]
    ) -> PerCpuArrayMap[int]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.PERCPU_ARRAY, "PERCPU_ARRAY"], *, value: Typed[V], **options: Unpack[OptionsAndKey]
    ) -> PerCpuArrayMap[V]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.PERCPU_ARRAY, "PERCPU_ARRAY"], *sizes: int, **options: Unpack[AllOptions]
    ) -> PerCpuArrayMap[Any]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.QUEUE, "QUEUE"], *, value: Integer, **options: Unpack[OptionsAndKey]
    ) -> QueueMap[int]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.QUEUE, "QUEUE"], *, value: Typed[V], **options: Unpack[OptionsAndKey]
    ) -> QueueMap[V]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.QUEUE, "QUEUE"], *sizes: int, **options: Unpack[AllOptions]
    ) -> QueueMap[Any]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.STACK, "STACK"], *, value: Integer, **options: Unpack[OptionsAndKey]
    ) -> StackMap[int]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.STACK, "STACK"], *, value: Typed[V], **options: Unpack[OptionsAndKey]
    ) -> StackMap[V]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.STACK, "STACK"], *sizes: int, **options: Unpack[AllOptions]
    ) -> StackMap[Any]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.BLOOM_FILTER, "BLOOM_FILTER"], *, value: Integer, **options: Unpack[OptionsAndKey]
    ) -> BloomFilterMap[int]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.BLOOM_FILTER, "BLOOM_FILTER"], *, value: Typed[V], **options: Unpack[OptionsAndKey]
    ) -> BloomFilterMap[V]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.BLOOM_FILTER, "BLOOM_FILTER"], *sizes: int, **options: Unpack[AllOptions]
    ) -> BloomFilterMap[Any]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.RINGBUF, "RINGBUF"], *, value: Integer, **options: Unpack[OptionsAndKey]
    ) -> RingbufMap[int]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.RINGBUF, "RINGBUF"], *, value: Typed[V], **options: Unpack[OptionsAndKey]
    ) -> RingbufMap[V]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.RINGBUF, "RINGBUF"], *sizes: int, **options: Unpack[AllOptions]
    ) -> RingbufMap[Any]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.USER_RINGBUF, "USER_RINGBUF"], *, value: Integer, **options: Unpack[OptionsAndKey]
    ) -> UserRingbufMap[int]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.USER_RINGBUF, "USER_RINGBUF"], *, value: Typed[V], **options: Unpack[OptionsAndKey]
    ) -> UserRingbufMap[V]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.USER_RINGBUF, "USER_RINGBUF"], *sizes: int, **options: Unpack[AllOptions]
    ) -> UserRingbufMap[Any]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.LPM_TRIE, "LPM_TRIE"], *, value: Integer, **options: Unpack[OptionsAndKey]
    ) -> LpmTrieMap[int]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.LPM_TRIE, "LPM_TRIE"], *, value: Typed[V], **options: Unpack[OptionsAndKey]
    ) -> LpmTrieMap[V]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.LPM_TRIE, "LPM_TRIE"], *sizes: int, **options: Unpack[AllOptions]
    ) -> LpmTrieMap[Any]: ...
    @overload
    def __call__(
        self,
        type: Literal[MapType.PERF_EVENT_ARRAY, "PERF_EVENT_ARRAY"],
        *,
        value: Integer,
        **options: Unpack[OptionsAndKey],
    ) -> PerfEventArrayMap[int]: ...
    @overload
    def __call__(
        self,
        type: Literal[MapType.PERF_EVENT_ARRAY, "PERF_EVENT_ARRAY"],
        *,
        value: Typed[V],
        **options: Unpack[OptionsAndKey],
    ) -> PerfEventArrayMap[V]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.PERF_EVENT_ARRAY, "PERF_EVENT_ARRAY"], *sizes: int, **options: Unpack[AllOptions]
    ) -> PerfEventArrayMap[Any]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.PROG_ARRAY, "PROG_ARRAY"], *sizes: int, **options: Unpack[AllOptions]
    ) -> ProgArrayMap: ...
    @overload
    def __call__(
        self, type: Literal[MapType.CGROUP_ARRAY, "CGROUP_ARRAY"], *sizes: int, **options: Unpack[AllOptions]
    ) -> CgroupArrayMap: ...
    @overload
    def __call__(
        self, type: Literal[MapType.STACK_TRACE, "STACK_TRACE"], *sizes: int, **options: Unpack[AllOptions]
    ) -> StackTraceMap: ...
    @overload
    def __call__(
        self, type: Literal[MapType.ARRAY_OF_MAPS, "ARRAY_OF_MAPS"], *sizes: int, **options: Unpack[AllOptions]
    ) -> MapOfMaps[int]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.HASH_OF_MAPS, "HASH_OF_MAPS"], *sizes: int, **options: Unpack[AllOptions]
    ) -> MapOfMaps[Any]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.DEVMAP, "DEVMAP"], *sizes: int, **options: Unpack[AllOptions]
    ) -> DevMap[int]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.DEVMAP_HASH, "DEVMAP_HASH"], *sizes: int, **options: Unpack[AllOptions]
    ) -> DevMap[Any]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.CPUMAP, "CPUMAP"], *sizes: int, **options: Unpack[AllOptions]
    ) -> CpuMap: ...
    @overload
    def __call__(
        self, type: Literal[MapType.XSKMAP, "XSKMAP"], *sizes: int, **options: Unpack[AllOptions]
    ) -> XskMap: ...
    @overload
    def __call__(
        self, type: Literal[MapType.SOCKMAP, "SOCKMAP"], *sizes: int, **options: Unpack[AllOptions]
    ) -> SockMap[int]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.SOCKHASH, "SOCKHASH"], *sizes: int, **options: Unpack[AllOptions]
    ) -> SockMap[Any]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.CGROUP_STORAGE, "CGROUP_STORAGE"], *sizes: int, **options: Unpack[AllOptions]
    ) -> CgroupStorageMap[Any, Any]: ...
    @overload
    def __call__(
        self,
        type: Literal[MapType.PERCPU_CGROUP_STORAGE, "PERCPU_CGROUP_STORAGE"],
        *sizes: int,
        **options: Unpack[AllOptions],
    ) -> PerCpuCgroupStorageMap[Any, Any]: ...
    @overload
    def __call__(
        self, type: Literal[MapType.ARENA, "ARENA"], *sizes: int, **options: Unpack[AllOptions]
    ) -> ArenaMap: ...
    @overload
    def __call__(self, type: MapType | int | str, *sizes: int, **options: Unpack[AllOptions]) -> AnyMap: ...
