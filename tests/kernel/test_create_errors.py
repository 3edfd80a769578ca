"""Every reason `bpf2py.spec.check_map` gives: the kernel must really refuse, the message must name the field."""

from __future__ import annotations

import errno
import mmap
import os
import platform
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapFlags, MapSpec, MapType
from bpf2py.uapi.map_types import MAP_TYPE_INFO, type_info

pytestmark = pytest.mark.kernel

F = MapFlags
T = MapType
RELEASE = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])

# (type, fields that differ from a plain 4 -> 8 map of 10, errnos, what the message says)
CASES: list[tuple[MapType, dict[str, Any], tuple[int, ...], str]] = [
    (T.ARRAY, {"key_size": 8}, (errno.EINVAL,), "key_size must be 4 for ARRAY, is 8"),
    (T.PERCPU_ARRAY, {"key_size": 2}, (errno.EINVAL,), "key_size must be 4 for PERCPU_ARRAY, is 2"),
    (T.DEVMAP_HASH, {"key_size": 8}, (errno.EINVAL,), "key_size must be 4 for DEVMAP_HASH, is 8"),
    (T.STACK_TRACE, {"key_size": 8}, (errno.EINVAL,), "key_size must be 4 for STACK_TRACE, is 8"),
    (T.SOCKMAP, {"key_size": 8}, (errno.EINVAL,), "key_size must be 4 for SOCKMAP, is 8"),
    (T.CPUMAP, {"key_size": 8}, (errno.EINVAL,), "key_size must be 4 for CPUMAP, is 8"),
    (T.QUEUE, {"key_size": 4}, (errno.EINVAL,), "key_size must be 0 for QUEUE, is 4"),
    (T.STACK, {"key_size": 4}, (errno.EINVAL,), "key_size must be 0 for STACK, is 4"),
    (T.BLOOM_FILTER, {"key_size": 4}, (errno.EINVAL,), "key_size must be 0 for BLOOM_FILTER, is 4"),
    (T.RINGBUF, {"key_size": 4, "value_size": 0, "max_entries": 4096}, (errno.EINVAL,), "key_size must be 0 for RINGBUF"),
    (T.RINGBUF, {"key_size": 0, "value_size": 8, "max_entries": 4096}, (errno.EINVAL,), "value_size must be 0 for RINGBUF"),
    (T.PROG_ARRAY, {"value_size": 8}, (errno.EINVAL,), "value_size must be 4 for PROG_ARRAY, is 8"),
    (T.PERF_EVENT_ARRAY, {"value_size": 8}, (errno.EINVAL,), "value_size must be 4 for PERF_EVENT_ARRAY, is 8"),
    (T.CGROUP_ARRAY, {"value_size": 8}, (errno.EINVAL,), "value_size must be 4 for CGROUP_ARRAY, is 8"),
    (T.XSKMAP, {"value_size": 8}, (errno.EINVAL,), "value_size must be 4 for XSKMAP, is 8"),
    (T.ARENA, {"key_size": 0, "value_size": 8, "flags": F.MMAPABLE}, (errno.EINVAL,), "value_size must be 0 for ARENA, is 8"),
    (T.HASH, {"max_entries": 0}, (errno.EINVAL,), "max_entries must not be 0 for HASH"),
    (T.ARRAY, {"max_entries": 0}, (errno.EINVAL,), "max_entries must not be 0 for ARRAY"),
    (T.QUEUE, {"key_size": 0, "max_entries": 0}, (errno.EINVAL,), "max_entries must not be 0 for QUEUE"),
    (T.LPM_TRIE, {"key_size": 8, "max_entries": 0, "flags": F.NO_PREALLOC}, (errno.EINVAL,), "max_entries must not be 0"),
    (T.HASH, {"value_size": 0}, (errno.EINVAL,), "value_size must not be 0 for HASH"),
    (T.ARRAY, {"value_size": 0}, (errno.EINVAL,), "value_size must not be 0 for ARRAY"),
    (T.LRU_HASH, {"key_size": 0}, (errno.EINVAL,), "key_size must not be 0 for LRU_HASH"),
    (T.HASH, {"value_size": 1 << 31}, (errno.E2BIG,), "key_size + value_size must stay below"),
    (T.PERCPU_HASH, {"value_size": (32 << 10) + 1}, (errno.E2BIG,), "value_size must be at most 32768 for PERCPU_HASH"),
    (T.PERCPU_ARRAY, {"value_size": (32 << 10) + 1}, (errno.E2BIG,), "value_size must be at most 32768 for PERCPU_ARRAY"),
    (T.HASH, {"max_entries": 1 << 31, "flags": F.NO_PREALLOC}, (errno.E2BIG,), "max_entries must be at most"),
    (T.LPM_TRIE, {"key_size": 4, "flags": F.NO_PREALLOC}, (errno.EINVAL,), "key_size must be 5..260 for LPM_TRIE"),
    (T.LPM_TRIE, {"key_size": 261, "flags": F.NO_PREALLOC}, (errno.EINVAL,), "key_size must be 5..260 for LPM_TRIE"),
    (T.RINGBUF, {"key_size": 0, "value_size": 0, "max_entries": mmap.PAGESIZE * 3}, (errno.EINVAL,), "and must be a power of two"),
    (T.RINGBUF, {"key_size": 0, "value_size": 0, "max_entries": 1024}, (errno.EINVAL,), "and must be a power of two"),
    (T.USER_RINGBUF, {"key_size": 0, "value_size": 0, "max_entries": 5000}, (errno.EINVAL,), "and must be a power of two"),
    (T.STACK_TRACE, {"value_size": 12}, (errno.EINVAL,), "value_size of STACK_TRACE must be a multiple of 8"),
    (T.STACK_TRACE, {"value_size": 1024}, (errno.EINVAL,), "hold at most 127 frames, is 1024"),
    (T.STACK_TRACE, {"value_size": 48, "flags": F.STACK_BUILD_ID}, (errno.EINVAL,), "must be a multiple of 32"),
    (T.QUEUE, {"key_size": 0, "value_size": (1 << 22) + 1}, (errno.E2BIG,), "value_size must be at most 4194304 for QUEUE"),
    (T.STACK, {"key_size": 0, "value_size": 1 << 23}, (errno.E2BIG,), "value_size must be at most 4194304 for STACK"),
    (T.BLOOM_FILTER, {"key_size": 0, "value_size": (1 << 22) + 1}, (errno.E2BIG,), "value_size must be at most 4194304"),
    (T.ARRAY, {"flags": F.NO_PREALLOC}, (errno.EINVAL,), "NO_PREALLOC is not allowed for ARRAY"),
    (T.LRU_HASH, {"flags": F.NO_PREALLOC}, (errno.EINVAL, 524), "NO_PREALLOC is not allowed for LRU_HASH"),
    (T.QUEUE, {"key_size": 0, "flags": F.NO_PREALLOC}, (errno.EINVAL,), "NO_PREALLOC is not allowed for QUEUE"),
    (T.LPM_TRIE, {"key_size": 8}, (errno.EINVAL,), "LPM_TRIE needs map_flags BPF_F_NO_PREALLOC"),
    (T.HASH, {"flags": F.NO_COMMON_LRU}, (errno.EINVAL,), "NO_COMMON_LRU is for LRU_HASH and LRU_PERCPU_HASH, not for HASH"),
    (T.ARRAY, {"flags": F.NO_COMMON_LRU}, (errno.EINVAL,), "NO_COMMON_LRU is for"),
    (T.PERCPU_ARRAY, {"flags": F.NUMA_NODE}, (errno.EINVAL,), "NUMA_NODE is not allowed for PERCPU_ARRAY"),
    (T.PERCPU_HASH, {"flags": F.NUMA_NODE}, (errno.EINVAL,), "NUMA_NODE is not allowed for PERCPU_HASH"),
    (T.LRU_HASH, {"flags": F.NUMA_NODE | F.NO_COMMON_LRU}, (errno.EINVAL,), "not allowed for LRU_HASH with NO_COMMON_LRU"),
    (T.HASH, {"flags": F.RDONLY | F.WRONLY}, (errno.EINVAL,), "RDONLY and WRONLY exclude each other"),
    (T.HASH, {"flags": F.RDONLY_PROG | F.WRONLY_PROG}, (errno.EINVAL,), "RDONLY_PROG and WRONLY_PROG exclude each other"),
    (T.HASH, {"flags": F.MMAPABLE}, (errno.EINVAL,), "MMAPABLE is for ARRAY and ARENA, not for HASH"),
    (T.PERCPU_ARRAY, {"flags": F.MMAPABLE}, (errno.EINVAL,), "MMAPABLE is for ARRAY and ARENA, not for PERCPU_ARRAY"),
    (T.HASH, {"flags": F.INNER_MAP}, (errno.EINVAL,), "INNER_MAP is for ARRAY, not for HASH"),
    (T.PERCPU_ARRAY, {"flags": F.INNER_MAP}, (errno.EINVAL,), "INNER_MAP is for ARRAY, not for PERCPU_ARRAY"),
    (T.ARRAY, {"flags": F.PRESERVE_ELEMS}, (errno.EINVAL,), "PRESERVE_ELEMS is for PERF_EVENT_ARRAY, not for ARRAY"),
    (T.HASH, {"flags": F.PRESERVE_ELEMS}, (errno.EINVAL,), "PRESERVE_ELEMS is for PERF_EVENT_ARRAY, not for HASH"),
    (T.HASH, {"flags": F.STACK_BUILD_ID}, (errno.EINVAL,), "STACK_BUILD_ID is for STACK_TRACE, not for HASH"),
    (T.ARRAY, {"flags": F.ZERO_SEED}, (errno.EINVAL,), "ZERO_SEED is for hash maps and BLOOM_FILTER, not for ARRAY"),
    (T.QUEUE, {"key_size": 0, "flags": F.ZERO_SEED}, (errno.EINVAL,), "ZERO_SEED is for hash maps"),
    (T.HASH, {"map_extra": 1}, (errno.EINVAL,), "map_extra must be 0 for HASH, is 1"),
    (T.BLOOM_FILTER, {"key_size": 0, "map_extra": 16}, (errno.EINVAL,), "map_extra of BLOOM_FILTER is its number of hash"),
    (T.ARRAY_OF_MAPS, {"value_size": 4}, (errno.EINVAL, errno.EBADF), "ARRAY_OF_MAPS needs the definition of its inner maps"),
    (T.HASH_OF_MAPS, {"value_size": 4}, (errno.EINVAL, errno.EBADF), "HASH_OF_MAPS needs the definition of its inner maps"),
    (T.ARENA, {"key_size": 0, "value_size": 0}, (errno.EINVAL,), "ARENA needs map_flags BPF_F_MMAPABLE"),
]  # fmt: skip
for _kind in (T.SK_STORAGE, T.INODE_STORAGE, T.TASK_STORAGE, T.CGRP_STORAGE):
    CASES += [
        (_kind, {"max_entries": 5, "flags": F.NO_PREALLOC}, (errno.EINVAL,), f"max_entries must be 0 for {_kind.name}"),
        (_kind, {"key_size": 8, "max_entries": 0, "flags": F.NO_PREALLOC}, (errno.EINVAL,), "key_size must be 4"),
        (_kind, {"max_entries": 0}, (errno.EINVAL,), f"{_kind.name} needs map_flags BPF_F_NO_PREALLOC"),
        (_kind, {"max_entries": 0, "flags": F.NO_PREALLOC}, (errno.EINVAL,), f"{_kind.name} needs BTF"),
    ]


