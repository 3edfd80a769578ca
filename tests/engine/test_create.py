"""Creating maps: the engine gives the errno the kernel gives, for each type and many sizes and flags."""

from __future__ import annotations

import itertools
import os
import platform
from collections.abc import Iterator
from typing import Any

import pytest

from bpf2py.engine import Engine
from bpf2py.engine.maps.check import create_errno
from bpf2py.engine.maps.fields import NO_FIELDS
from bpf2py.errors import MapCreateError, NotSupported
from bpf2py.kernel.map import _CREATE
from bpf2py.kernel.syscall import bpf
from bpf2py.spec.map_spec import MapSpec
from bpf2py.uapi import cpus
from bpf2py.uapi.commands import Command
from bpf2py.uapi.map_types import MapFlags, MapType

KEYS = (0, 1, 4, 5, 8, 16, 260, 261, 512, 513, 1 << 22)
VALUES = (
    0,
    1,
    4,
    7,
    8,
    12,
    32,
    1016,
    1024,
    4064,
    32768,
    32769,
    65408,
    65536,
    (1 << 22) - 52,
    (1 << 22) - 4,
    1 << 22,
    (1 << 22) + 1,
)
ENTRIES = (0, 1, 5, 4096, 12288, 8193)
FLAGS = [0, *(1 << bit for bit in range(20)), 3, 24, 384, 1 | 4, 2 | 4, 1 | 64, 0x400 | 8, 1 | 512]
# Those the engine does not have: it says so instead of checking them.
ABSENT = (
    MapType.UNSPEC, MapType.STRUCT_OPS, MapType.SOCKMAP, MapType.SOCKHASH, MapType.XSKMAP,
    MapType.REUSEPORT_SOCKARRAY, MapType.INSN_ARRAY,
)  # fmt: skip


def kernel_errno(spec: MapSpec, inner_fd: int) -> int:
    attr = _CREATE.pack(
        spec.type, spec.key_size, spec.value_size, spec.max_entries, int(spec.flags), inner_fd, spec.numa_node or 0,
        b"matrix", 0, 0, 0, 0, 0, spec.map_extra, 0, 0,
    )  # fmt: skip
    result = bpf(Command.MAP_CREATE, attr)
    if result >= 0:
        os.close(result)
        return 0
    return -result


def specs(kind: MapType) -> Iterator[MapSpec]:
    """Not every combination: all sizes with few flags, all flags with few sizes."""
    sizes = itertools.product(KEYS, VALUES, ENTRIES)
    for key, value, entries in sizes:
        if (key + value) * entries > 64 << 20:
            continue  # only the machine's memory would answer
        for flags in (0, 1):
            yield MapSpec("m", kind, key, value, entries, flags)
    for key, value, entries, flags in itertools.product((0, 4, 8), (0, 4, 8, 32), (0, 1, 4096), FLAGS):
        yield MapSpec("m", kind, key, value, entries, flags)
    for key, value, extra in itertools.product((0, 4), (0, 4, 8), (1, 15, 16, 1 << 40)):
        yield MapSpec("m", kind, key, value, 1, 0, map_extra=extra)
    for key, value, node in itertools.product((0, 4), (0, 4, 8), (0, 1, 1 << 20)):
        yield MapSpec("m", kind, key, value, 1, MapFlags.NUMA_NODE, numa_node=node)


@pytest.mark.kernel
@pytest.mark.parametrize("kind", [t for t in MapType if t not in ABSENT], ids=lambda t: t.name)
def test_errno_is_the_kernels(kind: MapType) -> None:
    version = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:3])
    inner = MapSpec("inner", MapType.HASH, 4, 4, 8)
    attr = _CREATE.pack(MapType.HASH, 4, 4, 8, 0, 0, 0, b"inner", 0, 0, 0, 0, 0, 0, 0, 0)
    inner_fd = bpf(Command.MAP_CREATE, attr) if kind in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS) else 0
    different = []
    seen = set()
    try:
        for spec in specs(kind):
            expected = kernel_errno(spec, inner_fd)
            if expected == 12:
                continue  # the machine's memory, not the spec
            if kind == MapType.CPUMAP and expected == 7:
                continue  # more than this kernel's NR_CPUS, which is not a property of its version
            got = create_errno(spec, version, cpus.possible_cpus(), NO_FIELDS, inner if inner_fd else None)
            seen.add(expected)
            if got != expected:
                different.append(
                    (spec, f"extra={spec.map_extra} node={spec.numa_node}", "kernel", expected, "engine", got)
                )
    finally:
        if inner_fd > 0:
            os.close(inner_fd)
    assert seen
    assert not different, f"{len(different)} differ: {different[:12]}"


@pytest.mark.parametrize(
    ("kind", "fields", "errno", "words"),
    [
        (MapType.ARRAY, (8, 4, 4, 0), 22, "key_size must be 4"),
        (MapType.HASH, (4, 4, 0, 0), 22, "max_entries must not be 0"),
        (MapType.HASH, (4, 4, (1 << 27) + 1, 1), 7, "max_entries must be at most"),
        (MapType.LRU_HASH, (4, 4, 8, 1), 524, "NO_PREALLOC is not allowed"),
        (MapType.RINGBUF, (0, 0, 4097, 0), 22, "power of two"),
        (MapType.LPM_TRIE, (8, 4, 8, 0), 22, "needs map_flags BPF_F_NO_PREALLOC"),
        (MapType.PERCPU_ARRAY, (4, 32769, 1, 0), 7, "value_size must be at most 32768"),
        (MapType.TASK_STORAGE, (4, 4, 0, 1), 22, "needs BTF"),
    ],
)
def test_errors_say_what_is_wrong(kind: MapType, fields: Any, errno: int, words: str) -> None:
    with pytest.raises(MapCreateError, match=words) as caught:
        Engine().create_map(MapSpec("m", kind, *fields))
    assert caught.value.errno == errno


def test_older_kernels_lack_types() -> None:
    with pytest.raises(NotSupported, match=r"BLOOM_FILTER needs Linux 5\.16, the engine simulates 5\.15") as caught:
        Engine(kernel="5.15").create_map(MapSpec("m", MapType.BLOOM_FILTER, 0, 4, 8))
    assert caught.value.errno == 22


@pytest.mark.parametrize("kind", [MapType.SOCKMAP, MapType.SOCKHASH])
def test_what_needs_a_kernel_says_so(kind: MapType) -> None:
    with pytest.raises(NotSupported, match=f"the engine has no {kind.name} maps"):
        Engine().create_map(MapSpec("m", kind, 4, 4, 8))


def test_large_maps_are_made_quickly() -> None:
    """Nothing is linked or touched at creation."""
    engine = Engine(possible_cpus=4)
    before = _resident()
    for kind in (MapType.HASH, MapType.LRU_HASH, MapType.ARRAY):
        engine.create_map(MapSpec("m", kind, 4, 8, 1 << 20)).close()
    assert _resident() - before < 4 << 20


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_memory_comes_back() -> None:
    engine = Engine()
    for _ in range(200):
        engine.create_map(MapSpec("m", MapType.ARRAY, 4, 8, 1 << 20)).close()
    with pytest.raises(MapCreateError, match="memory does not hold"):
        engine.create_map(MapSpec("m", MapType.ARRAY, 4, 1024, 1 << 22))
