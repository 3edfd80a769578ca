"""A little of rtnetlink: queueing disciplines, and classifiers that are BPF programs.

Layouts and numbers: include/uapi/linux/netlink.h, rtnetlink.h, pkt_cls.h and pkt_sched.h.
"""

from __future__ import annotations

import socket
import struct

from bpf2py._typing import NamedTuple
from bpf2py.errors import BpfOSError, NotSupported, PermissionDenied
from bpf2py.uapi.errno import EEXIST, ENOENT, EPERM

NLMSG_ERROR = 2
NLM_F_REQUEST, NLM_F_ACK, NLM_F_ECHO = 1, 4, 8
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLM_F_ACK_TLVS = 0x200  # on answers: attributes follow the error
SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK = 270, 10, 11
NLMSGERR_ATTR_MSG = 1
RTM_SETLINK, IFLA_XDP, NLA_F_NESTED = 19, 43, 0x8000
IFLA_XDP_FD, IFLA_XDP_FLAGS, IFLA_XDP_EXPECTED_FD = 1, 3, 8
RTM_NEWQDISC, RTM_DELQDISC, RTM_NEWTFILTER, RTM_DELTFILTER = 36, 37, 44, 45
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS = 6, 7, 8
TCA_BPF_FLAG_ACT_DIRECT = 1
TC_H_CLSACT, TC_H_MAJ_MASK = 0xFFFFFFF1, 0xFFFF0000
# Parents of the filters of a clsact qdisc: its major number and TC_H_MIN_INGRESS or TC_H_MIN_EGRESS.
PARENTS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
ETH_P_ALL = 3


_HEADER = struct.Struct("<IHHII")
_TCMSG = struct.Struct("<BxxxiIII")
_COMMANDS = {
    RTM_SETLINK: "RTM_SETLINK",
    RTM_NEWQDISC: "RTM_NEWQDISC",
    RTM_DELQDISC: "RTM_DELQDISC",
    RTM_NEWTFILTER: "RTM_NEWTFILTER",
    RTM_DELTFILTER: "RTM_DELTFILTER",
}


class Filter(NamedTuple):
    """A classifier: the device's index, the hook's `PARENTS` number, and its handle and priority there."""

    device: int
    parent: int
    handle: int
    priority: int

    def message(self, attributes: bytes = b"") -> bytes:
        """A struct tcmsg, and attributes."""
        info = self.priority << 16 | socket.htons(ETH_P_ALL)
        return _TCMSG.pack(0, self.device, self.handle, self.parent, info) + attributes


