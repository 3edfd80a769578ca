"""Captured packets through a program: verdicts, and the packets as they were left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from bpf2py.engine.programs.packet import ETH_HLEN, SKB_TYPES
from bpf2py.engine.trace.pcap import LINKTYPE_ETHERNET, PcapPacket
from bpf2py.errors import NotSupported
from bpf2py.uapi.program_types import ProgramType as P

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine
    from bpf2py.seam.info import TestRunResult

__all__ = ["Replayed", "passes", "replay", "verdict_name"]

# enum xdp_action and TC_ACT_* of the UAPI headers
_XDP = ("ABORTED", "DROP", "PASS", "TX", "REDIRECT")
_TC = {
    0xFFFFFFFF: "UNSPEC", 0: "OK", 1: "RECLASSIFY", 2: "SHOT", 3: "PIPE", 4: "STOLEN", 5: "QUEUED", 6: "REPEAT", 7: "REDIRECT",
    8: "TRAP",
}  # fmt: skip
_TC_TYPES = (P.SCHED_CLS, P.SCHED_ACT)
_TC_PASSES = (0, 1, 3, 6, 7, 0xFFFFFFFF)


class Replayed(NamedTuple):
    """One packet's way through a program.

    Attributes:
        packet: as it was captured.
        result: what the program returned, and the packet as it left it.
        verdict: the result by name: ``"PASS"``, ``"DROP"``, ``"SHOT"``, ...
        passed: whether the packet goes on.
    """

    packet: PcapPacket
    result: TestRunResult
    verdict: str
    passed: bool


def verdict_name(kind: P, value: int) -> str:
    """A verdict by the name the kernel has for it."""
    if kind == P.XDP:
        return _XDP[value] if value < len(_XDP) else f"unknown ({value})"
    if kind in _TC_TYPES:
        return _TC.get(value, f"unknown ({value})")
    if kind == P.SOCKET_FILTER:
        return "KEEP" if value else "DROP"
    return "PASS" if value else "DROP"


def passes(kind: P, value: int) -> bool:
    """Whether a packet with this verdict goes on: it is passed, sent back or redirected."""
    if kind == P.XDP:
        return value in (2, 3, 4)
    if kind in _TC_TYPES:
        return value in _TC_PASSES
    return bool(value)


class SeesPackets(Protocol):
    """A loaded program, such as `bpf2py.Program`."""

    name: str

    @property
    def type(self) -> P | int:
        """The program type."""

    def run(self, *, data: bytes) -> TestRunResult:
        """Run it on a packet."""


def replay(engine: Machine, program: SeesPackets, packets: Iterable[PcapPacket]) -> Iterator[Replayed]:
    """Run a program of an engine on each packet; the time it sees is the packet's.

    Raises NotSupported for programs that see no packets, and for captures with another link layer.
    """
    kind = P(program.type)
    if kind != P.XDP and kind not in SKB_TYPES:
        raise NotSupported(f"program {program.name}: {kind.name} programs see no packets", feature=kind.name)
    clock = engine.clock
    try:
        for packet in packets:
            data = packet.data
            if packet.raw:
                data = _ethernet(data)
            elif packet.linktype != LINKTYPE_ETHERNET:
                raise NotSupported(
                    f"packets of link type {packet.linktype}: programs see Ethernet frames or IP packets",
                    feature="linktype",
                )
            engine.clock = packet.time_ns
            result = program.run(data=data.ljust(ETH_HLEN, b"\0"))
            value = result.return_value
            if packet.raw:
                result = result._replace(data=result.data[ETH_HLEN:])
            elif kind not in _TC_TYPES and kind != P.XDP:
                # These do not see the link layer header; the capture's stays.
                result = result._replace(data=data[:ETH_HLEN] + result.data[ETH_HLEN:])
            if kind == P.SOCKET_FILTER and value:
                result = result._replace(data=result.data[: min(len(result.data), value)])
            yield Replayed(packet, result, verdict_name(kind, value), passes(kind, value))
    finally:
        engine.clock = clock


def _ethernet(data: bytes) -> bytes:
    ethertype = b"\x86\xdd" if data[:1] and data[0] >> 4 == 6 else b"\x08\x00"
    return bytes(12) + ethertype + data
