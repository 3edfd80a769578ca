from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapFlags, MapType, UpdateFlags

pytestmark = pytest.mark.kernel

SOURCE = """
struct my_route { __u32 prefixlen; __u8 address[4]; };
struct my_hop { __u32 device; char name[12]; };
struct {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __uint(max_entries, 100);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct my_route);
    __type(value, struct my_hop);
} routes SEC(".maps");
int device;
SEC("raw_tp/sched_switch")
int use(void *ctx)
{
    struct my_route key = { 32, { 10, 1, 2, 3 } };
    struct my_hop *found = bpf_map_lookup_elem(&routes, &key);
    device = found ? found->device : -1;
    return 0;
}
"""


def trie(data_size: int = 4, max_entries: int = 100, **options: Any) -> Any:
    return Map.create(
        MapType.LPM_TRIE, 4 + data_size, value="u32", max_entries=max_entries, flags=MapFlags.NO_PREALLOC,
        name="routes", **options,
    )  # fmt: skip


@pytest.fixture
def routes() -> Iterator[Any]:
    with trie() as made:
        made["0.0.0.0/0"] = 1
        made["10.0.0.0/8"] = 2
        made["10.1.0.0/16"] = 3
        yield made


def test_the_longest_prefix_matches(routes: Any) -> None:
    assert (routes["10.1.2.3"], routes["10.2.2.3"], routes["192.168.0.1"]) == (3, 2, 1)
    assert routes[ip_address("10.1.0.0")] == 3
    assert routes[ip_network("10.1.2.0/24")] == 3
    assert routes[16, b"\x0a\x02"] == 2
    assert routes.get("10.1.2.3", 0) == 3
    assert "8.8.8.8" in routes
    del routes["0.0.0.0/0"]
    assert "8.8.8.8" not in routes
    assert routes.get("8.8.8.8") is None


def test_keys_are_networks(routes: Any) -> None:
    expected = {ip_network("0.0.0.0/0"): 1, ip_network("10.0.0.0/8"): 2, ip_network("10.1.0.0/16"): 3}
    assert routes.snapshot() == dict(routes.items()) == expected
    assert set(routes) == set(expected)
    assert routes.count() == 3
    routes["10.1.2.3/24"] = 4  # bits beyond the prefix are kept
    assert routes.snapshot()[ip_interface("10.1.2.3/24")] == 4
    routes.update({"10.1.3.0/24": 5, ip_network("10.1.4.0/24"): 6})
    assert routes["10.1.4.1"] == 6
    assert routes.delete_many(["10.1.3.0/24", "1.0.0.0/8"]) == 1
    assert routes.pop("10.1.4.0/24") == 6
    assert sorted(routes.values()) == [1, 2, 3, 4]
    assert len(list(routes.drain())) == 4
    assert not routes
    routes["1.2.3.4"] = 9
    assert dict(routes) == {ip_network("1.2.3.4/32"): 9}
    routes.clear()
    assert routes.count() == 0


def test_pop_removes_the_exact_prefix_only(routes: Any, refused: Callable[..., Any]) -> None:
    with refused(bpf2py.KeyNotFound, errno.ENOENT, "map routes: pop: no key '10.1.2.0/24'"):
        routes.pop("10.1.2.0/24")
    assert routes.count() == 3
    assert routes.pop("10.1.2.0/24", None) is None
    with refused(bpf2py.KeyNotFound, errno.ENOENT, "no key '10.1.2.3'"):
        del routes["10.1.2.3"]


def test_setdefault_means_the_exact_prefix(routes: Any) -> None:
    assert routes.setdefault("10.1.5.0/24", 7) == 7
    assert routes.setdefault("10.1.5.0/24", 8) == 7


def test_ipv6() -> None:
    with trie(16) as made:
        made["2001:db8::/32"] = 1
        made["2001:db8:1::/48"] = 2
        assert (made["2001:db8:1::5"], made["2001:db8:2::5"]) == (2, 1)
        assert made.snapshot() == {ip_network("2001:db8::/32"): 1, ip_network("2001:db8:1::/48"): 2}


@pytest.mark.parametrize("data_size", [1, 3, 8, 37, 256])
def test_other_sizes_are_pairs(data_size: int) -> None:
    with trie(data_size) as made:
        made[8, b"\x0a"] = 1
        made[data_size * 8, b"\x0b".ljust(data_size, b"\1")] = 2
        assert made.snapshot() == {
            (8, b"\x0a".ljust(data_size, b"\0")): 1,
            (data_size * 8, b"\x0b".ljust(data_size, b"\1")): 2,
        }
        assert made[data_size * 8, b"\x0a"] == 1


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("10.0.0.0/33", "10.0.0.0/33"),
        ("2001:db8::/32", "16 bytes, the key has 4"),
        ((33, b"\x0a"), "prefix length 33 is not 0..32"),
        ((-1, b"\x0a"), "prefix length -1 is not 0..32"),
        ((8, b"12345"), "5 bytes given, the key has 4"),
        (7, ""),
        (None, ""),
    ],
)
def test_wrong_keys(routes: Any, refused: Callable[..., Any], key: Any, words: str) -> None:
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: routes[key], "lookup"),
        (lambda: routes.__setitem__(key, 1), "update"),
    ]
    for operation, what in cases:
        with refused(bpf2py.EncodeError, None, f"map routes: {what}: key: ", words):
            operation()


def test_full_and_flags(refused: Callable[..., Any]) -> None:
    with trie(max_entries=2) as made:
        made["10.0.0.0/8"] = 1
        with refused(bpf2py.KeyExists, errno.EEXIST, "key '10.0.0.0/8' is there already"):
            made.put("10.0.0.0/8", 2, UpdateFlags.NOEXIST)
        with refused(bpf2py.KeyNotFound, errno.ENOENT, "no key '10.1.0.0/16'"):
            made.put("10.1.0.0/16", 2, UpdateFlags.EXIST)
        made["11.0.0.0/8"] = 1
        with pytest.raises(bpf2py.MapFull, match=r"map routes: update: map is full \(max_entries=2\)"):
            made["12.0.0.0/8"] = 1
        with pytest.raises(bpf2py.MapFull):
            made.update({"13.0.0.0/8": 1})
        made["10.0.0.0/8"] = 3
        assert made.snapshot() == {ip_network("10.0.0.0/8"): 3, ip_network("11.0.0.0/8"): 1}
        with refused(bpf2py.BpfOSError, errno.EINVAL, "BPF_F_LOCK needs"):
            made.put("10.0.0.0/8", 2, UpdateFlags.LOCK)


def test_closed_while_iterating(routes: Any) -> None:
    walking = iter(routes.items())
    next(walking)
    routes.close()
    # Another map may get the number of the descriptor that was closed.
    with Map.create("HASH", key="u64", value="u32", max_entries=5) as other:
        other[5] = 5
        with pytest.raises(bpf2py.ClosedError, match=r"map routes: .*closed"):
            next(walking)


def test_from_c(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    with bpf2py.load(build(SOURCE)) as obj:
        routes = obj.maps["routes"]
        routes["10.0.0.0/8"] = {"device": 5, "name": "eth0"}
        routes[{"prefixlen": 16, "address": b"\x0a\x02"}] = {"device": 6, "name": "eth1"}
        obj.programs["use"].test_run()
        assert obj.variables["device"].value == 5
        assert routes["10.2.0.1"].name == "eth1"
        assert {str(key): value.device for key, value in routes.items()} == {"10.0.0.0/8": 5, "10.2.0.0/16": 6}
