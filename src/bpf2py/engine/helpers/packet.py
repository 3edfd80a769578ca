"""Helpers that read and change packets."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from bpf2py.engine.helpers import Fault
from bpf2py.engine.programs.packet import ETH_HLEN, MAX_META, SKB, XDP_FRAME, Packet, SkBuff, XdpBuff
from bpf2py.uapi.errno import EALREADY, EFAULT, EINVAL, ENODEV, ENOMEM, ENOTSUPP, EOPNOTSUPP
from bpf2py.uapi.map_types import MapType

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


IPV4, IPV6 = 0x0008, 0xDD86  # in the packet's byte order
MAX_OFFSET = 0x7FFFFFFF
MAX_SKB = 16064  # SKB_MAX_ALLOC
VLAN_HLEN, ETH_P_8021Q, ETH_P_8021AD = 4, 0x8100, 0x88A8
VLAN_TYPES = (ETH_P_8021Q, ETH_P_8021AD)
XDP_REDIRECT, XDP_ABORTED, TC_ACT_REDIRECT, TC_ACT_SHOT = 4, 0, 7, 2
HDR_START_MAC, HDR_START_NET = 0, 1
VERDICTS, BROADCAST, EXCLUDE_INGRESS = 3, 8, 16  # in the flags of bpf_redirect_map()
LOOPBACK, LOOPBACK_MTU, CHECK_SEGMENTS = 1, 65536, 1


def _packet(engine: Machine) -> Any:
    packet: Packet | None = engine.current.packet
    if packet is None:
        raise Fault("the program has no packet")
    return packet


def _xdp(engine: Machine) -> XdpBuff:
    packet: XdpBuff = _packet(engine)
    return packet


def skb_load_bytes(engine: Machine, _skb: int, offset: int, target: int, size: int, *_: int) -> int:
    """Copy from the packet; -EFAULT and zeros where it is shorter."""
    packet, size, offset = _packet(engine), engine.length(size), offset & 0xFFFFFFFF
    if offset > MAX_OFFSET or offset + size > len(packet):
        engine.write(target, bytes(size))
        return -EFAULT
    engine.write(target, engine.memory.read(packet.data + offset, size))
    return 0


def skb_load_bytes_relative(
    engine: Machine, _skb: int, offset: int, target: int, size: int, start: int, *_: int
) -> int:
    """The same from the link layer (0) or network header (1) on."""
    packet: SkBuff = _packet(engine)
    size, offset, start = engine.length(size), offset & 0xFFFFFFFF, start & 0xFFFFFFFF
    if start not in (HDR_START_MAC, HDR_START_NET) or offset > 0xFFFF:
        engine.write(target, bytes(size))
        return -EFAULT
    mac = packet.data if packet.l2 else packet.data - ETH_HLEN
    at = (mac if start == HDR_START_MAC else mac + ETH_HLEN) + offset
    if at + size > packet.end:
        engine.write(target, bytes(size))
        return -EFAULT
    engine.write(target, engine.memory.read(at, size))
    return 0


def skb_store_bytes(engine: Machine, _skb: int, offset: int, source: int, size: int, flags: int, *_: int) -> int:
    """Copy into the packet."""
    packet, size, offset = _packet(engine), engine.length(size), offset & 0xFFFFFFFF
    if flags & ~3:
        return -EINVAL
    if offset > MAX_OFFSET or offset + size > len(packet):
        return -EFAULT
    packet.put(offset, engine.read(source, size))
    return 0


def skb_pull_data(engine: Machine, _skb: int, length: int, *_: int) -> int:
    """Packets of the engine are in one piece."""
    return -ENOMEM if length & 0xFFFFFFFF > len(_packet(engine)) else 0


def skb_change_tail(engine: Machine, _skb: int, length: int, flags: int, *_: int) -> int:
    """Make the packet longer or shorter at its end."""
    packet, length = _packet(engine), length & 0xFFFFFFFF
    if flags or length > MAX_SKB or length < (ETH_HLEN if packet.l2 else 0):  # the network header's offset
        return -EINVAL
    return 0 if packet.resize(0, length - len(packet)) else -ENOMEM


def skb_change_head(engine: Machine, _skb: int, room: int, flags: int, *_: int) -> int:
    """Zeros in front of the packet."""
    packet, room = _packet(engine), room & 0xFFFFFFFF
    if flags or len(packet) + room > MAX_SKB:
        return -EINVAL
    return 0 if packet.resize(room, 0) else -ENOMEM


# BPF_F_ADJ_ROOM_* of include/uapi/linux/bpf.h
FIXED_GSO, ENCAP_IPV4, ENCAP_IPV6, ENCAP_GRE, ENCAP_UDP, NO_CSUM_RESET, ENCAP_L2_ETH, DECAP_IPV4, DECAP_IPV6 = (
    1 << i for i in range(9)
)
ENCAP_L2_SHIFT = 56


def skb_adjust_room(engine: Machine, _skb: int, difference: int, mode: int, flags: int, *_: int) -> int:
    """Room after the link layer header (mode 1, BPF_ADJ_ROOM_MAC) or the network header (mode 0, BPF_ADJ_ROOM_NET)."""
    packet: SkBuff = _packet(engine)
    change, mode = (difference & 0xFFFFFFFF ^ 1 << 31) - (1 << 31), mode & 0xFFFFFFFF
    if flags & ~(0x1FF | 0xFF << ENCAP_L2_SHIFT):
        return -EINVAL
    if abs(change) > 0xFFF:
        return -EFAULT
    protocol = packet.number(SKB["protocol"])
    network = {IPV4: 20, IPV6: 40}.get(protocol)
    if network is None or mode > 1:
        return -ENOTSUPP
    front = (ETH_HLEN if packet.l2 else 0) + (network if not mode else 0)
    if flags & (DECAP_IPV4 | DECAP_IPV6):
        if change >= 0 or (flags & DECAP_IPV4 and flags & DECAP_IPV6):
            return -EINVAL
        network = 20 if flags & DECAP_IPV4 else 40
    above = len(packet) - (ETH_HLEN if packet.l2 else 0)
    if change < 0 and (-change >= above or above + change < network):
        return -ENOTSUPP
    if change >= 0 and len(packet) + change > MAX_SKB:
        return -ENOTSUPP
    error = _check_shrink(flags) if change < 0 else _check_encapsulation(packet, change, flags)
    if error:
        return error
    head = engine.memory.read(packet.data, front)
    if not packet.resize(change, 0):
        return -ENOMEM
    packet.put(0, head)
    if change > 0:
        packet.put(front, bytes(change))
    if protocol == IPV4 and flags & (ENCAP_IPV6 | DECAP_IPV6):
        packet.set_number(SKB["protocol"], IPV6)
    elif protocol == IPV6 and flags & (ENCAP_IPV4 | DECAP_IPV4):
        packet.set_number(SKB["protocol"], IPV4)
    return 0


def _check_shrink(flags: int) -> int:
    return -EINVAL if flags & ~(FIXED_GSO | DECAP_IPV4 | DECAP_IPV6 | NO_CSUM_RESET) else 0


def _check_encapsulation(packet: SkBuff, change: int, flags: int) -> int:
    if not flags & (ENCAP_IPV4 | ENCAP_IPV6):
        return 0
    inner = flags >> ENCAP_L2_SHIFT
    if (flags & ENCAP_IPV4 and flags & ENCAP_IPV6) or (flags & ENCAP_GRE and flags & ENCAP_UDP):
        return -EINVAL
    if flags & ENCAP_L2_ETH and inner < ETH_HLEN:
        return -EINVAL
    if packet.encapsulated:
        return -EALREADY
    if inner > change:
        return -EINVAL
    packet.encapsulated = True
    return 0


def skb_vlan_push(engine: Machine, _skb: int, protocol: int, tci: int, *_: int) -> int:
    """A VLAN tag, kept beside the packet; one that was there goes into the packet."""
    packet: SkBuff = _packet(engine)
    protocol &= 0xFFFF
    if int.from_bytes(protocol.to_bytes(2, "little"), "big") not in VLAN_TYPES:
        protocol = int.from_bytes(ETH_P_8021Q.to_bytes(2, "big"), "little")
    if packet.number(SKB["vlan_present"]):
        old = packet.number(SKB["vlan_tci"])
        head = engine.memory.read(packet.data, 12)
        rest = packet.number(SKB["vlan_proto"]).to_bytes(4, "little")[:2] + old.to_bytes(2, "big")
        if not packet.resize(VLAN_HLEN, 0):
            return -ENOMEM
        packet.put(0, head + rest)
        packet.set_number(SKB["protocol"], packet.number(SKB["vlan_proto"]))
    packet.set_number(SKB["vlan_present"], 1)
    packet.set_number(SKB["vlan_tci"], tci & 0xFFFF)
    packet.set_number(SKB["vlan_proto"], protocol)
    return 0


def _pop(engine: Machine, packet: SkBuff) -> int | None:
    """Take a VLAN tag out of the packet: what it says, None where there is none."""
    raw = engine.memory.read(packet.data, min(18, len(packet)))
    if len(raw) < 18 or int.from_bytes(packet.number(SKB["protocol"]).to_bytes(2, "little"), "big") not in VLAN_TYPES:
        return None
    packet.resize(-VLAN_HLEN, 0)
    packet.put(0, raw[:12])
    packet.set_number(SKB["protocol"], int.from_bytes(raw[16:18], "little"))
    return int.from_bytes(raw[14:16], "big")


def skb_vlan_pop(engine: Machine, _skb: int, *_: int) -> int:
    """Take the outer VLAN tag away; the next one is then kept beside the packet."""
    packet: SkBuff = _packet(engine)
    if packet.number(SKB["vlan_present"]):
        for name in ("vlan_present", "vlan_tci", "vlan_proto"):
            packet.set_number(SKB[name], 0)
    elif _pop(engine, packet) is None:
        return 0
    protocol = packet.number(SKB["protocol"])
    tci = _pop(engine, packet)
    if tci is not None:
        packet.set_number(SKB["vlan_present"], 1)
        packet.set_number(SKB["vlan_tci"], tci)
        packet.set_number(SKB["vlan_proto"], protocol)
    return 0


def skb_change_type(engine: Machine, _skb: int, kind: int, *_: int) -> int:
    """Between PACKET_HOST, BROADCAST, MULTICAST and OTHERHOST."""
    packet = _packet(engine)
    if packet.number(SKB["pkt_type"]) > 3 or kind & 0xFFFFFFFF > 3:
        return -EINVAL
    packet.set_number(SKB["pkt_type"], kind)
    return 0


def get_hash_recalc(engine: Machine, _skb: int, *_: int) -> int:
    """The packet's hash; a sum of its addresses and ports where none was set."""
    packet = _packet(engine)
    if not packet.number(SKB["hash"]):
        value = 0x811C9DC5
        for byte in packet.content()[:64]:
            value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
        packet.set_number(SKB["hash"], value or 1)
    return int(packet.number(SKB["hash"]))


