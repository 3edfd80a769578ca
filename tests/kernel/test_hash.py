from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapFlags, MapType, UpdateFlags

pytestmark = pytest.mark.kernel

SOURCE = """
enum my_state { IDLE, BUSY = 7 };
struct my_key { char comm[8]; __u16 port; };
struct my_inner { __s32 low; __u8 octets[3]; };
struct my_value {
    __u64 count;
    struct my_inner inner;
    enum my_state state;
    __u32 kind : 4;
    __s32 level : 12;
    _Bool up;
    union { __u32 word; __u16 half; };
    __u32 list[3];
};
struct my_locked { struct bpf_spin_lock lock; __u32 number; };
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10);
    __type(key, struct my_key);
    __type(value, struct my_value);
} typed SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10);
    __type(key, __u32);
    __type(value, struct my_locked);
} locked SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10);
    __uint(key_size, 4);
    __uint(value_size, 3);
    __uint(map_flags, BPF_F_NO_PREALLOC);
} untyped SEC(".maps");
SEC("syscall")
int use(void *ctx)
{
    struct my_key key = { .comm = "program", .port = 1 };
    struct my_value value = { .count = 41, .inner = { -5, { 1, 2, 3 } }, .state = BUSY, .kind = 9, .level = -2, .up = 1 };
    struct my_value *found;
    bpf_map_update_elem(&typed, &key, &value, BPF_ANY);
    found = bpf_map_lookup_elem(&typed, &key);
    if (found)
        found->count++;
    return 0;
}
"""


@pytest.fixture
def counts() -> Iterator[Any]:
    with Map.create(MapType.HASH, key="u32", value="u64", max_entries=5, name="counts") as made:
        yield made


@pytest.fixture
def obj(build: Callable[[str], bpf2py.ObjectSpec]) -> Iterator[bpf2py.Object]:
    with bpf2py.load(build(SOURCE)) as loaded:
        yield loaded


def test_it_is_a_mapping(counts: Any) -> None:
    assert not counts
    counts[1] = 10
    counts[2] = 20
    assert counts[1] == 10
    assert counts.get(2) == 20
    assert counts.get(3) is None
    assert counts.get(3, "none") == "none"
    assert (1 in counts, 3 in counts) == (True, False)
    assert sorted(counts) == sorted(counts.keys()) == [1, 2]
    assert sorted(counts.values()) == [10, 20]
    assert sorted(counts.items()) == [(1, 10), (2, 20)]
    assert len(counts) == counts.count() == 2
    assert counts.pressure() == 2 / 5
    assert bool(counts)
    assert counts.snapshot() == {1: 10, 2: 20}
    counts[1] += 1
    assert counts.pop(1) == 11
    assert counts.pop(1, None) is None
    assert counts.setdefault(2, 99) == 20
    assert counts.setdefault(4, 40) == counts[4] == 40
    del counts[2]
    counts.delete(4)
    assert dict(counts) == {}
    counts.update({1: 1, 2: 2})
    counts.update([(2, 3), (4, 5)])
    assert counts.delete_many([1, 9, 4]) == 2
    assert counts.snapshot() == {2: 3}
    assert counts.popitem() == (2, 3)
    with pytest.raises(bpf2py.KeyNotFound, match="map counts: popitem: the map is empty"):
        counts.popitem()
    counts.update({1: 1, 2: 2})
    assert sorted(counts.drain()) == [(1, 1), (2, 2)]
    counts.update({1: 1, 2: 2})
    counts.clear()
    assert counts.snapshot() == {}
    counts.update({})
    assert counts.delete_many([]) == 0


def test_facts_of_the_map(counts: Any) -> None:
    assert (counts.name, counts.type, counts.key_size, counts.value_size) == ("counts", MapType.HASH, 4, 8)
    assert (counts.max_entries, counts.flags, counts.info.name) == (5, MapFlags(0), "counts")
    assert counts.id > 0
    assert "HASH map counts: u32 -> u64, max_entries=5" in repr(counts)


def test_a_full_map_says_so(counts: Any, refused: Callable[..., Any]) -> None:
    counts.update({key: key for key in range(5)})
    with refused(bpf2py.MapFull, errno.E2BIG, "map counts: update: map is full (max_entries=5) (E2BIG)"):
        counts[5] = 5
    counts[4] = 44  # keys that are there can always be set
    with refused(bpf2py.MapFull, errno.E2BIG, "map is full (max_entries=5)"):
        counts.update({7: 7, 8: 8})
    assert counts.pressure() == 1.0
    assert counts[4] == 44


