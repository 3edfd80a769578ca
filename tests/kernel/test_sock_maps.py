from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapType, UpdateFlags

pytestmark = pytest.mark.kernel

SO_COOKIE = 57


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected pair of TCP sockets."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            yield client, accepted


def cookie(of: socket.socket) -> int:
    return int.from_bytes(of.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little")


@pytest.mark.parametrize("kind", [MapType.SOCKMAP, MapType.SOCKHASH], ids=lambda kind: kind.name)
def test_tcp_sockets(kind: MapType, pair: Any, refused: Callable[..., Any]) -> None:
    client, accepted = pair
    with Map.create(kind, key="u32", value_size=8, max_entries=3, name="made") as made:
        made[0] = client
        made[2] = accepted.fileno()
        assert made[0] == cookie(client)
        assert made.snapshot() == {0: cookie(client), 2: cookie(accepted)}
        assert sorted(made) == [0, 2]
        assert made.count() == 2
        assert 1 not in made
        with refused(bpf2py.KeyExists, errno.EEXIST):
            made.put(0, client, UpdateFlags.NOEXIST)
        with refused(bpf2py.KeyNotFound, errno.ENOENT):
            made[1]
        with refused(bpf2py.EncodeError, None, "map made: update", "'socket' is not a descriptor"):
            made[1] = "socket"
        with pytest.raises(bpf2py.BpfError, match="map made: update: "), open("/dev/null") as file:
            made[1] = file
        del made[0]
        assert 0 not in made
        with pytest.raises(bpf2py.KeyNotFound, match="map made: delete: "):
            del made[0]
        made.clear()
        assert made.count() == 0


def test_sockets_leave_when_they_are_closed(pair: Any) -> None:
    client, _ = pair
    with Map.create("SOCKHASH", key="u64", value_size=8, max_entries=3) as made:
        made[9] = client
        client.close()
        assert made.count() == 0


def test_cookies_take_values_of_8_bytes(pair: Any) -> None:
    with Map.create("SOCKMAP", value_size=4, max_entries=3, name="made") as made:
        made[0] = pair[0]
        with pytest.raises(bpf2py.BpfError, match=r"map made: lookup: .*values of 8 bytes"):
            made[0]


def test_full_and_out_of_range(pair: Any, refused: Callable[..., Any]) -> None:
    client, accepted = pair
    with (
        Map.create("SOCKHASH", key="u32", value_size=8, max_entries=1, name="made") as made,
        Map.create("SOCKMAP", value_size=8, max_entries=1, name="array") as array,
    ):
        made[0] = client
        with refused(bpf2py.MapFull, errno.E2BIG, "map made: update: map is full (max_entries=1)"):
            made[1] = accepted
        with refused(bpf2py.IndexOutOfRange, errno.E2BIG, "map array: update: index 1 >= max_entries 1"):
            array[1] = client


def test_reuseport_sockets(refused: Callable[..., Any]) -> None:
    with (
        Map.create("REUSEPORT_SOCKARRAY", value_size=8, max_entries=3, name="made") as made,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        udp.bind(("127.0.0.1", 0))
        made[1] = udp
        assert made.snapshot() == {1: cookie(udp)}
        del made[1]
        assert made.count() == 0
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain,
            refused(bpf2py.BpfOSError, errno.EINVAL, "map made: update: ", "SO_REUSEPORT"),
        ):
            made[0] = plain


def test_from_c(build: Callable[[str], bpf2py.ObjectSpec], pair: Any) -> None:
    source = """
    struct { __uint(type, BPF_MAP_TYPE_SOCKMAP); __uint(max_entries, 2); __type(key, __u32); __type(value, __u64); }
        sockets SEC(".maps");
    struct my_flow { __u32 from, to; };
    struct { __uint(type, BPF_MAP_TYPE_SOCKHASH); __uint(max_entries, 2); __type(key, struct my_flow); __type(value, __u64); }
        flows SEC(".maps");
    SEC("sk_skb/stream_verdict")
    int use(struct __sk_buff *skb) { return bpf_sk_redirect_map(skb, &sockets, 0, 0); }
    """
    with bpf2py.load(build(source)) as obj:
        obj.maps["sockets"][1] = pair[0]
        obj.maps["flows"][{"from": 1, "to": 2}] = pair[1]
        assert obj.maps["sockets"].snapshot() == {1: cookie(pair[0])}
        assert obj.maps["flows"].snapshot() == {(1, 2): cookie(pair[1])}
