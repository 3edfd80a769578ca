"""What BPF_PROG_TEST_RUN does, and running any program on a context of one's own."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bpf2py.engine.programs.contexts import encode_context
from bpf2py.engine.programs.kernel_objects import KnownMembers, opaque, pointer
from bpf2py.engine.programs.packet import (
    AF_INET,
    ETH_HLEN,
    HEADROOM,
    L2_TYPES,
    MAX_META,
    SKB,
    SKB_SIZE,
    SKB_TYPES,
    TAILROOM,
    XDP_FRAME,
    XDP_SIZE,
    FlowPacket,
    Packet,
    SkBuff,
    XdpBuff,
)
from bpf2py.engine.run import Run
from bpf2py.errors import BpfOSError, NotSupported
from bpf2py.seam.info import TestRunResult
from bpf2py.uapi.errno import E2BIG, EAFNOSUPPORT, EINVAL, ENODEV, ENOMEM, ENOTSUPP, ENXIO, ERANGE
from bpf2py.uapi.program_types import AttachType
from bpf2py.uapi.program_types import ProgramType as P

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine
    from bpf2py.engine.memory import Memory
    from bpf2py.engine.programs.loaded import LoadedProgram

__all__ = ["run_once", "test_run"]


MAX_CONTEXT = 0xFFFF
PAGE = 4096
MAX_SKB = PAGE - 64 - TAILROOM  # NET_SKB_PAD in front, struct skb_shared_info after
MAX_FRAGMENTS = 17  # MAX_SKB_FRAGS
RAW_TP_ARGUMENTS = 12 * 8
CHECKSUM_COMPLETE, LIVE_FRAMES = 4, 2  # BPF_F_TEST_SKB_CHECKSUM_COMPLETE, BPF_F_TEST_XDP_LIVE_FRAMES
SKB_TEST_TYPES = tuple(kind for kind in SKB_TYPES if kind not in (P.SK_SKB, P.LWT_SEG6LOCAL))
# Programs of other types have no test run (struct bpf_prog_ops of each type in the kernel).
_RUNNABLE = (*SKB_TEST_TYPES, P.XDP, P.RAW_TRACEPOINT, P.TRACING, P.SK_LOOKUP, P.SYSCALL, P.FLOW_DISSECTOR, P.NETFILTER)
# Newer kernels refuse packets without a whole IP header (seen on 6.18).
_NETWORK = {b"\x08\x00": 20, b"\x86\xdd": 40}
_TRAMPOLINES = (AttachType.TRACE_FENTRY, AttachType.TRACE_FEXIT, AttachType.MODIFY_RETURN)
# Of struct __sk_buff: what a test run may be given, (first, end).
_SKB_GIVEN = ((8, 12), (32, 44), (48, 68), (152, 168), (176, 180), (184, 192))
_SOCKET_SIZE, _FLOW_KEYS, _HOOK_STATE = 72, 56, 48  # struct bpf_sk_lookup, bpf_flow_keys, nf_hook_state
_STRUCTS = {P.SK_LOOKUP: _SOCKET_SIZE, P.FLOW_DISSECTOR: _FLOW_KEYS}  # given back as a whole
GSO_LEGACY_MAX_SIZE, GSO_MAX_SEGS = 65536, 65535
LOCAL_OUT, IP_HLEN, EPROTO = 3, 20, 71
PROTOCOLS = {b"\x08\x00": 2, b"\x86\xdd": 10}  # NFPROTO_IPV4, NFPROTO_IPV6


class Refused(Exception):
    """What the kernel answers."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


class Request(NamedTuple):
    """What a test run is asked to do."""

    data: bytes
    context: bytes
    repeat: int
    cpu: int | None
    flags: int