def test_a_batch_that_does_not_fit_sets_what_comes_before(counts: Any, refused: Callable[..., Any]) -> None:
    with refused(bpf2py.MapFull, errno.E2BIG):
        counts.update((key, key) for key in range(7))
    assert sorted(counts) == [0, 1, 2, 3, 4]


def test_update_flags(counts: Any, refused: Callable[..., Any]) -> None:
    with refused(bpf2py.KeyNotFound, errno.ENOENT, "map counts: update: no key 1"):
        counts.put(1, 1, UpdateFlags.EXIST)
    counts.put(1, 1, UpdateFlags.NOEXIST)
    with refused(bpf2py.KeyExists, errno.EEXIST, "map counts: update: key 1 is there already"):
        counts.put(1, 2, UpdateFlags.NOEXIST)
    counts.put(1, 3, UpdateFlags.EXIST)
    assert counts[1] == 3
    with refused(bpf2py.BpfOSError, errno.EINVAL, "BPF_F_LOCK needs a struct bpf_spin_lock"):
        counts.put(1, 4, UpdateFlags.LOCK)
    with refused(bpf2py.BpfOSError, errno.EINVAL, "BPF_F_LOCK needs a struct bpf_spin_lock"):
        counts.lookup(1, UpdateFlags.LOCK)
    with refused(bpf2py.BpfOSError, errno.EINVAL, "flags 0x3 are not allowed for HASH"):
        counts.put(1, 4, 3)
    assert counts.lookup(1) == 3


def test_a_missing_key_is_a_key_error(counts: Any, refused: Callable[..., Any]) -> None:
    cases: list[Callable[[], Any]] = [
        lambda: counts[7], lambda: counts.pop(7), lambda: counts.delete(7), lambda: counts.lookup(7),
    ]  # fmt: skip
    for operation in cases:
        with refused(bpf2py.KeyNotFound, errno.ENOENT, "map counts", "no key 7 (ENOENT)"):
            operation()
    with pytest.raises(KeyError):
        del counts[7]


@pytest.mark.parametrize("bad", [-1, 1 << 32, "one", 1.5, None, b"abc"])
def test_keys_of_the_wrong_type_or_range(counts: Any, refused: Callable[..., Any], bad: Any) -> None:
    for operation in (
        lambda: counts[bad],
        lambda: counts.__setitem__(bad, 1),
        lambda: counts.pop(bad),
        lambda: counts.get(bad),
        lambda: bad in counts,
        lambda: counts.delete(bad),
    ):
        with refused(bpf2py.EncodeError, None, "map counts", "key: "):
            operation()
    with refused(bpf2py.EncodeError, None, "map counts: update"):
        counts.update({bad: 1})
    with refused(bpf2py.EncodeError, None, "map counts: delete"):
        counts.delete_many([bad])


@pytest.mark.parametrize("bad", [-1, 1 << 64, "one", 1.5, None, b"abc"])
def test_values_of_the_wrong_type_or_range(counts: Any, refused: Callable[..., Any], bad: Any) -> None:
    with refused(bpf2py.EncodeError, None, "map counts: update: value: "):
        counts[1] = bad
    with refused(bpf2py.EncodeError, None, "map counts: update"):
        counts.update({1: bad})
    assert not counts


def test_a_closed_map(refused: Callable[..., Any]) -> None:
    counts = Map.create(MapType.HASH, key="u32", value="u64", max_entries=5, name="counts")
    counts[1] = 1
    walking = iter(counts.items())
    counts.close()
    counts.close()
    assert counts.closed
    assert repr(counts).endswith(" closed>")
    for operation in (
        lambda: counts[1],
        lambda: counts.__setitem__(1, 1),
        lambda: 1 in counts,
        lambda: list(counts),
        lambda: list(counts.items()),
        lambda: counts.count(),
        lambda: counts.clear(),
        lambda: counts.update({1: 1}),
        lambda: counts.to_numpy(),
        lambda: counts.delete_many([1]),
        lambda: bool(counts),
        lambda: counts.fileno(),
        lambda: next(walking),
    ):
        with pytest.raises(bpf2py.ClosedError, match=r"map counts: .*the map is closed"):
            operation()
    for operation in (lambda: counts.freeze(), lambda: counts.pin("/sys/fs/bpf/never")):
        with pytest.raises(bpf2py.ClosedError, match=r"map counts: .*the map is closed"):
            operation()