def set_hash(engine: Machine, _skb: int, value: int, *_: int) -> int:
    """Set the packet's hash."""
    _packet(engine).set_number(SKB["hash"], value)
    return 0


def set_hash_invalid(engine: Machine, _skb: int, *_: int) -> int:
    """Forget the packet's hash."""
    _packet(engine).set_number(SKB["hash"], 0)
    return 0


def _zero(engine: Machine, *_: int) -> int:
    return 0


get_cgroup_classid = get_route_realm = get_socket_uid = _zero


def get_socket_cookie(engine: Machine, *_: int) -> int:
    """A number of the socket's: there is one."""
    return 1


def skb_cgroup_id(engine: Machine, *_: int) -> int:
    """Sockets are in the root cgroup."""
    return 1


def skb_ecn_set_ce(engine: Machine, *_: int) -> int:
    """Mark the packet as one that met congestion, if its sender understands: 1 where it is marked now (Linux 5.1)."""
    packet = _packet(engine)
    at = ETH_HLEN if packet.l2 else 0
    protocol = packet.number(SKB["protocol"])
    if protocol not in (IPV4, IPV6) or len(packet) < at + (20 if protocol == IPV4 else 40):
        return 0
    head = bytearray(engine.memory.read(packet.data + at, 20))
    bits = head[1] & 3 if protocol == IPV4 else head[1] >> 4 & 3
    if bits in (0, 3):
        return int(bits == 3)
    if protocol == IPV6:
        head[1] |= 0x30
    else:
        total = int.from_bytes(head[10:12], "big") + 0xFFFB + (bits + 1)  # IP_ECN_set_ce()
        head[1] |= 3
        head[10:12] = ((total & 0xFFFF) + (total >> 16)).to_bytes(2, "big")
    packet.put(at, head)
    return 1


