from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapFlags, MapType, UpdateFlags

pytestmark = pytest.mark.kernel

SOURCE = """
struct my_point { __s16 x; __s64 y; };
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 4);
    __type(key, __u32);
    __type(value, struct my_point);
} points SEC(".maps");
struct my_locked { struct bpf_spin_lock lock; __u32 number; };
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 4);
    __type(key, __u32);
    __type(value, struct my_locked);
} locked SEC(".maps");
SEC("syscall")
int use(void *ctx)
{
    __u32 index = 2;
    struct my_point *point = bpf_map_lookup_elem(&points, &index);
    if (point) {
        point->x--;
        point->y += 5;
    }
    return 0;
}
"""


@pytest.fixture
def totals() -> Iterator[Any]:
    with Map.create(MapType.ARRAY, value="u64", max_entries=4, name="totals") as made:
        yield made


def test_it_is_a_sequence(totals: Any) -> None:
    assert list(totals) == [0, 0, 0, 0]
    totals[0] = 5
    totals[-1] = 8
    totals[0] += 1
    assert (totals[0], totals[3], totals[-4]) == (6, 8, 6)
    assert totals[1:] == [0, 0, 8]
    totals[1:3] = [7, 9]
    assert totals[::-1] == list(reversed(totals)) == [8, 9, 7, 6]
    assert totals.values() == totals.snapshot() == [6, 7, 9, 8]
    assert dict(totals.items()) == {0: 6, 1: 7, 2: 9, 3: 8}
    assert list(totals.keys()) == [0, 1, 2, 3]
    assert (3 in totals, 4 in totals, "x" in totals) == (True, False, False)
    assert len(totals) == totals.count() == 4
    assert totals.pressure() == 1.0
    assert (totals.get(1), totals.get(4), totals.get(4, "none")) == (7, None, "none")
    totals.update({1: 10, 2: 20})
    totals.update([1])
    assert totals.snapshot() == [1, 10, 20, 8]
    assert totals.lookup(1) == 10
    totals.put(1, 11)
    totals.put(1, 12, UpdateFlags.EXIST)
    assert totals[1] == 12
    totals.clear()
    assert totals.snapshot() == [0, 0, 0, 0]


@pytest.mark.parametrize("index", [4, 1 << 31, 1 << 32, 1 << 70, -5])
def test_index_out_of_range(totals: Any, refused: Callable[..., Any], index: int) -> None:
    cases: list[Callable[[], Any]] = [
        lambda: totals[index],
        lambda: totals.__setitem__(index, 1),
        lambda: totals.lookup(index),
        lambda: totals.put(index, 1),
        lambda: totals.update({index: 1}),
        lambda: totals.__delitem__(index),
    ]
    for operation in cases:
        with refused(bpf2py.IndexOutOfRange, None, "map totals", f"index {index} "):
            operation()
    with pytest.raises(IndexError, match="index 4 >= max_entries 4"):
        totals[4]
    assert totals.snapshot() == [0] * 4


@pytest.mark.parametrize("index", ["one", None, 1.5, b"\0\0\0\0"])
def test_an_index_is_a_number(totals: Any, refused: Callable[..., Any], index: Any) -> None:
    with refused(bpf2py.EncodeError, None, "map totals: lookup", "is not an index"):
        totals[index]
    with refused(bpf2py.EncodeError, None, "map totals: update", "is not an index"):
        totals[index] = 1


def test_too_many_values(totals: Any, refused: Callable[..., Any]) -> None:
    with refused(bpf2py.IndexOutOfRange, None, "index 4 >= max_entries 4"):
        totals.update(range(5))
    with refused(bpf2py.EncodeError, None, "map totals: update: 3 values for 2 elements"):
        totals[1:3] = [1, 2, 3]
    with refused(bpf2py.EncodeError, None, "map totals: update: value: -1 does not fit u64"):
        totals[1] = -1
    with refused(bpf2py.EncodeError, None, "map totals: update: ", "'x' is not a valid u64"):
        totals.update({1: "x"})