def test_run(
    engine: Machine,
    program: LoadedProgram,
    name: str,
    data: bytes,
    context: bytes,
    repeat: int,
    cpu: int | None,
    flags: int,
    batch_size: int,
) -> TestRunResult:
    """Run a program on a packet or context, as the kernel would.

    Raises:
        NotSupported: the kernel has no test runs for programs of this type; `Program.run` has.
        BpfOSError: the data or context does not fit.
    """
    what = f"program {name}: test_run"
    kind = program.type
    if kind not in _RUNNABLE or (kind == P.TRACING and program.spec.attach_type not in _TRAMPOLINES):
        raise NotSupported(
            f"{what}: programs of this type cannot be run by BPF_PROG_TEST_RUN; Program.run() runs any on the engine",
            feature="BPF_PROG_TEST_RUN",
            errno=ENOTSUPP,
            command="BPF_PROG_TEST_RUN",
        )
    if kind == P.XDP and flags & LIVE_FRAMES:
        raise NotSupported(
            f"{what}: the engine has no network that live frames could go to", feature="BPF_F_TEST_XDP_LIVE_FRAMES"
        )
    request = Request(data, context, repeat, cpu, flags)
    try:
        _CHECKS[kind](engine, program, request)
    except Refused as refused:
        text = "the data or context does not fit (packets need at least 14 bytes; contexts the size of the program's)"
        raise BpfOSError(f"{what}: {text}", errno=refused.errno, command="BPF_PROG_TEST_RUN") from None
    result = TestRunResult(0, b"", b"", 0)
    started = time.perf_counter_ns()
    turns = max(repeat, 1)
    with engine.cpu(engine.current_cpu if cpu is None else cpu):
        for _ in range(turns):
            # Each turn sees what the one before left, but for what the kernel puts back itself.
            result = run_once(engine, program, data, context)
    size = _STRUCTS.get(kind)
    if size and context:
        result = result._replace(context=result.context[:size].ljust(size, b"\0"))
    return result._replace(duration_ns=(time.perf_counter_ns() - started) // turns)


# -- what the kernel refuses (net/bpf/test_run.c) ------------------------------------------------------------------------


def _require(condition: bool, errno: int = EINVAL) -> None:
    if not condition:
        raise Refused(errno)


def _given(context: bytes, size: int) -> bytes:
    """A context that may be shorter than its struct, or longer if the rest is zeros (bpf_ctx_init())."""
    _require(not any(context[size:]) and len(context) <= PAGE, E2BIG)
    return context[:size].ljust(size, b"\0")


def _check_device(ifindex: int) -> None:
    import socket

    try:
        socket.if_indextoname(ifindex)
    except (OSError, OverflowError):
        raise Refused(ENODEV) from None


def _check_skb(engine: Machine, program: LoadedProgram, request: Request) -> None:
    data = request.data
    _require(not request.flags & ~CHECKSUM_COMPLETE and request.cpu is None)
    _require(ETH_HLEN <= len(data) <= MAX_SKB)
    context = _given(request.context, SKB_SIZE)
    words = struct.unpack(f"<{SKB_SIZE // 4}I", context)
    if words[40 // 4] > 1:
        _check_device(words[40 // 4])
    if engine.version >= (6, 18, 0):
        _require(len(data) >= ETH_HLEN + _NETWORK.get(data[12:14], 0))
    end = 0
    for first, following in (*_SKB_GIVEN, (SKB_SIZE, SKB_SIZE)):
        _require(not any(context[end:first]))
        end = following
    seen = len(data) - (0 if program.type in L2_TYPES else ETH_HLEN)
    _require(words[160 // 4] == 0 or seen <= words[160 // 4] <= GSO_LEGACY_MAX_SIZE)
    _require(words[164 // 4] <= GSO_MAX_SEGS)


def _check_xdp(engine: Machine, program: LoadedProgram, request: Request) -> None:
    size = len(request.data)
    _require(program.spec.attach_type not in (AttachType.XDP_DEVMAP, AttachType.XDP_CPUMAP))
    _require(not request.flags and request.cpu is None)
    metadata, linear, device, queue = 0, size, 0, 0
    if request.context:
        metadata, linear, data_meta, device, queue, egress = struct.unpack("<6I", _given(request.context, XDP_SIZE))
        _require(not data_meta and linear <= size and metadata <= linear)
        most = MAX_META if engine.version < (6, 11, 0) else HEADROOM - XDP_FRAME
        _require(metadata % 4 == 0 and metadata <= most)
        _require(not egress)
    linear = min(linear, PAGE - (HEADROOM - metadata) - TAILROOM)
    _require(size - metadata >= ETH_HLEN)
    _require(size <= linear + MAX_FRAGMENTS * PAGE, ENOMEM)
    _require(bool(device) or not queue)
    if device:
        _check_device(device)
        _require(queue == 0)


def _check_raw_tp(engine: Machine, program: LoadedProgram, request: Request) -> None:
    _require(not request.data and request.repeat <= 1)
    _require(program.context_size <= len(request.context) <= RAW_TP_ARGUMENTS)
    if request.cpu is not None or request.flags & 1:
        _require(0 <= (request.cpu or 0) < engine.possible_cpus, ENXIO)


def _check_syscall(engine: Machine, program: LoadedProgram, request: Request) -> None:
    _require(not request.flags and request.cpu is None and not request.data and request.repeat <= 1)
    _require(program.context_size <= len(request.context) <= MAX_CONTEXT)


def _check_sk_lookup(engine: Machine, program: LoadedProgram, request: Request) -> None:
    _require(not request.flags and request.cpu is None and not request.data)
    _require(bool(request.context))
    context = _given(request.context, _SOCKET_SIZE)
    _require(not any(context[:8]) and not any(context[64:]))
    _require(
        int.from_bytes(context[60:64], "little") <= 0xFFFF and int.from_bytes(context[36:40], "little") <= 0xFFFF,
        ERANGE,
    )
    _require(int.from_bytes(context[8:10], "little") in (2, 10), EAFNOSUPPORT)


def _check_flow(engine: Machine, program: LoadedProgram, request: Request) -> None:
    _require(not request.flags and request.cpu is None)
    _require(ETH_HLEN <= len(request.data) <= PAGE)
    context = _given(request.context, _FLOW_KEYS)
    _require(not any(context[:48]) and not any(context[52:]))


def _check_netfilter(engine: Machine, program: LoadedProgram, request: Request) -> None:
    data = request.data
    _require(not request.flags and request.cpu is None)
    _require(IP_HLEN <= len(data) <= MAX_SKB and len(data) >= ETH_HLEN)
    context = _given(request.context, _HOOK_STATE)
    hook, family = _hook_state(context if request.context else b"")
    _require(family in PROTOCOLS.values() and not any(context[8:]))
    if hook != LOCAL_OUT:
        _require(len(data) >= ETH_HLEN + _NETWORK.get(data[12:14], IP_HLEN))
        _require(data[12:14] in PROTOCOLS, EPROTO)
        _require(family == PROTOCOLS[data[12:14]])


def _hook_state(context: bytes) -> tuple[int, int]:
    """(hook, family) of a struct nf_hook_state; without one a packet of IPv4 leaves this machine."""
    return (context[0], context[1]) if len(context) >= 2 else (LOCAL_OUT, AF_INET)


def _check_nothing(engine: Machine, program: LoadedProgram, request: Request) -> None:
    _require(not request.data and request.repeat <= 1)


_CHECKS: dict[P, Callable[[Machine, LoadedProgram, Request], None]] = {
    **dict.fromkeys(SKB_TEST_TYPES, _check_skb), P.XDP: _check_xdp, P.RAW_TRACEPOINT: _check_raw_tp, P.SYSCALL: _check_syscall,
    P.SK_LOOKUP: _check_sk_lookup, P.FLOW_DISSECTOR: _check_flow, P.NETFILTER: _check_netfilter, P.TRACING: _check_nothing,
}  # fmt: skip


# -- running -------------------------------------------------------------------------------------------------------------


def _packet_of(program: LoadedProgram, memory: Memory, data: bytes, context: bytes) -> XdpBuff | SkBuff | None:
    if program.type == P.XDP:
        return XdpBuff(memory, data, context)
    if program.type == P.FLOW_DISSECTOR:
        return FlowPacket(memory, data, int.from_bytes(context[48:52], "little") if len(context) == _FLOW_KEYS else 0)
    if program.type in SKB_TYPES:
        return SkBuff(memory, data, context, program.type in L2_TYPES)
    if program.type == P.NETFILTER and data:
        hook, family = _hook_state(context)
        if hook == LOCAL_OUT:  # such packets have no link layer header yet
            data = bytes(12) + next((key for key, value in PROTOCOLS.items() if value == family), bytes(2)) + data
        return SkBuff(memory, data, b"", False)
    return None


def run_once(
    engine: Machine, program: LoadedProgram, data: bytes, context: bytes, prepare: Callable[[Run], None] | None = None
) -> TestRunResult:
    """Run a program on a packet, or on the bytes of a context; the result with what it left of them."""
    memory = engine.memory
    packet = _packet_of(program, memory, data, context)
    if packet is not None:
        owned: list[int] = []
        try:

            def with_packet(run: Run) -> None:
                run.packet = packet
                packet.runs = True
                if prepare is not None:
                    prepare(run)

            if program.type == P.NETFILTER:
                value = engine.execute(program, _hook_context(engine, program, packet, context, owned), with_packet)
                return TestRunResult(value & 0xFFFFFFFF, b"", context, 0)
            value = engine.execute(program, packet.context, with_packet)
            left = packet.with_metadata() if isinstance(packet, XdpBuff) else packet.whole()
            after = context if program.type == P.FLOW_DISSECTOR else packet.context_bytes() if context else b""
            return TestRunResult(value & 0xFFFFFFFF, left, after, 0)
        finally:
            packet.close()
            for address in owned:
                memory.free(address)
    size = max(len(context), program.context_size, RAW_TP_ARGUMENTS)
    address = memory.allocate(size)
    try:
        memory.write(address, context)
        written: list[bytearray] = []  # by an iterator program

        def with_output(run: Run) -> None:
            written.append(run.output)
            if prepare is not None:
                prepare(run)

        value = engine.execute(program, address, with_output)
        return TestRunResult(value & 0xFFFFFFFF, bytes(written[0]), memory.read(address, len(context)), 0)
    finally:
        memory.free(address)


def _hook_context(engine: Machine, program: LoadedProgram, packet: Packet, context: bytes, owned: list[int]) -> int:
    """The address of a struct bpf_nf_ctx: where in the stack the packet is, and the packet."""
    btf = program.object_spec.types
    hook, family = _hook_state(context)
    values = (
        {"__type__": "nf_hook_state", "hook": hook, "pf": family},
        {"__type__": "sk_buff", "len": len(packet), "protocol": packet.number(SKB["protocol"])},
    )
    pair = [
        pointer(engine, btf, 0, KnownMembers(value), owned) if btf is not None else opaque(engine, owned)
        for value in values
    ]
    address = engine.memory.allocate(16)
    owned.append(address)
    engine.memory.write(address, struct.pack("<QQ", *pair))
    return address


def run_program(
    engine: Machine,
    program: LoadedProgram,
    context: object,
    data: bytes,
    arguments: Sequence[object],
    fields: Mapping[str, object],
    cookie: int = 0,
    cgroup: int = 0,
) -> TestRunResult:
    """Run a program on a context made from Python values, or on a packet."""
    # What the context points to must exist before the run does.
    draft = Run(program, 0, engine.task)
    draft.cookie = cookie
    try:
        raw = encode_context(engine, program, draft, context, arguments, fields)
        if program.type == P.XDP and not any(raw[4:8]):  # data_end, which nobody has to say
            raw = raw[:4].ljust(4, b"\0") + len(data).to_bytes(4, "little") + raw[8:]

        def prepare(run: Run) -> None:
            run.cookie = draft.cookie
            run.cgroup = cgroup
            run.arguments = draft.arguments
            run.sysctl = draft.sysctl

        return run_once(engine, program, data, raw, prepare)
    finally:
        for address in draft.owned:
            engine.memory.free(address)
