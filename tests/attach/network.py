"""Network traffic of the tests' own: namespaces, datagrams, connections; all received before a function returns."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from bpf2py.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Netlink, attribute

CLONE_NEWNET, SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8913, 0x8914, 1
RTM_NEWLINK, IFLA_IFNAME, IFLA_LINKINFO, IFLA_INFO_KIND, IFLA_INFO_DATA = 16, 3, 18, 1, 2
# include/uapi/linux/veth.h and if_link.h: the attribute that holds the other end's struct ifinfomsg.
PEER = {"veth": 1, "netkit": 1}
ADDRESSES = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def set_up(device: str) -> None:
    """Bring a device up, as `ip link set DEVICE up` does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16sh14x", device.encode(), 0))
        (flags,) = struct.unpack_from("h", answer, 16)
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", device.encode(), flags | IFF_UP))


def in_new_network(function: Callable[[], None]) -> None:
    """Run in a thread that has a network namespace of its own, with its loopback device up."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare")
            set_up("lo")
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def add_pair(kind: str, name: str, peer: str, data: bytes = b"") -> None:
    """A pair of devices (veth, netkit) that are each other's cable, both up. Raises OSError."""
    header = bytes(16)  # struct ifinfomsg
    other = attribute(PEER[kind], header + attribute(IFLA_IFNAME, peer.encode() + b"\0"))
    info = attribute(IFLA_INFO_KIND, kind.encode()) + attribute(IFLA_INFO_DATA, other + data)
    netlink = Netlink("test")
    try:
        body = header + attribute(IFLA_IFNAME, name.encode() + b"\0") + attribute(IFLA_LINKINFO, info)
        netlink.request("add a pair", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)
    finally:
        netlink.close()
    set_up(name)
    set_up(peer)


def send_raw(device: str, frame: bytes = bytes(12) + b"\x08\x00" + bytes(50)) -> None:
    """One Ethernet frame out of a device."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((device, 0))
        sock.send(frame)


def udp(family: socket.AddressFamily = socket.AF_INET) -> None:
    """One datagram over the loopback device."""
    with socket.socket(family, socket.SOCK_DGRAM) as receiver, socket.socket(family, socket.SOCK_DGRAM) as sender:
        receiver.bind((ADDRESSES[family], 0))
        receiver.settimeout(10)
        sender.sendto(b"x" * 32, receiver.getsockname())
        assert receiver.recvfrom(64)[0] == b"x" * 32


@contextlib.contextmanager
def tcp(family: socket.AddressFamily = socket.AF_INET) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected pair over the loopback device."""
    with socket.create_server((ADDRESSES[family], 0), family=family) as server:
        client = socket.create_connection(server.getsockname()[:2], timeout=10)
        accepted, _ = server.accept()
    accepted.settimeout(10)
    with client, accepted:
        yield client, accepted


def use_inet(family: socket.AddressFamily) -> None:
    """A connection and a datagram, and each end asked for the names of both."""
    with tcp(family) as (client, accepted):
        client.sendall(b"hello")
        assert accepted.recv(5) == b"hello"
        assert client.getpeername() == accepted.getsockname()
    udp(family)


def use_unix() -> None:
    """The same with sockets of this machine."""
    names = [f"\0bpf2py-{os.getpid()}-{number}" for number in range(2)]
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(names[0])
        sender.bind(names[1])
        sender.sendto(b"hello", names[0])
        assert receiver.recvfrom(5)[0] == b"hello"
        sender.connect(names[0])
        assert sender.getpeername() == receiver.getsockname()
