"""What the tests of the LRU laboratory do in a virtual machine, with its kernel's own maps; a module of that machine."""

from __future__ import annotations

import os
from typing import Any

import bpf2py
from bpf2py import Map, MapFlags, MapType
from bpf2py.errors import EncodeError
from bpf2py.lab.watch import Evictions, Uses


def kept(setups: list[tuple[int, bool, bool, int, list[int]]]) -> list[list[list[int]]]:
    """Of each set-up (max_entries, no common list, per CPU, keys inserted, CPUs that do it): the keys after each CPU's turn."""
    found = []
    for entries, no_common, per_cpu, inserted, turns in setups:
        kind = MapType.LRU_PERCPU_HASH if per_cpu else MapType.LRU_HASH
        flags = MapFlags.NO_COMMON_LRU if no_common else 0
        real = []
        with Map.create(kind, 8, 8, entries, flags=flags, backend="kernel") as lru:
            for cpu in turns:
                os.sched_setaffinity(0, {cpu})
                for key in range(1, inserted + 1):
                    lru[key.to_bytes(8, "little")] = bytes(8)
                real.append(sorted(int.from_bytes(key, "little") for key in lru))
        found.append(real)
    return found


def replayed(source: str, entries: int, keys: list[int], cpus: list[int]) -> dict[str, Any]:
    """Uses of keys by a program: how many were hits, and the keys at the end."""
    spec = bpf2py.ObjectSpec.from_file(source)
    spec.maps["lru"].max_entries = entries
    with bpf2py.load(spec, "kernel") as obj:
        obj.maps["keys"].update(dict(enumerate(keys)))
        at = 0
        while at < len(keys):
            end = at
            while end < len(keys) and cpus[end] == cpus[at]:
                end += 1
            os.sched_setaffinity(0, {cpus[at]})
            obj.variables["first"].value, obj.variables["count"].value = at, end - at
            obj.programs["replay"].test_run()
            at = end
        return {"hits": obj.variables["hits"].value, "kept": sorted(obj.maps["lru"])}


def evictions(source: str, per_cpu: bool) -> dict[str, Any]:
    """What is said, and what was: a map of 100 takes 1,000 keys, then five are deleted."""
    kind = MapType.LRU_PERCPU_HASH if per_cpu else MapType.LRU_HASH
    value: Any = [0] * (os.cpu_count() or 1) if per_cpu else 0
    with (
        Map.create(kind, key="u32", value="u64", max_entries=100, backend="kernel") as lru,
        Map.create(MapType.LRU_HASH, key="u32", value="u64", max_entries=10, backend="kernel") as other,
        Evictions(lru, source) as watched,
    ):
        for key in range(1000):
            lru[key] = value
            other[key] = 0
        here = list(lru)
        first = watched.read()
        for key in here[:5]:
            del lru[key]
        said = [first.evicted, first.how, first.elements]
        return {"said": said, "real": 1000 - len(here), "after deleting": watched.read().evicted}


def uses(source: str, program: str, keys: list[int], cpus: list[int]) -> dict[str, Any]:
    """What is seen of a program's uses of keys."""
    spec = bpf2py.ObjectSpec.from_file(program)
    spec.maps["lru"].max_entries = 200
    with bpf2py.load(spec, "kernel") as obj, Uses(obj.maps["lru"], source) as watched:
        obj.maps["keys"].update(dict(enumerate(keys)))
        for at, cpu in enumerate(cpus):
            os.sched_setaffinity(0, {cpu})
            obj.variables["first"].value, obj.variables["count"].value = at, 1
            obj.programs["replay"].test_run()
        seen = list(watched.read(0))
        return {"seen": [[use.key, use.cpu] for use in seen], "lost": watched.lost}


def long_keys(source: str) -> int:
    """How many different keys are seen of 50 different ones of 40 bytes, used twice each."""
    with Map.create(MapType.LRU_HASH, 40, 8, 100, backend="kernel") as lru, Uses(lru, source) as watched:
        for _ in range(2):
            for number in range(50):
                lru[bytes(36) + number.to_bytes(4, "little")] = bytes(8)
        return len({use.key for use in watched.read(0)})


def refused(source: str) -> list[str]:
    """What is said of a map that does not evict."""
    found = []
    with Map.create(MapType.HASH, key="u32", value="u64", max_entries=10, backend="kernel") as plain:
        for kind in (Evictions, Uses):
            try:
                kind(plain, source)
            except EncodeError as error:
                found.append(str(error))
    return found