def skb_set_tstamp(engine: Machine, _skb: int, time_ns: int, kind: int, *_: int) -> int:
    """Set when the packet is to leave, by the clock 0 (real time), 1 (monotonic) or 2 (TAI, Linux 6.11) (Linux 5.18)."""
    packet = _packet(engine)
    kind &= 0xFFFFFFFF
    if packet.number(SKB["protocol"]) not in (IPV4, IPV6):
        return -EOPNOTSUPP
    if kind > 2 or (kind and not time_ns):
        return -EINVAL
    engine.memory.write(packet.context + 152, time_ns.to_bytes(8, "little"))
    packet.set_number(180, kind)
    return 0


def xdp_adjust_head(engine: Machine, _context: int, delta: int, *_: int) -> int:
    """Move the start of the packet: into it where positive."""
    packet = _xdp(engine)
    change = (delta & 0xFFFFFFFF ^ 1 << 31) - (1 << 31)
    meta = packet.data - packet.meta
    data = packet.data + change
    # The kernel keeps a struct xdp_frame in front of all.
    if data < packet.start + XDP_FRAME + meta or data > packet.linear_end - ETH_HLEN:
        return -EINVAL
    if meta:
        engine.memory.write(packet.meta + change, engine.memory.read(packet.meta, meta))
    packet.meta += change
    packet.data = data
    packet.sync()
    return 0


