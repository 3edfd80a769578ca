from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapType, PerCpu, UpdateFlags

pytestmark = pytest.mark.kernel

SOURCE = """
struct my_stats { __u64 packets; __u32 bytes; char last[6]; };
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
    __uint(max_entries, 8);
    __type(key, __u32);
    __type(value, struct my_stats);
} by_key SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 3);
    __type(key, __u32);
    __type(value, __u32);
} by_index SEC(".maps");
SEC("raw_tp/sched_switch")
int use(void *ctx)
{
    __u32 key = 1, cpu = bpf_get_smp_processor_id(), *number;
    struct my_stats fresh = { .packets = 1, .bytes = 10 + cpu, .last = "here" }, *found;
    found = bpf_map_lookup_elem(&by_key, &key);
    if (found) {
        found->packets++;
        found->bytes += 10 + cpu;
    } else
        bpf_map_update_elem(&by_key, &key, &fresh, BPF_ANY);
    number = bpf_map_lookup_elem(&by_index, &key);
    if (number)
        *number += cpu + 1;
    return 0;
}
"""
CPUS = os.cpu_count() or 1
KINDS = [MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def made(request: pytest.FixtureRequest) -> Iterator[Any]:
    with Map.create(request.param, 4, key="u32", value="u32", max_entries=8, name="made") as found:
        yield found


def online() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def test_one_value_for_each_possible_cpu(made: Any) -> None:
    cpus = made.possible_cpus
    assert cpus >= len(online())
    values = list(range(10, 10 + cpus))
    made[1] = values
    assert made[1] == values
    assert isinstance(made[1], PerCpu)
    assert made[1].values == values
    assert (made[1].sum(), made[1].max(), made[1][0], len(made[1])) == (sum(values), max(values), 10, cpus)
    made[1] = 7  # one value stands for all
    assert list(made[1]) == [7] * cpus
    made[2] = PerCpu(values)
    made[3] = tuple(values)
    assert made[2] == made[3] == PerCpu(values)
    made.update({4: values, 5: 1})
    assert (made[4].values, made[5].values) == (values, [1] * cpus)
    assert dict(made.items())[4] == values
    assert made.value_size == 4


def test_values_for_the_wrong_number_of_cpus(made: Any, refused: Callable[..., Any]) -> None:
    values = [1] * (made.possible_cpus + 1)
    words = f"map made: update: value: {len(values)} values given, there are {made.possible_cpus} possible CPUs"
    with refused(bpf2py.EncodeError, None, words):
        made[1] = values
    with refused(bpf2py.EncodeError, None, "map made: update: value: ", "does not fit u32"):
        made[1] = 1 << 32
    with refused(bpf2py.EncodeError, None, "map made: update: value: ", "does not fit u32"):
        made[1] = [1] * (made.possible_cpus - 1) + [-1]


def test_single_cpus(made: Any, refused: Callable[..., Any]) -> None:
    made[1] = list(range(made.possible_cpus))
    assert [made.lookup_cpu(1, cpu) for cpu in range(made.possible_cpus)] == list(range(made.possible_cpus))
    for cpu in (-1, made.possible_cpus):
        with refused(bpf2py.IndexOutOfRange, None, f"CPU {cpu} is not one of the {made.possible_cpus} possible CPUs"):
            made.lookup_cpu(1, cpu)
    if made.type == MapType.PERCPU_ARRAY:
        with refused(bpf2py.IndexOutOfRange, errno.ENOENT, "map made: lookup: index 8 >= max_entries 8"):
            made.lookup_cpu(8, 0)
    else:
        with refused(bpf2py.KeyNotFound, errno.ENOENT, "map made: lookup: no key 8"):
            made.lookup_cpu(8, 0)


@pytest.mark.parametrize("kind", [MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH], ids=lambda kind: kind.name)
def test_hashes_are_mappings(kind: MapType, refused: Callable[..., Any]) -> None:
    with Map.create(kind, key="u32", value="s64", max_entries=1000, name="made") as made:
        expected = {key: [-key + cpu for cpu in range(made.possible_cpus)] for key in range(10)}
        made.update(expected)
        assert made.snapshot() == expected
        assert sorted(made) == list(range(10))
        assert made.count() == len(made) == 10
        assert made.setdefault(3, 5) == expected[3]
        assert made.pop(3) == expected.pop(3)
        assert made.pop(3, None) is None
        del made[4], expected[4]
        with refused(bpf2py.KeyNotFound, errno.ENOENT, "map made: delete: no key 4"):
            del made[4]
        with refused(bpf2py.KeyExists, errno.EEXIST, "key 5 is there already"):
            made.put(5, 1, UpdateFlags.NOEXIST)
        with refused(bpf2py.KeyNotFound, errno.ENOENT, "no key 4"):
            made.put(4, 1, UpdateFlags.EXIST)
        assert made.delete_many([5, 4, 6]) == 2
        del expected[5], expected[6]
        assert dict(made.drain()) == expected
        made.update(expected)
        made.clear()
        assert not made


def test_a_full_hash_says_so(refused: Callable[..., Any]) -> None:
    with Map.create(MapType.PERCPU_HASH, key="u32", value="u64", max_entries=3, name="full") as made:
        made.update({1: 1, 2: 2, 3: 3})
        with refused(bpf2py.MapFull, errno.E2BIG, "map full: update: map is full (max_entries=3)"):
            made[4] = 4


def test_arrays_are_sequences(refused: Callable[..., Any]) -> None:
    with Map.create(MapType.PERCPU_ARRAY, value="u16", max_entries=5, name="made") as made:
        values = list(range(made.possible_cpus))
        made.update([values] * 5)
        assert [found.values for found in made] == [values] * 5
        made[-1] = 3
        assert made[4].sum() == 3 * made.possible_cpus
        assert made[1:3] == [values] * 2
        with refused(bpf2py.IndexOutOfRange, None, "index 5 >= max_entries 5"):
            made[5] = 1
        with refused(bpf2py.BpfOSError, errno.EINVAL, "elements of an PERCPU_ARRAY cannot be deleted"):
            del made[0]
        made.clear()
        assert sum(found.sum() for found in made) == 0


def test_programs_write_their_own_cpu(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    with bpf2py.load(build(SOURCE)) as obj:
        use, by_key, by_index = obj.programs["use"], obj.maps["by_key"], obj.maps["by_index"]
        for cpu in online():
            for _ in range(cpu + 2):
                use.test_run(cpu=cpu)
        stats = by_key[1]
        assert [stats[cpu].packets for cpu in online()] == [cpu + 2 for cpu in online()]
        assert stats.sum().packets == sum(cpu + 2 for cpu in online())
        assert stats.sum().bytes == sum((cpu + 2) * (cpu + 10) for cpu in online())
        assert stats.max().packets == max(online()) + 2
        assert stats[online()[0]].last == "here"
        assert [by_index[1][cpu] for cpu in online()] == [(cpu + 1) * (cpu + 2) for cpu in online()]
        by_key[2] = {"packets": 5, "bytes": 1, "last": "there"}
        assert by_key[2].sum().packets == 5 * by_key.possible_cpus
        by_key[3] = [{"packets": cpu} for cpu in range(by_key.possible_cpus)]
        assert [value.packets for value in by_key[3]] == list(range(by_key.possible_cpus))
        assert dict(by_key.items())[3] == by_key[3]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("value_size", [1, 5, 8, 12, 1000, 32760])
def test_values_of_every_size(kind: MapType, value_size: int) -> None:
    with Map.create(kind, 4, value_size, 10) as made:
        values = [bytes([65 + cpu]) * value_size for cpu in range(made.possible_cpus)]
        keys = [key if kind == MapType.PERCPU_ARRAY else key.to_bytes(4, "little") for key in range(4)]
        made.update(dict.fromkeys(keys, values))
        assert made[keys[3]] == values
        found = made.snapshot()
        assert [found[key] for key in keys] == [values] * 4
