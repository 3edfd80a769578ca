"""What `Map.create` takes, for type checkers alone: map types by their numbers and names, names of types, options."""

from __future__ import annotations

from bpf2py._typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict
from bpf2py.uapi.map_types import MapFlags, MapType

if TYPE_CHECKING:
    from bpf2py.backends import BackendChoice
    from bpf2py.btf.declare import TypeName
    from bpf2py.spec.map_spec import MapSpec

# Names of C types whose values are an int.
Integer: TypeAlias = Literal[
    "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "__u8", "__u16", "__u32", "__u64", "__s8", "__s16", "__s32", "__s64",
    "uint8_t", "uint16_t", "uint32_t", "uint64_t", "int8_t", "int16_t", "int32_t", "int64_t", "short", "unsigned short", "int",
    "unsigned int", "unsigned", "long", "unsigned long", "long long", "unsigned long long", "size_t", "pid_t",
]  # fmt: skip

# A type is given as it is or by its name.
HASH: TypeAlias = Literal[MapType.HASH, "HASH"]
LRU_HASH: TypeAlias = Literal[MapType.LRU_HASH, "LRU_HASH"]
PERCPU_HASH: TypeAlias = Literal[MapType.PERCPU_HASH, "PERCPU_HASH"]
LRU_PERCPU_HASH: TypeAlias = Literal[MapType.LRU_PERCPU_HASH, "LRU_PERCPU_HASH"]
ARRAY: TypeAlias = Literal[MapType.ARRAY, "ARRAY"]
PERCPU_ARRAY: TypeAlias = Literal[MapType.PERCPU_ARRAY, "PERCPU_ARRAY"]
QUEUE: TypeAlias = Literal[MapType.QUEUE, "QUEUE"]
STACK: TypeAlias = Literal[MapType.STACK, "STACK"]
BLOOM_FILTER: TypeAlias = Literal[MapType.BLOOM_FILTER, "BLOOM_FILTER"]
RINGBUF: TypeAlias = Literal[MapType.RINGBUF, "RINGBUF"]
USER_RINGBUF: TypeAlias = Literal[MapType.USER_RINGBUF, "USER_RINGBUF"]
LPM_TRIE: TypeAlias = Literal[MapType.LPM_TRIE, "LPM_TRIE"]
PERF_EVENT_ARRAY: TypeAlias = Literal[MapType.PERF_EVENT_ARRAY, "PERF_EVENT_ARRAY"]
PROG_ARRAY: TypeAlias = Literal[MapType.PROG_ARRAY, "PROG_ARRAY"]
CGROUP_ARRAY: TypeAlias = Literal[MapType.CGROUP_ARRAY, "CGROUP_ARRAY"]
STACK_TRACE: TypeAlias = Literal[MapType.STACK_TRACE, "STACK_TRACE"]
ARRAY_OF_MAPS: TypeAlias = Literal[MapType.ARRAY_OF_MAPS, "ARRAY_OF_MAPS"]
HASH_OF_MAPS: TypeAlias = Literal[MapType.HASH_OF_MAPS, "HASH_OF_MAPS"]
DEVMAP: TypeAlias = Literal[MapType.DEVMAP, "DEVMAP"]
DEVMAP_HASH: TypeAlias = Literal[MapType.DEVMAP_HASH, "DEVMAP_HASH"]
CPUMAP: TypeAlias = Literal[MapType.CPUMAP, "CPUMAP"]
XSKMAP: TypeAlias = Literal[MapType.XSKMAP, "XSKMAP"]
SOCKMAP: TypeAlias = Literal[MapType.SOCKMAP, "SOCKMAP"]
SOCKHASH: TypeAlias = Literal[MapType.SOCKHASH, "SOCKHASH"]
CGROUP_STORAGE: TypeAlias = Literal[MapType.CGROUP_STORAGE, "CGROUP_STORAGE"]
PERCPU_CGROUP_STORAGE: TypeAlias = Literal[MapType.PERCPU_CGROUP_STORAGE, "PERCPU_CGROUP_STORAGE"]
ARENA: TypeAlias = Literal[MapType.ARENA, "ARENA"]


class Rest(TypedDict, total=False):
    """Options of `Map.create` that say nothing of types and sizes."""

    name: str
    map_extra: int
    numa_node: int | None
    inner: MapSpec | None
    exclusive: bytes | None
    backend: BackendChoice


class TypesAndRest(Rest, total=False):
    """With the types of keys and values, of which nothing more is known."""

    key: TypeName | None
    value: TypeName | None


class Options(Rest, total=False):
    """All but the types."""

    key_size: int | None
    value_size: int | None
    max_entries: int
    flags: MapFlags | int


class OptionsAndKey(Options, total=False):
    """With the type of keys, where the map type says it."""

    key: TypeName | None