def xdp_adjust_tail(engine: Machine, _context: int, delta: int, *_: int) -> int:
    """Move the end of the packet; new bytes are zeros."""
    return _xdp(engine).move_end((delta & 0xFFFFFFFF ^ 1 << 31) - (1 << 31))


def xdp_adjust_meta(engine: Machine, _context: int, delta: int, *_: int) -> int:
    """Move the start of the metadata in front of the packet."""
    packet = _xdp(engine)
    meta = packet.meta + ((delta & 0xFFFFFFFF ^ 1 << 31) - (1 << 31))
    if meta < packet.start + XDP_FRAME or meta > packet.data:
        return -EINVAL
    length = packet.data - meta
    if length % 4 or length > (MAX_META if engine.version < (6, 11, 0) else 252):
        return -13
    packet.meta = meta
    packet.sync()
    return 0


def xdp_get_buff_len(engine: Machine, *_: int) -> int:
    """Bytes of the packet."""
    return len(_packet(engine))


def xdp_load_bytes(engine: Machine, _context: int, offset: int, target: int, size: int, *_: int) -> int:
    """Copy from the packet."""
    packet, offset, size = _packet(engine), offset & 0xFFFFFFFF, engine.length(size)
    if offset > 0xFFFF or size > 0xFFFF:
        return -EFAULT
    if offset + size > len(packet):
        return -EINVAL
    engine.write(target, engine.memory.read(packet.data + offset, size))
    return 0


