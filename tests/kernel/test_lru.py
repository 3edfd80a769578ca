from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapFlags, MapType

pytestmark = pytest.mark.kernel

KINDS = [MapType.LRU_HASH, MapType.LRU_PERCPU_HASH]
FLAGS = [MapFlags(0), MapFlags.NO_COMMON_LRU, MapFlags.ZERO_SEED]


def total(value: Any) -> Any:
    return value[0] if isinstance(value, bpf2py.PerCpu) else value


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: flags.name or "none")
def test_a_full_map_evicts(kind: MapType, flags: MapFlags) -> None:
    with Map.create(kind, key="u32", value="u64", max_entries=2000, flags=flags) as made:
        assert made.flags == flags
        for key in range(5000):
            made[key] = key * 3
            assert key in made
        kept = made.snapshot()
        assert 0 < len(kept) <= 2100  # NO_COMMON_LRU rounds up to a multiple of the CPUs
        assert made.count() == len(kept)
        assert all(total(value) == key * 3 for key, value in kept.items())


def test_a_numa_node() -> None:
    with Map.create("LRU_HASH", key="u32", value="u32", max_entries=100, numa_node=0) as made:
        made[1] = 1
        assert made.flags == MapFlags.NUMA_NODE


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_is_a_mapping(kind: MapType, refused: Callable[..., Any]) -> None:
    with Map.create(kind, key="u32", value="u64", max_entries=1000, name="made") as made:
        made.update({key: key for key in range(50)})
        assert sorted(made) == list(range(50))
        assert made.setdefault(3, 9) == made[3]
        assert total(made.pop(3)) == 3
        with refused(bpf2py.KeyNotFound, 2, "map made: lookup: no key 3"):
            made[3]
        with refused(bpf2py.KeyNotFound, 2, "map made: pop: no key 3"):
            made.pop(3)
        with refused(bpf2py.KeyExists, 17, "key 4 is there already"):
            made.put(4, 4, bpf2py.UpdateFlags.NOEXIST)
        del made[4]
        assert made.delete_many([4, 5, 6]) == 2
        assert {key for key, _ in made.drain()} == set(range(50)) - {3, 4, 5, 6}
        made[1] = 1
        made.clear()
        assert len(made) == 0


def test_a_program_can_put_more_keys_than_there_is_room_for(
    build: Callable[[str], bpf2py.ObjectSpec],
) -> None:
    source = """
    struct {
        __uint(type, BPF_MAP_TYPE_LRU_HASH);
        __uint(max_entries, 1003);
        __type(key, __u32);
        __type(value, __u32);
    } recent SEC(".maps");
    int failed;
    static long put(__u32 index, void *ctx)
    {
        __u32 key = index, value = index * 2;
        if (bpf_map_update_elem(&recent, &key, &value, BPF_ANY))
            failed++;
        return 0;
    }
    SEC("raw_tp/sched_switch")
    int use(void *ctx)
    {
        bpf_loop(3000, put, 0, 0);
        return 0;
    }
    """
    with bpf2py.load(build(source)) as obj:
        obj.programs["use"].test_run()
        kept = obj.maps["recent"].snapshot()
        assert obj.variables["failed"].value == 0
        assert 2999 in kept
        assert 0 < len(kept) <= 1003
        assert all(value == key * 2 for key, value in kept.items())
