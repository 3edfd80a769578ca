"""Packets: memory with room in front and behind, and the contexts that point into it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from bpf2py.uapi.program_types import ProgramType as P

if TYPE_CHECKING:
    from bpf2py.engine.memory import Memory

__all__ = ["L2_TYPES", "SKB_TYPES", "Packet", "SkBuff", "XdpBuff"]

HEADROOM = 256  # XDP_PACKET_HEADROOM of include/uapi/linux/bpf.h
TAILROOM = 320  # struct skb_shared_info, rounded up
FRAME = 4096
MAX_LENGTH = 1 << 18
ETH_HLEN = 14

# struct __sk_buff and struct xdp_md of include/uapi/linux/bpf.h: offsets of the members that are read or written here.
SKB_SIZE, XDP_SIZE = 192, 24
SKB = {
    "len": 0, "pkt_type": 4, "mark": 8, "queue_mapping": 12, "protocol": 16, "vlan_present": 20, "vlan_tci": 24, "vlan_proto": 28,
    "priority": 32, "ingress_ifindex": 36, "ifindex": 40, "tc_index": 44, "hash": 68, "tc_classid": 72, "data": 76, "data_end": 80,
    "family": 88, "data_meta": 140, "wire_len": 160, "gso_segs": 164, "gso_size": 176,
}  # fmt: skip
XDP = {"data": 0, "data_end": 4, "data_meta": 8, "ingress_ifindex": 12, "rx_queue_index": 16, "egress_ifindex": 20}

# mark, priority, ingress_ifindex and ifindex, cb, tstamp, wire_len, gso_segs, gso_size, hwtstamp: (offset, size)
_GIVEN_BACK = ((8, 4), (32, 4), (36, 8), (48, 20), (152, 8), (160, 4), (164, 4), (176, 4), (184, 8))

SKB_TYPES = (
    P.SOCKET_FILTER, P.SCHED_CLS, P.SCHED_ACT, P.CGROUP_SKB, P.LWT_IN, P.LWT_OUT, P.LWT_XMIT, P.LWT_SEG6LOCAL, P.SK_SKB,
)  # fmt: skip
L2_TYPES = (P.SCHED_CLS, P.SCHED_ACT)  # see the Ethernet header; others start behind it


class Packet:
    """A packet's bytes in the engine's memory, from `data` to `end`, in a block from `start` to `limit`."""

    __slots__ = ("context", "data", "end", "limit", "memory", "meta", "start")

    def __init__(self, memory: Memory, data: bytes, headroom: int, tailroom: int) -> None:
        self.memory = memory
        self.start = memory.allocate(headroom + len(data) + tailroom)
        self.limit = self.start + headroom + len(data) + tailroom
        self.data = self.meta = self.start + headroom
        self.end = self.data + len(data)
        self.context = 0
        memory.write(self.data, data)

    def __len__(self) -> int:
        return self.end - self.data

    def content(self) -> bytes:
        """What the packet is now."""
        return self.memory.read(self.data, self.end - self.data)

    def put(self, offset: int, data: bytes) -> None:
        """Overwrite a part."""
        self.memory.write(self.data + offset, data)

    def sync(self) -> None:
        """Write the pointers into the context."""
        raise NotImplementedError

    def number(self, offset: int) -> int:
        """A 32-bit member of the context."""
        return self.memory.u32[self.context + offset >> 2]

    def set_number(self, offset: int, value: int) -> None:
        """Change a 32-bit member of the context."""
        self.memory.u32[self.context + offset >> 2] = value & 0xFFFFFFFF

    def resize(self, front: int, back: int) -> bool:
        """Add room in front (drop bytes where negative) and behind; new bytes are zero. False when there is no room."""
        data, end = self.data - front, self.end + back
        if end < data:
            return False
        if data < self.start or end > self.limit:
            return False
        if front > 0:
            self.memory.write(data, bytes(front))
        if back > 0:
            self.memory.write(self.end, bytes(back))
        self.data, self.end = data, end
        self.meta = data
        self.sync()
        return True

    def close(self) -> None:
        """Give the memory back."""
        self.memory.free(self.start)
        self.memory.free(self.context)


class XdpBuff(Packet):
    """A packet with a struct xdp_md."""

    __slots__ = ()

    def __init__(self, memory: Memory, data: bytes, context: bytes = b"") -> None:
        super().__init__(memory, data, HEADROOM, max(FRAME - HEADROOM - len(data), TAILROOM))
        self.limit -= TAILROOM
        self.limit = max(self.limit, self.end)
        self.context = memory.allocate(XDP_SIZE)
        if context:
            memory.write(self.context, context[:XDP_SIZE])
            given_data, given_end = struct.unpack_from("<II", context)
            if given_end == len(data) and given_data <= given_end:
                self.data += given_data
        self.sync()

    def sync(self) -> None:
        """Write data, data_end and data_meta."""
        self.set_number(XDP["data"], self.data)
        self.set_number(XDP["data_end"], self.end)
        self.set_number(XDP["data_meta"], self.meta)

    def with_metadata(self) -> bytes:
        """What BPF_PROG_TEST_RUN gives: the packet, and in front of it what `xdp_adjust_meta` made room for."""
        return self.memory.read(self.meta, self.end - self.meta)

    def context_bytes(self) -> bytes:
        """The struct with offsets in place of pointers, as BPF_PROG_TEST_RUN gives it."""
        raw = bytearray(self.memory.read(self.context, XDP_SIZE))
        struct.pack_into("<III", raw, 0, self.data - self.meta, self.end - self.meta, 0)
        return bytes(raw)


class SkBuff(Packet):
    """A packet with a struct __sk_buff."""

    __slots__ = ("l2",)

    def __init__(self, memory: Memory, data: bytes, context: bytes = b"", l2: bool = True) -> None:
        super().__init__(memory, data, HEADROOM, FRAME)
        self.l2 = l2
        self.context = memory.allocate(SKB_SIZE)
        memory.write(self.context, context[:SKB_SIZE])
        if not self.number(SKB["ifindex"]):
            self.set_number(SKB["ifindex"], 1)  # the loopback device, as in the kernel's test runs
        self.set_number(SKB["protocol"], int.from_bytes(data[12:14], "little"))
        if not self.number(SKB["wire_len"]):
            self.set_number(SKB["wire_len"], len(data))
        if len(data) >= ETH_HLEN and not l2:
            self.data += ETH_HLEN
        self.meta = self.data
        self.sync()

    def sync(self) -> None:
        """Write data, data_end, data_meta and len."""
        self.set_number(SKB["data"], self.data)
        self.set_number(SKB["data_end"], self.end)
        self.set_number(SKB["data_meta"], self.meta)
        self.set_number(SKB["len"], self.end - self.data)

    def resize(self, front: int, back: int) -> bool:
        """See `Packet.resize`; there is always room."""
        if self.data - front < self.start or self.end + back > self.limit:
            content, room = self.content(), HEADROOM + max(front, 0)
            self.memory.free(self.start)
            size = room + len(content) + max(back, 0) + FRAME
            self.start = self.memory.allocate(size)
            self.limit = self.start + size
            self.data = self.meta = self.start + room
            self.end = self.data + len(content)
            self.memory.write(self.data, content)
        return super().resize(front, back)

    def whole(self) -> bytes:
        """The packet with a link layer header: as BPF_PROG_TEST_RUN gives it, zeros where the program did not see one."""
        return self.content() if self.l2 else bytes(ETH_HLEN) + self.content()

    def context_bytes(self) -> bytes:
        """The members that BPF_PROG_TEST_RUN gives back."""
        kept = self.memory.read(self.context, SKB_SIZE)
        raw = bytearray(SKB_SIZE)
        for at, size in _GIVEN_BACK:
            raw[at : at + size] = kept[at : at + size]
        return bytes(raw)