def xdp_store_bytes(engine: Machine, _context: int, offset: int, source: int, size: int, *_: int) -> int:
    """Copy into the packet."""
    packet, offset, size = _packet(engine), offset & 0xFFFFFFFF, engine.length(size)
    if offset > 0xFFFF or size > 0xFFFF:
        return -EFAULT
    if offset + size > len(packet):
        return -EINVAL
    packet.put(offset, engine.read(source, size))
    return 0


def redirect(engine: Machine, ifindex: int, flags: int, *_: int) -> int:
    """Noted as the packet's way; the verdict that sends it there."""
    xdp = isinstance(_packet(engine), XdpBuff)
    if flags & (~0 if xdp else ~1):
        return XDP_ABORTED if xdp else TC_ACT_SHOT
    return XDP_REDIRECT if xdp else TC_ACT_REDIRECT


def redirect_peer(engine: Machine, ifindex: int, flags: int, *_: int) -> int:
    """Noted as the packet's way."""
    if flags:
        return TC_ACT_SHOT
    return TC_ACT_REDIRECT


def redirect_neigh(engine: Machine, ifindex: int, parameters: int, size: int, flags: int, *_: int) -> int:
    """Noted as the packet's way."""
    if flags or (0 < size & 0xFFFFFFFF < 20):
        return TC_ACT_SHOT
    return TC_ACT_REDIRECT


def redirect_map(engine: Machine, header: int, key: int, flags: int, *_: int) -> int:
    """XDP_REDIRECT when the map has the key, else the verdict in the low bits of the flags."""
    core = engine.core_at(header)
    broadcast = BROADCAST | EXCLUDE_INGRESS if core.info.type in (MapType.DEVMAP, MapType.DEVMAP_HASH) else 0
    if flags & ~(VERDICTS | broadcast):
        return XDP_ABORTED
    key &= 0xFFFFFFFF
    if not flags & BROADCAST and key.to_bytes(4, "little") not in core.held:
        return flags & VERDICTS
    return XDP_REDIRECT


def clone_redirect(engine: Machine, _skb: int, ifindex: int, flags: int, *_: int) -> int:
    """A copy of the packet for `Engine.cloned`."""
    if flags & ~1 or _mtu(ifindex & 0xFFFFFFFF) is None:
        return -EINVAL
    engine.cloned.add((ifindex & 0xFFFFFFFF, _packet(engine).content()))
    return 0


def _mtu(ifindex: int) -> int | None:
    """Of a device of the machine the engine runs on, whose devices a simulated one shares; None where there is no such device."""
    if ifindex == LOOPBACK:
        return LOOPBACK_MTU
    try:
        with open(f"/sys/class/net/{socket.if_indextoname(ifindex)}/mtu") as file:
            return int(file.read())
    except (OSError, OverflowError, ValueError):
        return None


def check_mtu(engine: Machine, _context: int, ifindex: int, length: int, difference: int, flags: int, *_: int) -> int:
    """Whether the packet fits a device after its link layer header; -ENODEV where there is no such device."""
    packet = _packet(engine)
    given = int.from_bytes(engine.read(length, 4), "little")
    change, ifindex = (difference & 0xFFFFFFFF ^ 1 << 31) - (1 << 31), ifindex & 0xFFFFFFFF
    segments = 0 if isinstance(packet, XdpBuff) else CHECK_SEGMENTS
    if flags & ~segments or (flags and (change or given)):
        return -EINVAL
    own = packet.number(12 if isinstance(packet, XdpBuff) else SKB["ifindex"]) or LOOPBACK
    mtu = _mtu(ifindex or own)
    if mtu is None:
        return -ENODEV
    size = given + ETH_HLEN if given else len(packet)
    size = (size + change & 0xFFFFFFFF ^ 1 << 31) - (1 << 31)
    engine.write(length, mtu.to_bytes(4, "little"))
    return int(size > mtu + ETH_HLEN)
