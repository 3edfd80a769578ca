"""Packets: memory with room before and after it, and the contexts that point into it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from bpf2py.engine.state import Place, note_packet
from bpf2py.uapi.errno import EINVAL, EOPNOTSUPP
from bpf2py.uapi.program_types import ProgramType as P

if TYPE_CHECKING:
    from bpf2py.engine.memory import Memory

__all__ = ["L2_TYPES", "SKB_TYPES", "FlowPacket", "Packet", "SkBuff", "XdpBuff"]

FRAME_SIZE = 56  # sizeof(struct frame)
HEADROOM = 256  # XDP_PACKET_HEADROOM of include/uapi/linux/bpf.h
TAILROOM = 320  # struct skb_shared_info, rounded up
FRAME = 4096
XDP_FRAME, MAX_META = 40, 32  # sizeof(struct xdp_frame); metadata before Linux 6.11
ETH_HLEN = 14
ETH_P_802_3_MIN, ETH_P_802_3, ETH_P_802_2 = 0x600, b"\0\x01", b"\0\x04"  # include/uapi/linux/if_ether.h
MULTICAST, OTHERHOST = 2, 3  # PACKET_* of include/uapi/linux/if_packet.h
AF_INET, AF_INET6, TCP_CLOSE = 2, 10, 7

SKB_SK, SKB_FLOW_KEYS, FLOW_KEYS_SIZE = 168, 144, 56
_SOCK = struct.Struct("<6I4s16sII4s16sII")  # struct bpf_sock
SOCK_SIZE = _SOCK.size

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
L2_TYPES = (P.SCHED_CLS, P.SCHED_ACT)  # see the Ethernet header; others start after it


class Packet:
    """A packet's bytes in the engine's memory, from `data` to `end`, in a block from `start` to `limit`.

    Attributes:
        runs: whether a program runs on it: the library's helpers have to know where it is.
    """

    __slots__ = ("context", "data", "end", "limit", "memory", "meta", "runs", "start")

    def __init__(self, memory: Memory, data: bytes, headroom: int, tailroom: int) -> None:
        self.memory = memory
        self.start = memory.allocate(headroom + len(data) + tailroom)
        self.limit = self.start + headroom + len(data) + tailroom
        self.data = self.meta = self.start + headroom
        self.end = self.data + len(data)
        self.context = 0
        self.runs = False
        memory.write(self.data, data)

    def __len__(self) -> int:
        return self.end - self.data

    @property
    def place(self) -> Place:
        """Where the library's helpers find it."""
        raise NotImplementedError

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
        """Add room in front (drop bytes where negative) and after; new bytes are zero. False when there is no room."""
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


def _in_frame(index: int) -> property:
    """A number of a struct frame."""

    def get(packet: XdpBuff) -> int:
        return packet.memory.u64[(packet.frame >> 3) + index]

    def put(packet: XdpBuff, value: int) -> None:
        packet.memory.u64[(packet.frame >> 3) + index] = value

    return property(get, put)


class XdpBuff(Packet):
    """A packet with a struct xdp_md: what does not fit its page is in fragments, which programs do not see directly.

    Attributes:
        frame: the address of its struct frame (sources/engine.h), which the library changes as well as this class.
        linear_end: where the part ends that programs see.
    """

    __slots__ = ("frame",)
    data = _in_frame(0)
    end = _in_frame(1)
    meta = _in_frame(2)
    linear_end = _in_frame(3)

    def __init__(self, memory: Memory, data: bytes, context: bytes = b"") -> None:
        given = context[:XDP_SIZE].ljust(XDP_SIZE, b"\0")
        metadata, linear = struct.unpack_from("<II", given) if context else (0, len(data))
        if not metadata <= linear <= len(data) or metadata > HEADROOM:
            metadata, linear = 0, len(data)
        headroom = HEADROOM - metadata
        self.frame = memory.allocate(FRAME_SIZE, private=True)
        super().__init__(memory, data, headroom, max(FRAME - headroom - len(data), TAILROOM))
        self.limit = self.start + FRAME - TAILROOM
        self.linear_end = min(self.data + linear, self.limit)
        self.data += metadata
        self.context = memory.allocate(XDP_SIZE)
        memory.write(self.context, given)
        for index, value in ((4, self.start), (5, self.limit), (6, self.context)):
            memory.u64[(self.frame >> 3) + index] = value
        self.sync()

    @property
    def place(self) -> Place:
        """See `Packet.place`."""
        return 0, 0, 0, 0, self.frame

    def sync(self) -> None:
        """Write data, data_end and data_meta."""
        self.set_number(XDP["data"], self.data)
        self.set_number(XDP["data_end"], self.linear_end)
        self.set_number(XDP["data_meta"], self.meta)

    def move_end(self, change: int) -> int:
        """Make the packet longer or shorter at its end: 0 or -errno. Fragments do not grow."""
        end = self.end + change
        if self.linear_end < self.end:
            if change >= 0:
                return -EOPNOTSUPP
            if end < self.data + ETH_HLEN:
                return -EINVAL
        elif end > self.limit or end < self.data + ETH_HLEN:
            return -EINVAL
        elif change > 0:
            self.memory.write(self.end, bytes(change))
        whole = self.linear_end == self.end
        self.end = end
        self.linear_end = end if whole else min(self.linear_end, end)
        self.sync()
        return 0

    def close(self) -> None:
        """Give the memory back."""
        super().close()
        self.memory.free(self.frame)

    def with_metadata(self) -> bytes:
        """What BPF_PROG_TEST_RUN gives: the packet, and in front of it what `xdp_adjust_meta` made room for."""
        return self.memory.read(self.meta, self.end - self.meta)

    def context_bytes(self) -> bytes:
        """The struct with offsets in place of pointers, as BPF_PROG_TEST_RUN gives it."""
        raw = bytearray(self.memory.read(self.context, XDP_SIZE))
        struct.pack_into("<III", raw, 0, self.data - self.meta, self.linear_end - self.meta, 0)
        return bytes(raw)