def new_enough(kind: MapType) -> bool:
    return tuple(int(part) for part in MAP_TYPE_INFO[kind].since.split(".")) <= RELEASE


@pytest.mark.parametrize(
    ("kind", "fields", "errnos", "words"), CASES, ids=lambda case: case.name if isinstance(case, MapType) else None
)
def test_the_kernel_refuses_and_the_message_names_the_field(
    kind: MapType, fields: dict[str, Any], errnos: tuple[int, ...], words: str
) -> None:
    arguments = {"key_size": 4, "value_size": 8, "max_entries": 10, "name": "my_map", **fields}
    if new_enough(kind):
        with pytest.raises(bpf2py.MapCreateError) as caught:
            Map.create(kind, **arguments)
        assert str(caught.value).startswith("map my_map: create: "), str(caught.value)
        assert words in str(caught.value)
        assert caught.value.errno in errnos, str(caught.value)
        assert caught.value.command == "BPF_MAP_CREATE"


def test_the_errno_is_named(refused: Callable[..., Any]) -> None:
    words = "map my_array_map: create: key_size must be 4 for ARRAY, is 8 (EINVAL)"
    with refused(bpf2py.MapCreateError, errno.EINVAL, words):
        Map.create(MapType.ARRAY, 8, 4, 1, name="my_array_map")


