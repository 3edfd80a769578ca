"""What is attached where: BPF_PROG_QUERY, and what rtnetlink tells of XDP and tc programs without links.

Layouts: include/uapi/linux/{if_link,pkt_cls,rtnetlink,bpf}.h.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator

from bpf2py._typing import NamedTuple
from bpf2py.kernel.cgroups import mount_point
from bpf2py.kernel.netlink import PARENTS
from bpf2py.kernel.syscall import bpf_inout
from bpf2py.uapi.commands import Command
from bpf2py.uapi.program_types import AttachType as A

__all__ = ["CGROUP_TYPES", "Attached", "attached_to_cgroup", "attached_to_devices", "attached_to_netns", "cgroups"]

RTM_GETLINK, RTM_GETTFILTER = 18, 46
NLM_F_REQUEST, NLM_F_DUMP = 1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
IFLA_IFNAME, IFLA_XDP = 3, 43
IFLA_XDP_ATTACHED, IFLA_XDP_PROG_ID = 2, 4
_XDP_OF_MODE = {5: "driver", 6: "generic", 7: "offload"}  # IFLA_XDP_DRV_PROG_ID and so on (Linux 4.19)
_XDP_MODES = {1: "driver", 2: "generic", 3: "offload"}
TCA_KIND, TCA_OPTIONS, TCA_BPF_NAME, TCA_BPF_ID = 1, 2, 7, 11
NLA_TYPE_MASK = 0x3FFF
BPF_F_QUERY_EFFECTIVE = 1
MOST_PROGRAMS = 1024
_MESSAGE = struct.Struct("<IHHII")

CGROUP_TYPES = (*(kind for kind in A if kind.name.startswith("CGROUP_")), A.LSM_CGROUP)
_DEVICE_TYPES = (A.TCX_INGRESS, A.TCX_EGRESS, A.NETKIT_PRIMARY, A.NETKIT_PEER)


class Attached(NamedTuple):
    """A program somewhere.

    Attributes:
        where: the device, the cgroup's path, or the namespace.
        kind: such as ``"xdp/generic"``, ``"tcx/ingress"``, ``"clsact/egress"`` or ``"cgroup_inet_ingress"``.
        program: its id.
        name: the filter's name of tc, else empty.
    """

    where: str
    kind: str
    program: int
    name: str = ""


def query(target: int, kind: A, flags: int = 0) -> list[int] | int:
    """BPF_PROG_QUERY: the ids of the programs attached to a descriptor or device, or -errno."""
    ids = (ctypes.c_uint32 * MOST_PROGRAMS)()
    attr = struct.pack("<IIIIQI", target, int(kind), flags, 0, ctypes.addressof(ids), MOST_PROGRAMS)
    buffer = ctypes.create_string_buffer(attr.ljust(64, b"\0"), 64)
    result = bpf_inout(Command.PROG_QUERY, buffer)
    if result < 0:
        return result
    count = int.from_bytes(buffer.raw[24:28], "little")
    return list(ids[:count])


def attached_to_cgroup(path: str, effective: bool = False) -> Iterator[Attached]:
    """Programs of a control group; with `effective` also those of the groups above that run for it. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for kind in CGROUP_TYPES:
            found = query(fd, kind, BPF_F_QUERY_EFFECTIVE if effective else 0)
            for ident in found if isinstance(found, list) else ():
                yield Attached(path, kind.name.lower(), ident)
    finally:
        os.close(fd)


def cgroups(root: str | None = None) -> Iterator[str]:
    """A control group and all below it; of the mount point of cgroup2 without one, nothing where there is none."""
    start = root if root is not None else mount_point()
    if start is not None:
        for directory, _, _ in os.walk(start):
            yield directory


def attached_to_netns() -> Iterator[Attached]:
    """Programs of this thread's network namespace."""
    fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for kind in (A.FLOW_DISSECTOR, A.SK_LOOKUP):
            found = query(fd, kind)
            for ident in found if isinstance(found, list) else ():
                yield Attached("netns", kind.name.lower(), ident)
    finally:
        os.close(fd)


def attached_to_devices() -> Iterator[Attached]:
    """XDP, tcx, netkit and clsact programs of the network devices of this namespace. Raises OSError."""
    for index, name, xdp in _devices():
        for mode, ident in xdp:
            yield Attached(name, f"xdp/{mode}", ident)
        for kind in _DEVICE_TYPES:
            found = query(index, kind)
            for ident in found if isinstance(found, list) else ():
                yield Attached(name, kind.name.lower().replace("_", "/"), ident)
        for direction, parent in PARENTS.items():
            for ident, text in _filters(index, parent):
                yield Attached(name, f"clsact/{direction}", ident, text)


def _dump(kind: int, body: bytes) -> Iterator[bytes]:
    """The bodies of the answers to a dump request."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as sock:
        sock.send(_MESSAGE.pack(_MESSAGE.size + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body)
        while True:
            data = sock.recv(1 << 18)
            at = 0
            while at + _MESSAGE.size <= len(data):
                size, answer, _, _, _ = _MESSAGE.unpack_from(data, at)
                if answer in (NLMSG_DONE, NLMSG_ERROR) or size < _MESSAGE.size:
                    return
                yield data[at + _MESSAGE.size : at + size]
                at += (size + 3) // 4 * 4


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("<HH", data, at)
        if size < 4:
            break
        found[kind & NLA_TYPE_MASK] = data[at + 4 : at + size]
        at += (size + 3) // 4 * 4
    return found


def _devices() -> Iterator[tuple[int, str, list[tuple[str, int]]]]:
    """(index, name, [(mode, id) of XDP programs])."""
    for body in list(_dump(RTM_GETLINK, struct.pack("<BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0))):
        (index,) = struct.unpack_from("<i", body, 4)
        attributes = _attributes(body[16:])
        name = attributes.get(IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace")
        xdp = _attributes(attributes.get(IFLA_XDP, b""))
        found = [(mode, int.from_bytes(xdp[kind][:4], "little")) for kind, mode in _XDP_OF_MODE.items() if kind in xdp]
        attached = xdp.get(IFLA_XDP_ATTACHED, b"\0")[0]
        if not found and attached in _XDP_MODES and IFLA_XDP_PROG_ID in xdp:
            found = [(_XDP_MODES[attached], int.from_bytes(xdp[IFLA_XDP_PROG_ID][:4], "little"))]
        yield index, name, [(mode, ident) for mode, ident in found if ident]


def _filters(index: int, parent: int) -> Iterator[tuple[int, str]]:
    """(id, name) of the BPF classifiers of a device's clsact qdisc."""
    for body in _dump(RTM_GETTFILTER, struct.pack("<BxxxiIII", socket.AF_UNSPEC, index, 0, parent, 0)):
        attributes = _attributes(body[20:])
        if attributes.get(TCA_KIND, b"").rstrip(b"\0") != b"bpf" or TCA_OPTIONS not in attributes:
            continue
        options = _attributes(attributes[TCA_OPTIONS])
        if TCA_BPF_ID in options:
            name = options.get(TCA_BPF_NAME, b"").rstrip(b"\0").decode("utf-8", "replace")
            yield int.from_bytes(options[TCA_BPF_ID][:4], "little"), name