def attribute(kind: int, data: bytes) -> bytes:
    """A struct nlattr with its data, padded."""
    return struct.pack("<HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


class NetlinkError(BpfOSError):
    """The kernel refused a request; `reason` is what it says itself (Linux 4.12), else empty."""

    reason = ""


class Netlink:
    """A rtnetlink socket; it stays in the network namespace it was opened in.

    Raises:
        BpfOSError: it cannot be opened.
    """

    def __init__(self, what: str) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        except OSError as error:
            raise BpfOSError(f"{what}: netlink", errno=error.errno, command="socket") from None
        for option in (NETLINK_EXT_ACK, NETLINK_CAP_ACK):
            try:
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            except OSError:
                pass  # older than 4.12: no reasons
        self._sequence = 0

    @property
    def fd(self) -> int:
        """The socket's descriptor, negative once closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def request(self, what: str, kind: int, flags: int, body: bytes) -> list[bytes]:
        """Send a request and wait until the kernel has done it.

        Returns:
            The bodies of the notifications it sent back (NLM_F_ECHO).

        Raises:
            PermissionDenied, NetlinkError: the kernel refused it.
        """
        self._sequence += 1
        flags |= NLM_F_REQUEST | NLM_F_ACK
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
        echoed: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 16)
            at = 0
            while at + _HEADER.size <= len(data):
                size, answer, answer_flags, sequence, _ = _HEADER.unpack_from(data, at)
                message = data[at + _HEADER.size : at + size]
                at += max((size + 3) // 4 * 4, _HEADER.size)
                if sequence != self._sequence:
                    continue
                if answer != NLMSG_ERROR:
                    echoed.append(message)
                    continue
                errno = -int.from_bytes(message[:4], "little", signed=True)
                if not errno:
                    return echoed
                raise self._error(what, kind, errno, message if answer_flags & NLM_F_ACK_TLVS else b"")

    @staticmethod
    def _error(what: str, kind: int, errno: int, message: bytes) -> BpfOSError:
        command = _COMMANDS.get(kind, f"netlink message {kind}")
        if errno == EPERM:
            return PermissionDenied(
                f"{what}: {command} is not permitted: CAP_NET_ADMIN is needed in the network's namespace",
                errno=errno,
                command=command,
            )
        reason, at = "", 4 + _HEADER.size
        while at + 4 <= len(message):
            size, attr = struct.unpack_from("<HH", message, at)
            if attr & 0x3FFF == NLMSGERR_ATTR_MSG:
                reason = message[at + 4 : at + size].rstrip(b"\0").decode("utf-8", "replace")
            at += max((size + 3) // 4 * 4, 4)
        error = NetlinkError(f"{what}: {reason or f'{command} failed'}", errno=errno, command=command)
        error.reason = reason
        return error

    def set_xdp(self, what: str, device: int, program_fd: int, flags: int, expected_fd: int | None = None) -> None:
        """Make a program the XDP program of a device (Linux 4.8), or with descriptor -1 take the one there off.

        Args:
            flags: XDP_FLAGS_* of include/uapi/linux/if_link.h.
            expected_fd: with XDP_FLAGS_REPLACE: the program that must be there now (Linux 5.7).
        """
        values = attribute(IFLA_XDP_FD, struct.pack("<i", program_fd)) + attribute(
            IFLA_XDP_FLAGS, struct.pack("<I", flags)
        )
        if expected_fd is not None:
            values += attribute(IFLA_XDP_EXPECTED_FD, struct.pack("<i", expected_fd))
        info = struct.pack("<BxHiII", 0, 0, device, 0, 0)  # struct ifinfomsg
        self.request(what, RTM_SETLINK, 0, info + attribute(IFLA_XDP | NLA_F_NESTED, values))

    def add_clsact(self, what: str, device: int) -> bool:
        """Give a device a clsact qdisc (Linux 4.5); False when it has one (or ingress) already.

        Raises NotSupported when the kernel was built without it.
        """
        body = _TCMSG.pack(0, device, TC_H_CLSACT & TC_H_MAJ_MASK, TC_H_CLSACT, 0)
        try:
            self.request(what, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body + attribute(TCA_KIND, b"clsact\0"))
        except NetlinkError as error:
            if error.errno == EEXIST:
                return False
            if error.errno == ENOENT:
                raise NotSupported(
                    f"{what}: this kernel has no clsact qdisc (CONFIG_NET_SCH_INGRESS)",
                    feature="clsact",
                    since="4.5",
                    errno=error.errno,
                    command=error.command,
                ) from None
            raise
        return True

    def delete_clsact(self, what: str, device: int) -> None:
        """Take a device's clsact qdisc away, with all its filters. Raises NetlinkError when it has none."""
        body = _TCMSG.pack(0, device, TC_H_CLSACT & TC_H_MAJ_MASK, TC_H_CLSACT, 0)
        self.request(what, RTM_DELQDISC, 0, body + attribute(TCA_KIND, b"clsact\0"))

    def set_filter(self, what: str, place: Filter, program_fd: int, name: str, *, replace: bool = False) -> Filter:
        """Make a BPF program a classifier whose return value is the action.

        Args:
            place: with handle or priority 0 the kernel chooses them.
            name: what `tc filter show` calls it.
            replace: put it in place of the one there, instead of failing with EEXIST.

        Returns:
            Where it is.
        """
        options = (
            attribute(TCA_BPF_FD, struct.pack("<I", program_fd))
            + attribute(TCA_BPF_NAME, name.encode() + b"\0")
            + attribute(TCA_BPF_FLAGS, struct.pack("<I", TCA_BPF_FLAG_ACT_DIRECT))
        )
        body = place.message(attribute(TCA_KIND, b"bpf\0") + attribute(TCA_OPTIONS, options))
        flags = NLM_F_CREATE | NLM_F_ECHO | (NLM_F_REPLACE if replace else NLM_F_EXCL)
        for message in self.request(what, RTM_NEWTFILTER, flags, body):
            if len(message) >= _TCMSG.size:
                _, device, handle, parent, info = _TCMSG.unpack_from(message)
                return Filter(device, parent, handle, info >> 16)
        return place

    def delete_filter(self, what: str, place: Filter) -> None:
        """Take a classifier away. Raises NetlinkError when it is not there."""
        self.request(what, RTM_DELTFILTER, 0, place.message())