def test_nothing_leaks(assert_no_leaks: Callable[[], Any]) -> None:
    with assert_no_leaks():
        with Map.create(MapType.HASH, key="u32", value="u64", max_entries=5) as counts:
            counts[1] = 1
        left = Map.create(MapType.HASH, key="u32", value="u64", max_entries=5)
        del left


def test_structs_by_their_btf(obj: bpf2py.Object) -> None:
    typed = obj.maps["typed"]
    obj.programs["use"].test_run()
    ((key, value),) = typed.items()
    assert (key.comm, key.port) == ("program", 1)
    assert (value.count, value.inner.low, value.inner.octets) == (42, -5, b"\1\2\3")
    assert (value.state, value.state.name, value.kind, value.level, value.up) == (7, "BUSY", 9, -2, True)
    typed[{"comm": "python", "port": 65535}] = {
        "count": 1,
        "inner": {"low": 2, "octets": b"\3\4\5"},
        "state": "IDLE",
        "kind": 15,
        "level": 2047,
        "up": False,
        "word": 0x10002,
        "list": [1, 2, 3],
    }
    found = typed["python", 65535]
    assert (found.half, found.list, found.kind, found.level) == (2, [1, 2, 3], 15, 2047)
    typed["copy", 0] = found
    assert typed["copy", 0] == found
    assert typed[bytes(typed.key_codec.encode(("copy", 0)))] == found
    del typed[key]
    assert sorted(k.comm for k in typed) == ["copy", "python"]
    assert {k: v.count for k, v in typed.items()}[("python", 65535)] == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"kind": 16}, ".kind: "),
        ({"level": -2049}, ".level: "),
        ({"inner": {"low": 1 << 31}}, ".inner.low: "),
        ({"counts": 1}, "counts"),
        ({"state": "NONE"}, ".state: 'NONE' is not a member of enum my_state: IDLE, BUSY"),
        ({"list": [1, 2, 3, 4]}, ".list"),
        (7, ""),
    ],
)
def test_struct_values_that_do_not_fit(obj: bpf2py.Object, refused: Callable[..., Any], value: Any, words: str) -> None:
    with refused(bpf2py.EncodeError, None, "map typed: update: value", words):
        obj.maps["typed"]["a", 1] = value


def test_spin_locks(obj: bpf2py.Object) -> None:
    locked = obj.maps["locked"]
    locked.put(1, {"number": 5}, UpdateFlags.LOCK | UpdateFlags.NOEXIST)
    locked.put(1, {"number": 6}, UpdateFlags.LOCK | UpdateFlags.EXIST)
    assert locked.lookup(1, UpdateFlags.LOCK).number == 6
    assert [value.number for value in locked.values()] == [6]


def test_untyped_maps_take_bytes(obj: bpf2py.Object, refused: Callable[..., Any]) -> None:
    untyped = obj.maps["untyped"]
    assert untyped.flags == MapFlags.NO_PREALLOC
    untyped[b"abcd"] = b"xyz"
    untyped[1] = b"123"
    assert untyped.snapshot() == {b"abcd": b"xyz", b"\1\0\0\0": b"123"}
    with refused(bpf2py.EncodeError, None, "map untyped: update: key: 3 bytes given, bytes has 4"):
        untyped[b"abc"] = b"xyz"
    with refused(bpf2py.EncodeError, None, "map untyped: update: value: 4 bytes given, bytes has 3"):
        untyped[b"abcd"] = b"xyz!"


@pytest.mark.parametrize(
    "flags", [MapFlags(0), MapFlags.NO_PREALLOC, MapFlags.ZERO_SEED, MapFlags.NUMA_NODE], ids=lambda flag: flag.name
)
def test_creation_flags(flags: MapFlags) -> None:
    node = 0 if flags & MapFlags.NUMA_NODE else None
    with Map.create("HASH", key="u32", value="u32", max_entries=100, flags=flags, numa_node=node) as made:
        assert made.flags == flags
        made.update({key: key + 1 for key in range(100)})
        with pytest.raises(bpf2py.MapFull):
            made[100] = 1
        assert made.snapshot() == {key: key + 1 for key in range(100)}


