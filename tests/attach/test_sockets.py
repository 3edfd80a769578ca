"""SEC() names of sockets and control groups: attached, and proved to have fired; see test_every_section.py."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.attach.conftest import Fired, case
from tests.attach.network import in_new_network, tcp, udp, use_inet, use_unix

pytestmark = pytest.mark.kernel
Load = Callable[..., Fired]


@pytest.mark.fires("socket")
def test_socket_filter(load: Load) -> None:
    fired = load("socket_filter")
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        with fired["socket_filter"].attach(socket=receiver):
            sender.sendto(b"ping", receiver.getsockname())
            assert receiver.recv(16) == b"ping"
            assert fired.runs("socket_filter") == 1


@pytest.mark.parametrize("name", [case("sk_reuseport", "reuseport"), case("sk_reuseport/migrate", "reuseport_migrate")])
def test_reuseport(load: Load, name: str) -> None:
    fired = load(name)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        with fired[name].attach(socket=receiver):
            sender.sendto(b"ping", receiver.getsockname())
            assert receiver.recv(16) == b"ping"
            assert fired.runs(name) == 1


@pytest.mark.parametrize(
    "names",
    [
        case("sk_msg", ["sk_msg"]),
        case("sk_skb/verdict", ["skb_verdict"]),
        case("sk_skb/stream_verdict", ["stream_verdict"]),
        case("sk_skb/stream_parser", ["stream_parser", "stream_verdict"]),
    ],
)
def test_socket_maps(load: Load, names: list[str]) -> None:
    fired = load(*names)
    sockets = fired.obj.maps["sockets"]
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(fired[name].attach(map=sockets))
        client, accepted = stack.enter_context(tcp())
        sockets[1], sockets[2] = client, accepted
        client.sendall(b"hello")
        assert accepted.recv(5) == b"hello"
        assert all(fired.runs(name) >= 1 for name in names)


@pytest.mark.fires("sk_lookup")
def test_sk_lookup(load: Load) -> None:
    fired = load("sk_lookup")

    def body() -> None:
        with fired["sk_lookup"].attach(netns=f"/proc/self/task/{threading.get_native_id()}/ns/net"):
            udp()
            assert fired.runs("sk_lookup") >= 1

    in_new_network(body)


def use_inet4() -> None:
    use_inet(socket.AF_INET)


def use_inet6() -> None:
    use_inet(socket.AF_INET6)


def use_options() -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1


@pytest.mark.parametrize(
    ("name", "use", "options"),
    [
        case("cgroup/skb", "cgroup_skb", use_inet4, {"direction": "egress"}),
        case("cgroup_skb/ingress", "skb_ingress", use_inet4, {}),
        case("cgroup_skb/egress", "skb_egress", use_inet4, {}),
        case("cgroup/sock", "sock", use_inet4, {}),
        case("cgroup/sock_create", "sock_create", use_inet4, {}),
        case("cgroup/sock_release", "sock_release", use_inet4, {}),
        case("cgroup/post_bind4", "post_bind4", use_inet4, {}),
        case("cgroup/post_bind6", "post_bind6", use_inet6, {}),
        case("cgroup/bind4", "bind4", use_inet4, {}),
        case("cgroup/bind6", "bind6", use_inet6, {}),
        case("cgroup/connect4", "connect4", use_inet4, {}),
        case("cgroup/connect6", "connect6", use_inet6, {}),
        case("cgroup/connect_unix", "connect_unix", use_unix, {}),
        case("cgroup/sendmsg4", "sendmsg4", use_inet4, {}),
        case("cgroup/sendmsg6", "sendmsg6", use_inet6, {}),
        case("cgroup/sendmsg_unix", "sendmsg_unix", use_unix, {}),
        case("cgroup/recvmsg4", "recvmsg4", use_inet4, {}),
        case("cgroup/recvmsg6", "recvmsg6", use_inet6, {}),
        case("cgroup/recvmsg_unix", "recvmsg_unix", use_unix, {}),
        case("cgroup/getpeername4", "getpeername4", use_inet4, {}),
        case("cgroup/getpeername6", "getpeername6", use_inet6, {}),
        case("cgroup/getpeername_unix", "getpeername_unix", use_unix, {}),
        case("cgroup/getsockname4", "getsockname4", use_inet4, {}),
        case("cgroup/getsockname6", "getsockname6", use_inet6, {}),
        case("cgroup/getsockname_unix", "getsockname_unix", use_unix, {}),
        case("cgroup/getsockopt", "getsockopt", use_options, {}),
        case("cgroup/setsockopt", "setsockopt", use_options, {}),
        case("cgroup/sysctl", "sysctl", lambda: Path("/proc/sys/kernel/ostype").read_text(), {}),
        case("cgroup/dev", "dev", lambda: Path("/dev/null").read_bytes(), {}),
        case("sockops", "sockops", use_inet4, {}),
    ],
)
def test_control_groups(load: Load, cgroup: str, name: str, use: Callable[[], object], options: Any) -> None:
    fired = load(name)
    with fired[name].attach(cgroup=cgroup, **options):
        use()
        assert fired.runs(name) >= 1
    settled = fired.runs(name)
    use()
    assert fired.runs(name) == settled, "closing the link detaches"
