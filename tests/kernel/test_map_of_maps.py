from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapFlags, MapSpec, MapType, UpdateFlags

pytestmark = pytest.mark.kernel

SOURCE = """
struct my_inner {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 8);
    __type(key, __u32);
    __type(value, __u64);
} first SEC(".maps"), second SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 4);
    __type(key, __u32);
    __array(values, struct my_inner);
} by_index SEC(".maps") = { .values = { [0] = &first, [2] = &second } };
struct {
    __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
    __uint(max_entries, 4);
    __type(key, char[8]);
    __array(values, struct my_inner);
} by_name SEC(".maps");
SEC("syscall")
int use(void *ctx)
{
    __u32 index = 2, key = 7;
    __u64 value = 70;
    char name[8] = "late";
    void *inner = bpf_map_lookup_elem(&by_index, &index);
    if (inner)
        bpf_map_update_elem(inner, &key, &value, BPF_ANY);
    inner = bpf_map_lookup_elem(&by_name, name);
    value++;
    if (inner)
        bpf_map_update_elem(inner, &key, &value, BPF_ANY);
    return 0;
}
"""


@pytest.fixture
def obj(build: Callable[[str], bpf2py.ObjectSpec]) -> Iterator[bpf2py.Object]:
    with bpf2py.load(build(SOURCE)) as loaded:
        yield loaded


def inner_spec(**changes: Any) -> MapSpec:
    spec = MapSpec("inner", MapType.HASH, 4, 8, 8)
    for name, value in changes.items():
        setattr(spec, name, value)
    return spec


def test_filled_by_the_object(obj: bpf2py.Object) -> None:
    by_index, first, second = obj.maps["by_index"], obj.maps["first"], obj.maps["second"]
    assert by_index.ids() == {0: first.id, 2: second.id}
    assert list(by_index) == [0, 2]
    assert by_index.count() == 2
    obj.programs["use"].test_run()
    assert second.snapshot() == {7: 70}
    with by_index[2] as inner:
        assert inner.id == second.id
        assert inner[7] == 70  # typed as the definition says


def test_changed_from_python(obj: bpf2py.Object, refused: Callable[..., Any]) -> None:
    by_name = obj.maps["by_name"]
    with Map.create("HASH", key="u32", value="u64", max_entries=8) as late:
        by_name["late"] = late
        assert by_name.ids() == {"late": late.id}
        obj.programs["use"].test_run()
        assert late.snapshot() == {7: 71}
        with by_name["late"] as opened:
            assert opened.snapshot() == {7: 71}
        with refused(bpf2py.KeyExists, errno.EEXIST, "key 'late' is there already"):
            by_name.put("late", late, UpdateFlags.NOEXIST)
    with refused(bpf2py.KeyNotFound, errno.ENOENT, "map by_name: lookup: no key 'never'"):
        by_name["never"]
    assert by_name.get("never") is None
    del by_name["late"]
    assert "late" not in by_name
    obj.maps["by_index"].clear()
    assert obj.maps["by_index"].count() == 0


def test_opening_does_not_leak(obj: bpf2py.Object, assert_no_leaks: Callable[[], Any]) -> None:
    with assert_no_leaks():
        for inner in obj.maps["by_index"].values():
            inner.close()
        with obj.maps["by_index"].get(0):
            pass


def test_the_inner_definition_changed_before_load(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    spec = build(SOURCE)
    for name in ("first", "second"):
        spec.maps[name].max_entries = 1000
    inner = spec.maps["by_index"].inner
    assert inner is not None
    inner.max_entries = 1000
    inner.flags |= MapFlags.NO_PREALLOC
    for name in ("first", "second"):
        spec.maps[name].flags |= MapFlags.NO_PREALLOC
    with bpf2py.load(spec) as obj:
        assert obj.maps["first"].max_entries == 1000
        with obj.maps["by_index"][0] as opened:
            assert (opened.max_entries, opened.flags) == (1000, MapFlags.NO_PREALLOC)
        obj.programs["use"].test_run()
        assert obj.maps["second"].snapshot() == {7: 70}


@pytest.mark.parametrize("kind", [MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS], ids=lambda kind: kind.name)
def test_created_by_hand(kind: MapType, refused: Callable[..., Any]) -> None:
    with (
        Map.create(kind, key="u32", max_entries=2, inner=inner_spec(), name="outer") as outer,
        Map.create("HASH", key="u32", value="u64", max_entries=8) as inner,
        Map.create("ARRAY", value="u64", max_entries=8) as wrong,
    ):
        outer[1] = inner
        inner[1] = 5
        with outer[1] as opened:
            assert opened.id == inner.id
            assert opened[1] in (5, (5).to_bytes(8, "little"))
        with refused(
            bpf2py.BpfOSError, errno.EINVAL, "map outer: update: the value must be a map that fits the definition"
        ):
            outer[0] = wrong
        with refused(bpf2py.EncodeError, None, "'x' is not a descriptor"):
            outer[0] = "x"
        with pytest.raises(bpf2py.BpfError, match="map outer: update: "):
            outer[0] = 999_999
        assert outer.ids() == {1: inner.id}


def test_arrays_of_any_length() -> None:
    spec = MapSpec("inner", MapType.ARRAY, 4, 8, 1, MapFlags.INNER_MAP)
    with (
        Map.create(MapType.ARRAY_OF_MAPS, key="u32", max_entries=2, inner=spec, name="outer") as outer,
        Map.create("ARRAY", value="u64", max_entries=50, flags=MapFlags.INNER_MAP) as inner,
    ):
        outer[0] = inner
        with outer[0] as opened:
            assert opened.max_entries == 50


def test_full(refused: Callable[..., Any]) -> None:
    with (
        Map.create(MapType.HASH_OF_MAPS, key="u32", max_entries=1, inner=inner_spec(), name="outer") as outer,
        Map.create("HASH", key="u32", value="u64", max_entries=8) as inner,
    ):
        outer[0] = inner
        with refused(bpf2py.MapFull, errno.E2BIG, "map outer: update: map is full (max_entries=1)"):
            outer[1] = inner
    with (
        Map.create(MapType.ARRAY_OF_MAPS, key="u32", max_entries=1, inner=inner_spec(), name="outer") as outer,
        Map.create("HASH", key="u32", value="u64", max_entries=8) as inner,
        refused(bpf2py.IndexOutOfRange, errno.E2BIG, "index 1 >= max_entries 1"),
    ):
        outer[1] = inner


@pytest.mark.parametrize("kind", ["HASH_OF_MAPS", "ARRAY_OF_MAPS"])
@pytest.mark.parametrize("backend", ["kernel", "engine"])
def test_draining_gives_maps(kind: str, backend: str) -> None:
    inner = MapSpec("inner", MapType.HASH, 4, 8, 4)
    with bpf2py.Map.create(kind, key_size=4, value_size=4, max_entries=4, inner=inner, backend=backend) as outer:
        made = {}
        for key in (0, 2):
            made[key] = bpf2py.Map.create("HASH", key="u32", value="u64", max_entries=4, backend=backend)
            made[key][9] = key
            outer[key if kind == "ARRAY_OF_MAPS" else key.to_bytes(4, "little")] = made[key]
        drained = {int.from_bytes(k, "little") if isinstance(k, bytes) else k: m for k, m in outer.drain()}
        assert {key: found.id for key, found in drained.items()} == {key: found.id for key, found in made.items()}
        assert len(outer) == 0
        assert [len(found) for found in drained.values()] == [1, 1]
        for found in (*made.values(), *drained.values()):
            found.close()
