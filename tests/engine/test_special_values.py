"""Values with members that are the kernel's own, storage maps, shared memory: as on the kernel."""

from __future__ import annotations

import errno
import mmap
import os
import random
import socket
from typing import Any

import pytest
from tests.engine.differential import CPUS, Pair, running_kernel

import bpf2py
from bpf2py import Map, MapFlags, MapType, UpdateFlags
from bpf2py.engine import Engine
from bpf2py.spec.map_spec import MapSpec

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
struct locked { int before; struct bpf_spin_lock lock; long after; char odd[5]; };
struct timed { char before[3]; struct bpf_timer timer; int after; };
struct both { struct bpf_timer timer; struct bpf_spin_lock lock; int after; };
#define MAP(name, kind, entries, flags, value_type) \\
    struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, entries); __uint(map_flags, flags); __type(key, int); \\
         __type(value, value_type); } name SEC(".maps")
MAP(locked_hash, HASH, 6, 64, struct locked);
MAP(sparse_hash, HASH, 6, 65, struct locked);
MAP(locked_array, ARRAY, 6, 0, struct locked);
MAP(timed_array, ARRAY, 6, 0, struct timed);
MAP(timed_lru, LRU_HASH, 6, 64, struct timed);
MAP(both_hash, HASH, 6, 64, struct both);
MAP(tasks, TASK_STORAGE, 0, 1, struct locked);
MAP(inodes, INODE_STORAGE, 0, 1, long);
MAP(sockets, SK_STORAGE, 0, 1, long);
"""
VALUES = ["locked_hash", "sparse_hash", "locked_array", "timed_array", "timed_lru", "both_hash"]
STORAGE = ["tasks", "inodes", "sockets"]


@pytest.fixture(scope="module")
def spec() -> bpf2py.ObjectSpec:
    return bpf2py.ObjectSpec.from_bytes(bpf2py.compile(SOURCE))


class Both:
    def __init__(self, spec: bpf2py.ObjectSpec, name: str) -> None:
        self.engine = Engine(kernel=running_kernel(), possible_cpus=CPUS)
        wanted = spec.copy()
        for other in list(wanted.maps):
            if other != name:
                del wanted.maps[other]
        self.objects = [bpf2py.load(wanted.copy()), bpf2py.load(wanted.copy(), backend=self.engine)]
        self.handles: list[Any] = [found.maps[name]._handle for found in self.objects]
        self.spec = wanted.maps[name]

    def close(self) -> None:
        for found in self.objects:
            found.close()


@pytest.mark.kernel
@pytest.mark.parametrize("name", VALUES)
def test_values_with_special_members(spec: bpf2py.ObjectSpec, name: str) -> None:
    both = Both(spec, name)
    try:
        rng = random.Random(name)
        for _ in range(10):
            pair = Pair(both.engine, both.spec, rng, *both.handles)
            pair.run(200)
        assert pair.counts
        assert [handle.freeze() for handle in both.handles] == [-524, -524]
    finally:
        os.sched_setaffinity(0, range(CPUS))
        both.close()


class StoragePair(Pair):
    """Keys are descriptors of this process."""

    def make_key(self) -> bytes:
        fd: int = self.rng.choice(self.descriptors)
        return (fd & 0xFFFFFFFF).to_bytes(4, "little")

    def __init__(self, *arguments: Any, descriptors: list[int]) -> None:
        self.descriptors = descriptors
        super().__init__(*arguments)


@pytest.mark.kernel
@pytest.mark.parametrize("name", STORAGE)
def test_storage(spec: bpf2py.ObjectSpec, name: str) -> None:
    both = Both(spec, name)
    sockets = [socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]
    files = [
        os.open("/proc/self/exe", os.O_RDONLY),
        os.open("/proc/self/exe", os.O_RDONLY),
        os.open("/etc", os.O_RDONLY),
    ]
    tasks = [os.pidfd_open(os.getpid()), os.pidfd_open(1)]
    descriptors = {
        "tasks": [*tasks, files[0], sockets[0].fileno(), 1 << 20, -1],
        "inodes": [*files, sockets[0].fileno(), 1 << 20, -1],
        "sockets": [*(s.fileno() for s in sockets), files[0], 1 << 20, -1],
    }[name]
    try:
        pair = StoragePair(both.engine, both.spec, random.Random(name), *both.handles, descriptors=descriptors)
        pair.run(1500)
        assert pair.counts["update 0"] > 30
    finally:
        os.sched_setaffinity(0, range(CPUS))
        for fd in (*files, *tasks):
            os.close(fd)
        for found in sockets:
            found.close()
        both.close()


def test_shared_arrays() -> None:
    engine = Engine()
    array = Map.create(MapType.ARRAY, key="u32", value="u32", max_entries=1000, flags=MapFlags.MMAPABLE, backend=engine)
    view = array.mmap()
    view[7] = 5
    assert array[7] == 5
    array[8] = 6
    assert view[8] == 6
    with pytest.raises(bpf2py.BpfOSError) as caught:
        array.freeze()
    assert caught.value.errno == errno.EBUSY
    del view
    array.freeze()
    with pytest.raises(bpf2py.BpfOSError):
        array.mmap()
    assert array.mmap(writable=False)[7] == 5
    reading = array.mmap(writable=False)
    array.close()
    other = Map.create(MapType.ARRAY, key="u32", value="u32", max_entries=1000, flags=MapFlags.MMAPABLE, backend=engine)
    other[7] = 9
    assert reading[7] == 5  # the memory is the closed map's as long as somebody looks at it
    with pytest.raises(ValueError, match="read-only"):
        reading[0] = 1


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("kind", "flags", "writable", "length", "offset"),
    [
        (MapType.ARRAY, 0, True, 4096, 0), (MapType.ARRAY, 1024, True, 8192, 0), (MapType.ARRAY, 1024, True, 4096, 4096),
        (MapType.ARRAY, 1024, False, 4096, 0), (MapType.ARRAY, 1024 | 128, True, 4096, 0), (MapType.HASH, 0, False, 4096, 0),
        (MapType.RINGBUF, 0, True, 4096, 0), (MapType.RINGBUF, 0, True, 4096, 4096), (MapType.RINGBUF, 0, False, 12288, 4096),
        (MapType.RINGBUF, 0, False, 16384, 4096), (MapType.RINGBUF, 0, True, 8192, 0), (MapType.USER_RINGBUF, 0, True, 4096, 0),
        (MapType.USER_RINGBUF, 0, True, 12288, 4096), (MapType.USER_RINGBUF, 0, False, 4096, 0),
    ],
)  # fmt: skip
def test_mappings_are_refused_alike(kind: MapType, flags: int, writable: bool, length: int, offset: int) -> None:
    ring = "RING" in kind.name
    spec = MapSpec("m", kind, 0 if ring else 4, 0 if ring else 4, mmap.PAGESIZE if ring else 10, flags)
    from bpf2py.kernel.map import create_map

    answers: list[int | None] = []
    for handle in (create_map(spec, 0), Engine().create_map(spec)):
        try:
            handle.mmap(length, writable, offset)
            answers.append(0)
        except OSError as error:
            answers.append(error.errno)
        handle.close()
    assert answers[0] == answers[1]


def test_a_lock_needs_its_member() -> None:
    plain = Map.create(MapType.HASH, key="u32", value="u32", max_entries=4, backend=Engine())
    plain[1] = 2
    with pytest.raises(bpf2py.BpfOSError, match="bpf_spin_lock"):
        plain.lookup(1, UpdateFlags.LOCK)
