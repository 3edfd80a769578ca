from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapFlags, MapType

pytestmark = pytest.mark.kernel

SOURCE = """
struct my_bits { __u16 a : 3; __u16 b : 5; };
struct my_point { __s16 x; __s64 y; __u16 list[2][3]; };
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 700);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct my_point);
} points SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 5);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct my_bits);
} bits SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 5);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, __u16[2][3]);
} lists SEC(".maps");
SEC("syscall")
int use(void *ctx)
{
    __u32 index = 699;
    struct my_point *point = bpf_map_lookup_elem(&points, &index);
    if (point) {
        point->x--;
        point->y += 5;
    }
    return 0;
}
"""


@pytest.mark.parametrize("kind", [MapType.HASH, MapType.ARRAY, MapType.LRU_HASH], ids=lambda kind: kind.name)
def test_frozen_maps_can_only_be_read(kind: MapType, refused: Callable[..., Any]) -> None:
    with Map.create(kind, key="u32", value="u32", max_entries=5, name="made") as made:
        made[1] = 7
        made.freeze()
        assert made[1] == 7
        cases: list[Callable[[], Any]] = [
            lambda: made.__setitem__(1, 1), lambda: made.update({1: 1}), lambda: made.__delitem__(1), made.clear,
        ]  # fmt: skip
        if kind != MapType.ARRAY:
            cases += [lambda: made.pop(1), lambda: list(made.drain()), lambda: made.delete_many([1])]
        for operation in cases:
            with refused(bpf2py.PermissionDenied, errno.EPERM, "map made: ", "the map is frozen"):
                operation()
        with pytest.raises(bpf2py.BpfOSError, match="map made: freeze: the map is frozen already") as caught:
            made.freeze()
        assert caught.value.errno in (errno.EPERM, errno.EBUSY)  # kernels differ
        assert made[1] == 7


def test_programs_may_write_to_frozen_maps(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    with bpf2py.load(build(SOURCE)) as obj:
        obj.maps["points"].freeze()
        obj.programs["use"].test_run()
        assert obj.maps["points"][699].y == 5


def test_a_mapped_array_is_shared_with_programs(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    with bpf2py.load(build(SOURCE)) as obj:
        points = obj.maps["points"]
        view = points.mmap()
        assert view.shape == (700,)
        assert view.dtype.names == ("x", "y", "list")
        view["y"] = range(700)
        view[699]["x"] = -5
        assert (points[698].y, points[699].x) == (698, -5)
        obj.programs["use"].test_run()
        assert (view[699]["x"], view[699]["y"]) == (-6, 704)
        points[0] = {"x": 1, "list": [[1, 2, 3], [4, 5, 6]]}
        assert view[0]["list"].tolist() == [[1, 2, 3], [4, 5, 6]]
        lists = obj.maps["lists"].mmap()
        assert lists.shape == (5, 2, 3)
        lists[4, 1, 2] = 9
        assert obj.maps["lists"][4] == [[0, 0, 0], [0, 0, 9]]
        with pytest.raises(bpf2py.NotSupported, match="map bits: mmap: values with bitfields"):
            obj.maps["bits"].mmap()


@pytest.mark.parametrize("value", ["u8", "u16", "u64", "u8[3]", 13])
def test_mapped_arrays_of_other_types(value: Any, assert_no_leaks: Callable[[], Any]) -> None:
    with assert_no_leaks():
        with Map.create("ARRAY", value=value, max_entries=1000, flags=MapFlags.MMAPABLE) as made:
            view = made.mmap()
            assert len(view) == 1000
            assert view.tolist() == made.to_numpy().tolist()
            made.update([made.value_codec.decode(bytes([n % 200]) * made.value_size) for n in range(1000)])
            assert view.tolist() == made.to_numpy().tolist()
        before = view[999].tobytes()
        view[999] = view[7]  # also after the map is closed
        assert view[999].tobytes() != before
        del view


def test_freezing_and_mapping(refused: Callable[..., Any]) -> None:
    with Map.create("ARRAY", value="u32", max_entries=5, flags=MapFlags.MMAPABLE, name="made") as made:
        view = made.mmap()
        with refused(bpf2py.BpfOSError, errno.EBUSY, "map made: freeze: ", "mapped writable"):
            made.freeze()
        del view
        made.freeze()
        with refused(bpf2py.BpfOSError, errno.EPERM, "map made: mmap: mmap failed", "takes writable=False"):
            made.mmap()
        view = made.mmap(writable=False)
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1
        assert view.tolist() == [0] * 5


def test_what_cannot_be_mapped(refused: Callable[..., Any]) -> None:
    for kind in (MapType.ARRAY, MapType.PERCPU_ARRAY):
        with (
            Map.create(kind, value="u32", max_entries=5, name="made") as made,
            refused(bpf2py.NotSupported, None, "map made: mmap: the map was made without map_flags BPF_F_MMAPABLE"),
        ):
            made.mmap()
