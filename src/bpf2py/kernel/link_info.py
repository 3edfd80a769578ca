"""What the kernel tells of a link: struct bpf_link_info (Linux 5.8), with the part that belongs to its type."""

from __future__ import annotations

import ctypes
import struct

from bpf2py._typing import Any, NamedTuple
from bpf2py.kernel.objects import object_info
from bpf2py.kernel.syscall import check
from bpf2py.uapi.commands import Command
from bpf2py.uapi.program_types import AttachType

__all__ = ["LINK_TYPES", "LinkInfo", "link_info"]

# enum bpf_link_type.
LINK_TYPES = (
    "unspec", "raw_tracepoint", "tracing", "cgroup", "iter", "netns", "xdp", "perf_event", "kprobe_multi", "struct_ops",
    "netfilter", "tcx", "uprobe_multi", "netkit", "sockmap", "tracing_multi",
)  # fmt: skip
SIZE = 64  # bytes read; the kernel leaves what it does not know zero
NAMES = 4096  # PATH_MAX

# Members behind the common ones, as (name, offset, struct format); 0 is what older kernels, which lack a member, leave there.
_MEMBERS: dict[str, tuple[tuple[str, int, str], ...]] = {
    "raw_tracepoint": (("cookie", 32, "Q"),),
    "tracing": (("attach_type", 16, "I"), ("target_obj_id", 20, "I"), ("target_btf_id", 24, "I"), ("cookie", 32, "Q")),
    "cgroup": (("cgroup_id", 16, "Q"), ("attach_type", 24, "I")),
    "iter": (),
    "netns": (("netns_ino", 16, "I"), ("attach_type", 20, "I")),
    "xdp": (("ifindex", 16, "I"),),
    "kprobe_multi": (("count", 24, "I"), ("flags", 28, "I"), ("missed", 32, "Q")),
    "struct_ops": (("map_id", 16, "I"),),
    "netfilter": (("pf", 16, "I"), ("hooknum", 20, "I"), ("priority", 24, "i"), ("flags", 28, "I")),
    "tcx": (("ifindex", 16, "I"), ("attach_type", 20, "I")),
    "tracing_multi": (("attach_type", 16, "I"), ("count", 20, "I"), ("btf_obj_id", 24, "I")),
    "uprobe_multi": (("count", 52, "I"), ("flags", 56, "I"), ("pid", 60, "I")),
    "netkit": (("ifindex", 16, "I"), ("attach_type", 20, "I")),
    "sockmap": (("map_id", 16, "I"), ("attach_type", 20, "I")),
}
# enum bpf_perf_event_type (Linux 6.6), with the members of each.
_PERF_EVENTS: tuple[tuple[str, tuple[tuple[str, int, str], ...]], ...] = (
    ("unspec", ()),
    ("uprobe", (("offset", 36, "I"), ("cookie", 40, "Q"))),
    ("uretprobe", (("offset", 36, "I"), ("cookie", 40, "Q"))),
    ("kprobe", (("offset", 36, "I"), ("missed", 48, "Q"), ("cookie", 56, "Q"))),
    ("kretprobe", (("offset", 36, "I"), ("missed", 48, "Q"), ("cookie", 56, "Q"))),
    ("tracepoint", (("cookie", 40, "Q"),)),
    ("event", (("config", 24, "Q"), ("event_type", 32, "I"), ("cookie", 40, "Q"))),
)
# Where a name goes, by link type: what to call it, the offsets of its address and of its room.
_TEXTS = {
    "raw_tracepoint": ("name", 16, 24),
    "iter": ("target", 16, 24),
    "uprobe_multi": ("path", 16, 48),
    "uprobe": ("path", 24, 32),
    "uretprobe": ("path", 24, 32),
    "kprobe": ("function", 24, 32),
    "kretprobe": ("function", 24, 32),
    "tracepoint": ("name", 24, 32),
}
_OPTIONAL = ("cookie", "missed", "flags", "offset", "pid")  # left out where they are 0


class LinkInfo(NamedTuple):
    """Facts of a link.

    Attributes:
        id, program_id: of the link, and of the program it attaches.
        type: as `LINK_TYPES` has it, a number for one that is newer.
        details: members of the kernel's struct for this type, and the ``name``, ``path``, ``function`` or ``target`` it has.
    """

    id: int
    type: str
    program_id: int
    details: dict[str, Any]


def link_info(fd: int) -> LinkInfo:
    """What the kernel tells of a link's descriptor. Raises BpfOSError."""
    result, buffer = object_info(fd, SIZE)
    check(result, Command.OBJ_GET_INFO_BY_FD, "link: info")
    kind, ident, program_id = struct.unpack_from("<III", buffer.raw)
    name = LINK_TYPES[kind] if kind < len(LINK_TYPES) else str(kind)
    details: dict[str, Any] = {}
    members, of = _MEMBERS.get(name, ()), name
    if name == "perf_event":
        (event,) = struct.unpack_from("<I", buffer.raw, 16)
        of, members = _PERF_EVENTS[event] if event < len(_PERF_EVENTS) else _PERF_EVENTS[0]
        if of != "unspec":
            details["event"] = of
    if of in _TEXTS:
        what, at, room = _TEXTS[of]
        text = ctypes.create_string_buffer(NAMES)
        initial = bytearray(SIZE)
        struct.pack_into("<Q", initial, at, ctypes.addressof(text))
        struct.pack_into("<I", initial, room, NAMES)
        again, filled = object_info(fd, SIZE, bytes(initial))
        if again >= 0 and text.value:
            details[what], buffer = text.value.decode("utf-8", "surrogateescape"), filled
    for member, offset, form in members:
        (value,) = struct.unpack_from("<" + form, buffer.raw, offset)
        if value or member not in _OPTIONAL:
            details[member] = _attach_type(value) if member == "attach_type" else value
    if name == "tracing_multi" and not details["count"]:
        details = {}  # Linux 7.2 has such links, and tells of them since 7.3
    if name == "iter" and details.get("target", "").startswith("bpf_map_elem"):
        (details["map_id"],) = struct.unpack_from("<I", buffer.raw, 28)
    return LinkInfo(ident, name, program_id, details)


def _attach_type(number: int) -> str:
    try:
        return AttachType(number).name
    except ValueError:
        return str(number)