class SkBuff(Packet):
    """A packet with a struct __sk_buff, as BPF_PROG_TEST_RUN makes it: received on the loopback device, with a closed socket."""

    __slots__ = ("encapsulated", "l2", "sock")

    def __init__(self, memory: Memory, data: bytes, context: bytes = b"", l2: bool = True) -> None:
        super().__init__(memory, data, HEADROOM, FRAME)
        self.l2 = l2
        self.encapsulated = False
        self.context = memory.allocate(SKB_SIZE)
        self.sock = memory.allocate(SOCK_SIZE)
        memory.write(self.context, context[:SKB_SIZE])
        destination, ethertype = data[:6], data[12:14]
        if int.from_bytes(ethertype, "big") < ETH_P_802_3_MIN and len(data) >= ETH_HLEN:
            ethertype = ETH_P_802_3 if data[14:16] == b"\xff\xff" else ETH_P_802_2
        seen = len(data) - (0 if l2 else min(ETH_HLEN, len(data)))
        self._default("ifindex", 1)
        self._default("pkt_type", 0 if not any(destination) else MULTICAST if destination[0] & 1 else OTHERHOST)
        self._default("protocol", int.from_bytes(ethertype, "little"))
        if context:
            self._default("wire_len", seen)
        if len(data) >= ETH_HLEN and not l2:
            self.data += ETH_HLEN
        self.meta = self.data
        self._addresses(ethertype, data[ETH_HLEN:])
        memory.write(self.context + SKB_SK, self.sock.to_bytes(8, "little"))
        self.sync()

    def _default(self, name: str, value: int) -> None:
        if not self.number(SKB[name]):
            self.set_number(SKB[name], value)

    def _addresses(self, ethertype: bytes, header: bytes) -> None:
        """Family and addresses of the socket are those of the packet."""
        family, at, ip6 = 0, bytes(8), bytes(32)
        if ethertype == b"\x08\x00":
            family, at = AF_INET, header[12:20].ljust(8, b"\0") if len(header) >= 20 else at
        elif ethertype == b"\x86\xdd":
            family, ip6 = AF_INET6, header[8:40] if len(header) >= 40 else ip6
        self._default("family", family)
        memory = self.memory
        for offset, raw in ((92, at[4:]), (96, at[:4]), (100, ip6[16:]), (116, ip6[:16])):
            if any(raw) and not any(memory.read(self.context + offset, len(raw))):
                memory.write(self.context + offset, raw)
        memory.write(
            self.sock,
            _SOCK.pack(0, family, 0, 0, 0, 0, at[:4], ip6[:16], 0, 0, at[4:], ip6[16:], TCP_CLOSE, 0xFFFFFFFF),
        )

    @property
    def place(self) -> Place:
        """See `Packet.place`."""
        return self.data, self.end, self.data if self.l2 else self.data - ETH_HLEN, self.context, 0

    def sync(self) -> None:
        """Write data, data_end, data_meta and len."""
        if self.runs:
            note_packet(self.memory, self.place)
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

    def close(self) -> None:
        """Give the memory back."""
        super().close()
        self.memory.free(self.sock)


class FlowPacket(SkBuff):
    """A packet for a flow dissector, which tells what it finds in a struct bpf_flow_keys."""

    __slots__ = ("keys",)

    def __init__(self, memory: Memory, data: bytes, flags: int = 0) -> None:
        super().__init__(memory, data)
        self.keys = memory.allocate(FLOW_KEYS_SIZE)
        raw = bytearray(FLOW_KEYS_SIZE)
        struct.pack_into("<HH", raw, 0, ETH_HLEN, ETH_HLEN)  # nhoff, thoff
        raw[10:12] = data[12:14].ljust(2, b"\0")  # n_proto
        struct.pack_into("<I", raw, 48, flags)
        memory.write(self.keys, raw)
        memory.write(self.context + SKB_FLOW_KEYS, self.keys.to_bytes(8, "little"))

    def whole(self) -> bytes:
        """The struct bpf_flow_keys, as BPF_PROG_TEST_RUN gives it: its offsets are within the packet."""
        raw = bytearray(self.memory.read(self.keys, FLOW_KEYS_SIZE))
        network, transport = struct.unpack_from("<HH", raw)
        network = min(max(network, ETH_HLEN), len(self))
        struct.pack_into("<HH", raw, 0, network, min(max(transport, network), len(self)))
        return bytes(raw)

    def close(self) -> None:
        """Give the memory back."""
        super().close()
        self.memory.free(self.keys)
