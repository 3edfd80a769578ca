"""Packets in files: pcap and pcapng, read and written.

Source of facts: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. Packets are read lazily, one at a time.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from bpf2py.errors import EncodeError, ObjectError

__all__ = ["LINKTYPE_ETHERNET", "LINKTYPE_RAW", "PcapPacket", "PcapWriter", "read_packets"]

LINKTYPE_ETHERNET, LINKTYPE_RAW = 1, 101
_RAW_TYPES = (12, 14, 101, 228, 229)  # IP without a link layer
_MAGIC = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}  # nanoseconds of the unit of the fraction
SECTION, INTERFACE, SIMPLE, ENHANCED, OBSOLETE = 0x0A0D0D0A, 1, 3, 6, 2
BYTE_ORDER = 0x1A2B3C4D
MAX_PACKET = 1 << 20
_NS = 1_000_000_000


class PcapPacket(NamedTuple):
    """One packet.

    Attributes:
        data: its bytes, as many as were captured.
        time_ns: since 1970.
        length: what it was on the wire.
        linktype: what it starts with: LINKTYPE_ETHERNET, LINKTYPE_RAW, ...
    """

    data: bytes
    time_ns: int
    length: int
    linktype: int

    @property
    def raw(self) -> bool:
        """Whether it starts with the IP header."""
        return self.linktype in _RAW_TYPES


def _exactly(file: BinaryIO, size: int, what: str) -> bytes:
    at = file.tell()
    data = file.read(size)
    if len(data) != size:
        raise ObjectError(f"the capture ends in the middle of {what}", offset=at)
    return data


def read_packets(path: str | os.PathLike[str]) -> Iterator[PcapPacket]:
    """The packets of a pcap or pcapng file, of either byte order.

    Raises OSError, or ObjectError for a file that is none or is cut off.
    """
    with open(path, "rb") as file:
        head = file.read(4)
        if len(head) < 4:
            raise ObjectError("an empty file is not a packet capture", offset=0)
        little, big = int.from_bytes(head, "little"), int.from_bytes(head, "big")
        if little == SECTION:
            file.seek(0)
            yield from _pcapng(file)
        elif little in _MAGIC:
            yield from _pcap(file, "<", _MAGIC[little])
        elif big in _MAGIC:
            yield from _pcap(file, ">", _MAGIC[big])
        else:
            raise ObjectError(f"this is neither a pcap nor a pcapng file (it starts with {head.hex()})", offset=0)


def _pcap(file: BinaryIO, order: str, unit: int) -> Iterator[PcapPacket]:
    header = _exactly(file, 20, "its header")
    linktype = struct.unpack(order + "I", header[16:20])[0] & 0xFFFF
    record = struct.Struct(order + "IIII")
    while True:
        at = file.tell()
        head = file.read(16)
        if not head:
            return
        if len(head) < 16:
            raise ObjectError("the capture ends in the middle of a packet's header", offset=at)
        seconds, fraction, captured, length = record.unpack(head)
        if captured > MAX_PACKET:
            raise ObjectError(f"a packet of {captured} bytes is more than any capture holds", offset=at)
        yield PcapPacket(_exactly(file, captured, "a packet"), seconds * _NS + fraction * unit, length, linktype)


def _pcapng(file: BinaryIO) -> Iterator[PcapPacket]:
    order = "<"
    interfaces: list[tuple[int, int]] = []  # (link type, ns or negative power of the unit of time)
    while True:
        at = file.tell()
        head = file.read(8)
        if not head:
            return
        if len(head) < 8:
            raise ObjectError("the capture ends in the middle of a block's header", offset=at)
        if int.from_bytes(head[:4], "little") == SECTION:
            magic = _exactly(file, 4, "a section header")
            order = "<" if int.from_bytes(magic, "little") == BYTE_ORDER else ">"
            interfaces = []
            length = struct.unpack(order + "I", head[4:])[0]
            _body(file, length, 12, at)
            continue
        kind, length = struct.unpack(order + "II", head)
        body = _body(file, length, 8, at)
        if kind == INTERFACE:
            if len(body) < 8:
                raise ObjectError("an interface description that is too short", offset=at)
            linktype = struct.unpack_from(order + "H", body)[0]
            interfaces.append((linktype, _resolution(body[8:], order)))
        elif kind in (ENHANCED, OBSOLETE):
            yield _enhanced(body, order, kind, interfaces, at)
        elif kind == SIMPLE:
            if len(body) < 4 or not interfaces:
                raise ObjectError("a simple packet block without its interface", offset=at)
            original = struct.unpack_from(order + "I", body)[0]
            yield PcapPacket(body[4 : 4 + original], 0, original, interfaces[0][0])


def _body(file: BinaryIO, length: int, used: int, at: int) -> bytes:
    """What is between a block's header, of which `used` bytes were read, and its trailing length."""
    if length < used + 4 or length % 4 or length > MAX_PACKET * 2:
        raise ObjectError(f"a block of {length} bytes", offset=at)
    body = _exactly(file, length - used - 4, "a block")
    _exactly(file, 4, "a block")
    return body


def _resolution(options: bytes, order: str) -> int:
    """Units of time in a second (option if_tsresol): microseconds without it."""
    at = 0
    while at + 4 <= len(options):
        code, length = struct.unpack_from(order + "HH", options, at)
        if code == 0:
            break
        if code == 9 and length >= 1 and at + 4 < len(options):
            exponent = options[at + 4]
            return int(2 ** (exponent & 127)) if exponent & 128 else int(10**exponent)
        at += 4 + (length + 3) // 4 * 4
    return 1_000_000


def _enhanced(body: bytes, order: str, kind: int, interfaces: list[tuple[int, int]], at: int) -> PcapPacket:
    if len(body) < 20:
        raise ObjectError("a packet block that is too short", offset=at)
    if kind == ENHANCED:
        interface, high, low, captured, length = struct.unpack_from(order + "IIIII", body)
    else:
        interface, _, high, low, captured, length = struct.unpack_from(order + "HHIIII", body)
    if interface >= len(interfaces):
        raise ObjectError(f"a packet of interface {interface}, which is not described", offset=at)
    if captured > len(body) - 20:
        raise ObjectError(f"a packet of {captured} bytes in a block of {len(body)}", offset=at)
    linktype, units = interfaces[interface]
    time_ns = (high << 32 | low) * _NS // units
    if time_ns >> 64:
        raise ObjectError("a packet's time is more nanoseconds than fit 64 bits", offset=at)
    return PcapPacket(body[20 : 20 + captured], time_ns, length, linktype)


class PcapWriter:
    """Writes a pcap file with times in nanoseconds; a context manager."""

    def __init__(self, path: str | os.PathLike[str], linktype: int = LINKTYPE_ETHERNET) -> None:
        self._file = open(path, "wb")  # noqa: SIM115 -- closed by close()
        self._file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, MAX_PACKET, linktype))

    def write(self, data: bytes, time_ns: int = 0) -> None:
        """Add a packet. Raises EncodeError for times the format has no room for: before 1970, or from 2106 on."""
        if not 0 <= time_ns < _NS << 32:
            raise EncodeError(f"a time of {time_ns} ns does not fit a pcap file, whose seconds have 32 bits")
        self._file.write(struct.pack("<IIII", time_ns // _NS, time_ns % _NS, len(data), len(data)))
        self._file.write(data)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def __enter__(self) -> PcapWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