def test_a_numa_node_sets_its_flag() -> None:
    with Map.create("HASH", key="u32", value="u32", max_entries=1, numa_node=0) as made:
        assert made.flags == MapFlags.NUMA_NODE


@pytest.mark.parametrize("flag", ["RDONLY", "WRONLY"])
def test_one_way_maps(flag: str, refused: Callable[..., Any]) -> None:
    with Map.create("HASH", key="u32", value="u32", max_entries=5, flags=MapFlags[flag], name="one_way") as made:
        reading = [
            lambda: made[1], lambda: made.get(1), lambda: list(made), lambda: dict(made.items()), lambda: made.count(),
            lambda: 1 in made, lambda: bool(made),
        ]  # fmt: skip
        writing = [
            lambda: made.__setitem__(1, 1), lambda: made.delete(1), lambda: made.update({1: 1}),
            lambda: made.delete_many([1]),
        ]  # fmt: skip
        wrong, word = (writing, "read-only") if flag == "RDONLY" else (reading, "write-only")
        for operation in (*wrong, made.clear, lambda: list(made.drain()), lambda: made.pop(1)):
            with refused(bpf2py.PermissionDenied, errno.EPERM, "map one_way", word, f"BPF_F_{flag}"):
                operation()
        if flag == "RDONLY":
            assert (made.get(1), list(made), made.count()) == (None, [], 0)
        else:
            made[1] = 1
            made.update({2: 2})
            made.delete(1)


@pytest.mark.parametrize("key_size", [1, 3, 4, 8, 13, 64, 511, 512])
@pytest.mark.parametrize("value_size", [1, 7, 8, 4096, 65536])
def test_batches_of_every_size(key_size: int, value_size: int) -> None:
    count = min(200, 1 << 8 * key_size, (4 << 20) // value_size)
    keys = [number.to_bytes(2, "little").ljust(key_size, b"k")[:key_size] for number in range(count)]
    with Map.create("HASH", key_size, value_size, count, MapFlags.NO_PREALLOC) as made:
        expected = {key: bytes([key[0]]) * value_size for key in keys}
        made.update(expected)
        assert made.count() == len(expected)
        assert made.snapshot() == expected
        assert made.delete_many(keys[: len(keys) // 2]) == len(set(keys[: len(keys) // 2]))
        for key in keys[: len(keys) // 2]:
            del expected[key]
        assert dict(made.drain()) == expected
        assert made.count() == 0


def test_more_elements_than_one_batch_holds(scale: Callable[[int], int]) -> None:
    count = scale(150_000)
    with Map.create("HASH", key="u32", value="u32", max_entries=count) as made:
        made.update({key: key * 2 for key in range(count)})
        assert made.count() == count
        assert made.snapshot() == {key: key * 2 for key in range(count)}
        assert made.delete_many(range(0, count, 2)) == count // 2
        assert sorted(made) == list(range(1, count, 2))
        drained = list(made.drain())
        assert len(drained) == count // 2
        assert dict(drained) == {key: key * 2 for key in range(1, count, 2)}
        made.update(dict.fromkeys(range(count), 1))
        made.clear()
        assert not made


def test_one_element_maps() -> None:
    with Map.create("HASH", key="u32", value="u32", max_entries=1) as made:
        made[7] = 8
        assert made.snapshot() == {7: 8}
        assert list(made.drain()) == [(7, 8)]


def test_keys_one_behind_another() -> None:
    with Map.create(MapType.HASH, key="u32", value="u32", max_entries=8) as numbers:
        with pytest.raises(bpf2py.KeyNotFound, match="next key: the map is empty") as caught:
            numbers.next_key()
        assert (caught.value.errno, caught.value.command) == (errno.ENOENT, "BPF_MAP_GET_NEXT_KEY")
        numbers.update({5: 1, 6: 2, 7: 3})
        order = [numbers.next_key()]
        order += [numbers.next_key(order[0])]
        order += [numbers.next_key(order[1])]
        assert order == list(numbers)
        assert numbers.next_key(99) == order[0], "of a key that is not there: the first"
        with pytest.raises(bpf2py.KeyNotFound, match=f"there is no key behind {order[2]}"):
            numbers.next_key(order[2])
