from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapFlags, MapType

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.kernel

SOURCE = """
struct my_key { char comm[8]; __u16 port; };
struct my_inner { __s32 low; __u8 octets[3]; };
struct my_value { __u64 count; struct my_inner inner; __u32 kind : 4; __s32 level : 12; __u16 list[3]; _Bool up; };
#define MAP(NAME, TYPE, KEY, VALUE) \\
    struct { __uint(type, BPF_MAP_TYPE_##TYPE); __uint(max_entries, 50); __type(key, KEY); __type(value, VALUE); } \\
        NAME SEC(".maps");
MAP(hash, HASH, struct my_key, struct my_value)
MAP(percpu_hash, PERCPU_HASH, __u32, struct my_value)
MAP(array, ARRAY, __u32, struct my_value)
MAP(percpu_array, PERCPU_ARRAY, __u32, struct my_value)
MAP(lists, HASH, __u32, __u16[2][3])
"""
VALUE = {"count": 5, "inner": {"low": -3, "octets": b"\1\2\3"}, "kind": 9, "level": -7, "list": [4, 5, 6], "up": True}


@pytest.fixture
def obj(build: Callable[[str], bpf2py.ObjectSpec]) -> Iterator[bpf2py.Object]:
    with bpf2py.load(build(SOURCE)) as loaded:
        yield loaded


def check(value: Any) -> None:
    assert (value["count"], value["kind"], value["level"], value["up"]) == (5, 9, -7, True)
    assert value["inner"]["low"] == -3
    assert value["inner"]["octets"].tolist() == [1, 2, 3]
    assert value["list"].tolist() == [4, 5, 6]


def test_hash_of_structs(obj: bpf2py.Object) -> None:
    made = obj.maps["hash"]
    assert made.to_numpy().shape == (0,)
    made["python", 80] = VALUE
    made["bash", 0] = {"count": 1}
    array = made.to_numpy()
    assert array.shape == (2,)
    assert array.dtype.names == ("key", "value")
    row = array[array["key"]["port"] == 80][0]
    assert row["key"]["comm"] == b"python"
    check(row["value"])
    expected = made.snapshot()
    made.clear()
    made.from_numpy(array)
    assert made.snapshot() == expected


def test_per_cpu_hash_of_structs(obj: bpf2py.Object) -> None:
    made = obj.maps["percpu_hash"]
    cpus = made.possible_cpus
    made[3] = [{**VALUE, "count": cpu} for cpu in range(cpus)]
    made[4] = VALUE
    array = made.to_numpy()
    assert array["value"].shape == (2, cpus)
    (row,) = array[array["key"] == 3]
    assert row["value"]["count"].tolist() == list(range(cpus))
    check(array[array["key"] == 4][0]["value"][cpus - 1])
    expected = made.snapshot()
    made.clear()
    made.from_numpy(array)
    assert made.snapshot() == expected


def test_arrays_of_structs(obj: bpf2py.Object) -> None:
    made = obj.maps["array"]
    made[7] = VALUE
    array = made.to_numpy()
    assert array.shape == (50,)
    check(array[7])
    assert array["count"].sum() == 5
    array["count"] += 1
    made.from_numpy(array)
    assert (made[7].count, made[0].count, made[7].level) == (6, 1, -7)
    per_cpu = obj.maps["percpu_array"]
    per_cpu[7] = VALUE
    array = per_cpu.to_numpy()
    assert array.shape == (50, per_cpu.possible_cpus)
    check(array[7, 0])
    array["count"][8] = range(per_cpu.possible_cpus)
    per_cpu.from_numpy(array)
    assert [value.count for value in per_cpu[8]] == list(range(per_cpu.possible_cpus))
    assert per_cpu[7][0].level == -7


def test_values_that_are_arrays(obj: bpf2py.Object) -> None:
    made = obj.maps["lists"]
    made[1] = [[1, 2, 3], [4, 5, 6]]
    array = made.to_numpy()
    assert array["value"].shape == (1, 2, 3)
    assert array["value"][0].tolist() == [[1, 2, 3], [4, 5, 6]]
    made.from_numpy(np.array([7, 8], "u4"), np.arange(12, dtype="u2").reshape(2, 2, 3))
    assert made[8] == [[6, 7, 8], [9, 10, 11]]