def test_in_an_object(build: Callable[[str], bpf2py.ObjectSpec], refused: Callable[..., Any]) -> None:
    source = """
    struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 5); __type(key, __u64); __type(value, __u32); }
        my_array_map SEC(".maps");
    """
    with refused(bpf2py.MapCreateError, errno.EINVAL, "map my_array_map: create: key_size must be 4 for ARRAY, is 8"):
        bpf2py.load(build(source))


@pytest.mark.parametrize("kind", [k for k in MapType if k in MAP_TYPE_INFO], ids=lambda kind: kind.name)
def test_every_type_can_be_created(kind: MapType) -> None:
    if not new_enough(kind) or kind in (T.STRUCT_OPS, T.INSN_ARRAY) or kind.name.endswith("_STORAGE"):
        return  # the last need BTF or a link: tested with objects
    info = type_info(kind)
    fields: dict[str, Any] = {
        "key_size": 4 if info.key_size is None else info.key_size,
        "value_size": 8 if info.value_size is None else info.value_size,
        "max_entries": 4,
        "flags": F.NO_PREALLOC if info.no_prealloc == "required" else F(0),
    }
    if kind in (T.RINGBUF, T.USER_RINGBUF):
        fields["max_entries"] = mmap.PAGESIZE
    if kind == T.LPM_TRIE:
        fields["key_size"] = 8
    if kind == T.ARENA:
        fields["flags"] = F.MMAPABLE
    if kind in (T.ARRAY_OF_MAPS, T.HASH_OF_MAPS):
        fields["inner"] = MapSpec("inner", T.ARRAY, 4, 4, 1)
    with Map.create(kind, **fields) as made:
        assert made.type == kind
        assert made.key_size == fields["key_size"]