def test_elements_are_there_for_good(totals: Any, refused: Callable[..., Any]) -> None:
    with refused(bpf2py.BpfOSError, errno.EINVAL, "map totals: delete: elements of an ARRAY cannot be deleted"):
        del totals[1]
    with refused(bpf2py.KeyExists, errno.EEXIST, "index 1 exists: an ARRAY has all its elements from the start"):
        totals.put(1, 1, UpdateFlags.NOEXIST)
    with refused(bpf2py.BpfOSError, errno.EINVAL, "BPF_F_LOCK needs a struct bpf_spin_lock"):
        totals.put(1, 1, UpdateFlags.LOCK)
    with refused(bpf2py.BpfOSError, errno.EINVAL, "flags 0x3 are not allowed for ARRAY"):
        totals.put(1, 1, 3)


def test_closed(totals: Any) -> None:
    totals.close()
    for operation in (
        lambda: totals[1],
        lambda: totals.__setitem__(1, 1),
        lambda: list(totals),
        lambda: totals.update([1]),
        lambda: totals.clear(),
        lambda: totals.to_numpy(),
    ):
        with pytest.raises(bpf2py.ClosedError, match=r"map totals: .*the map is closed"):
            operation()


def test_typed_by_btf(build: Callable[[str], bpf2py.ObjectSpec], refused: Callable[..., Any]) -> None:
    with bpf2py.load(build(SOURCE)) as obj:
        points = obj.maps["points"]
        points[2] = {"x": -32768 + 1, "y": 1}
        obj.programs["use"].test_run()
        assert (points[2].x, points[2].y) == (-32768, 6)
        points[3] = (1, 2)
        assert [(p.x, p.y) for p in points] == [(0, 0), (0, 0), (-32768, 6), (1, 2)]
        with refused(bpf2py.EncodeError, None, "map points: update: value.x: "):
            points[0] = {"x": 32768}


def test_spin_locks(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    with bpf2py.load(build(SOURCE)) as obj:
        locked = obj.maps["locked"]
        locked.put(3, {"number": 5}, UpdateFlags.LOCK)
        locked.put(3, {"number": 6}, UpdateFlags.LOCK | UpdateFlags.EXIST)
        assert locked.lookup(3, UpdateFlags.LOCK).number == 6
        assert [value.number for value in locked] == [0, 0, 0, 6]


@pytest.mark.parametrize("value_size", [1, 3, 8, 100, 4096, 65536])
def test_values_of_every_size(value_size: int) -> None:
    count = min(1000, (8 << 20) // value_size)
    with Map.create(MapType.ARRAY, 4, value_size, count) as made:
        expected = [bytes([number % 251]) * value_size for number in range(count)]
        made.update(expected)
        assert made.snapshot() == expected
        made.clear()
        assert made[count - 1] == bytes(value_size)


def test_more_elements_than_one_batch_holds(scale: Callable[[int], int]) -> None:
    count = scale(70_000)
    with Map.create(MapType.ARRAY, value="u32", max_entries=count) as made:
        made.update(range(count))
        assert made.snapshot() == list(range(count))
        made.clear()
        assert not any(made)


@pytest.mark.parametrize("flag", ["RDONLY", "WRONLY"])
def test_one_way_maps(flag: str, refused: Callable[..., Any]) -> None:
    with Map.create("ARRAY", value="u32", max_entries=4, flags=MapFlags[flag], name="one_way") as made:
        if flag == "RDONLY":
            assert list(made) == [0] * 4
            wrong: list[Callable[[], Any]] = [
                lambda: made.__setitem__(1, 1), lambda: made.update([1]), lambda: made.clear(),
            ]  # fmt: skip
        else:
            made[1] = 1
            made.update([1])
            wrong = [lambda: made[1], lambda: list(made), lambda: made.to_numpy()]
        for operation in wrong:
            with refused(bpf2py.PermissionDenied, errno.EPERM, "map one_way", f"(BPF_F_{flag})"):
                operation()


@pytest.mark.parametrize("flags", [MapFlags.MMAPABLE, MapFlags.INNER_MAP, MapFlags.NUMA_NODE], ids=lambda f: f.name)
def test_creation_flags(flags: MapFlags) -> None:
    with Map.create("ARRAY", value="u8", max_entries=100, flags=flags) as made:
        assert made.flags == flags
        made.update(range(100))
        assert made.snapshot() == list(range(100))