@pytest.mark.parametrize("kind", [MapType.HASH, MapType.LRU_HASH, MapType.LPM_TRIE], ids=lambda kind: kind.name)
@pytest.mark.parametrize("value", ["u8", "s64", "u16[4]", "char[5]", 3])
def test_keyed_families(kind: MapType, value: Any) -> None:
    lpm = kind == MapType.LPM_TRIE
    flags = MapFlags.NO_PREALLOC if lpm else 0
    with Map.create(
        kind, 8 if lpm else 4, key=None if lpm else "u32", value=value, max_entries=500, flags=flags
    ) as made:
        encoded = [bytes([65 + n % 20]) * made.value_size for n in range(100)]
        made.update({(f"10.0.{n}.0/24" if lpm else n): raw for n, raw in enumerate(encoded)})
        array = made.to_numpy()
        assert len(array) == 100
        expected = made.snapshot()
        made.clear()
        made.from_numpy(array["key"], array["value"])
        assert made.snapshot() == expected
        assert array["value"].nbytes == 100 * made.value_size


@pytest.mark.parametrize(
    "kind", [MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH, MapType.PERCPU_ARRAY], ids=lambda kind: kind.name
)
@pytest.mark.parametrize("value", ["u8", "s32", "u64", "u16[3]", 5])
def test_per_cpu_families(kind: MapType, value: Any) -> None:
    with Map.create(kind, key="u32", value=value, max_entries=64) as made:
        cpus, size = made.possible_cpus, made.value_size
        made.update({n: [bytes([n + cpu]) * size for cpu in range(cpus)] for n in range(64)})
        array = made.to_numpy()
        values = array if kind == MapType.PERCPU_ARRAY else array[np.argsort(array["key"])]["value"]
        assert values.shape[:2] == (64, cpus)
        assert all(values[n, cpu].tobytes() == bytes([n + cpu]) * size for n in range(64) for cpu in range(cpus))
        expected = made.snapshot()
        made.clear()
        made.from_numpy(array)
        assert made.snapshot() == expected


def test_large_maps(scale: Callable[[int], int]) -> None:
    count = scale(200_000)
    keys = np.arange(count, dtype="u4")
    with Map.create("HASH", key="u32", value="u64", max_entries=count) as made:
        made.from_numpy(keys, keys.astype("u8") * 3)
        array = made.to_numpy()
        assert len(array) == count
        assert sorted(array["key"].tolist()) == keys.tolist()
        assert (array["value"] == array["key"].astype("u8") * 3).all()
    with Map.create("ARRAY", value="u32", max_entries=count) as made:
        made.from_numpy(keys)
        assert (made.to_numpy() == keys).all()
        made.from_numpy(keys[:5] + 1)
        assert made[4] == 5
        assert made[5] == 5


def test_what_does_not_fit(obj: bpf2py.Object, refused: Callable[..., Any]) -> None:
    with (
        Map.create("HASH", key="u32", value="u8", max_entries=5, name="made") as made,
        Map.create("ARRAY", value="u8", max_entries=5, name="array") as array,
        Map.create("PERCPU_ARRAY", value="u8", max_entries=5, name="per_cpu") as per_cpu,
    ):
        with refused(bpf2py.EncodeError, None, "map made: update: 2 keys but 3 values"):
            made.from_numpy(np.arange(2), np.arange(3))
        with pytest.raises(bpf2py.EncodeError, match="256 does not fit u8"):
            made.from_numpy(np.arange(2), np.array([1, 256]))
        with pytest.raises(bpf2py.EncodeError, match="-1 does not fit u32"):
            made.from_numpy(np.array([-1]), np.array([1]))
        with pytest.raises(bpf2py.MapFull, match=r"map made: update: map is full \(max_entries=5\)"):
            made.from_numpy(np.arange(6), np.arange(6))
        with refused(bpf2py.IndexOutOfRange, None, "map array: update: 6 elements, max_entries 5"):
            array.from_numpy(np.arange(6))
        with pytest.raises(bpf2py.EncodeError, match="map per_cpu: update: the values' shape is"):
            per_cpu.from_numpy(np.zeros((5, per_cpu.possible_cpus + 1), "u1"))
        with pytest.raises(bpf2py.EncodeError):
            made.from_numpy(np.array([1.5]), np.array([1]))


def test_the_array_owns_its_memory() -> None:
    with Map.create("HASH", key="u32", value="u32", max_entries=5) as made:
        made[1] = 2
        array = made.to_numpy()
        made[1] = 3
    assert array["value"].tolist() == [2]