def test_large_keys_where_the_kernel_takes_them() -> None:
    # Kernels differ: a refusal must say why.
    try:
        Map.create("HASH", 1000, 4, 10, name="large").close()
    except bpf2py.MapCreateError as error:
        refusal = str(error)
    else:
        refusal = ""
    assert refusal == "" or "key_size must be at most 512 for HASH, is 1000" in refusal


@pytest.mark.parametrize("number", [200, 1000])
def test_types_nobody_knows_yet(number: int, refused: Callable[..., Any]) -> None:
    with refused(
        bpf2py.MapCreateError, errno.EINVAL, f"map {number}: create: the kernel refused <MapSpec {number}: {number} "
    ):
        Map.create(number, 4, 4, 1)


def test_a_type_newer_than_the_table_opens_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    from bpf2py.maps import base
    from bpf2py.maps.raw import RawMap

    with Map.create("HASH", key="u32", value="u32", max_entries=4) as made:
        # As a library would see it that was made before the type was.
        monkeypatch.setattr("bpf2py.maps.classes.map_type", lambda number: int(number))
        with Map.from_fd(made.fileno(), key="u32", value="u32") as raw:
            assert type(raw) is RawMap
            raw[1] = 2
            assert raw.snapshot() == made.snapshot() == {1: 2}
            assert base.Map.from_id is not None


def test_unprivileged(refused: Callable[..., Any]) -> None:
    if os.getuid() != 0:
        return
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setuid(65534)
            try:
                Map.create("HASH", key="u32", value="u32", max_entries=4, name="mine")
            except bpf2py.PermissionDenied as error:
                code = 0 if "map mine: create: " in str(error) and "CAP_BPF" in str(error) else 3
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_entries": -1}, "max_entries must be a number of 32 bits, is -1"),
        ({"max_entries": (1 << 32) + 5}, f"max_entries must be a number of 32 bits, is {(1 << 32) + 5}"),
        ({"key_size": -4}, "key_size must be a number of 32 bits, is -4"),
        ({"value_size": 1 << 40}, f"value_size must be a number of 32 bits, is {1 << 40}"),
        ({"flags": 1 << 33}, "flags must be a number of 32 bits, are 0x200000000"),
    ],
)
def test_numbers_are_not_cut_off(fields: dict[str, Any], message: str, refused: Callable[..., Any]) -> None:
    with refused(bpf2py.MapCreateError, errno.EINVAL, message):
        Map.create("HASH", **{"key_size": 4, "value_size": 4, "max_entries": 5, "name": "wide", **fields})


def test_misspelt_types() -> None:
    with pytest.raises(bpf2py.EncodeError, match="there is no map type 'lru_hahs'; did you mean LRU_HASH"):
        Map.create("lru_hahs", key="u32", value="u32", max_entries=1)


@pytest.mark.parametrize("backend", ["kernel", "engine"])
@pytest.mark.parametrize(
    ("sizes", "field"), [(("u32", "u64", 10), "key_size"), ((4, "u64", 10), "value_size"), ((4, 8, 1.5), "max_entries")]
)
def test_types_in_place_of_sizes(backend: str, sizes: Any, field: str) -> None:
    with pytest.raises(bpf2py.EncodeError, match=f'{field} is a number.*key="u32"'):
        Map.create(MapType.HASH, *sizes, backend=backend)
