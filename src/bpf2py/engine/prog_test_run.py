"""What BPF_PROG_TEST_RUN does, and running any program on a context of one's own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bpf2py.engine.packet import ETH_HLEN, L2_TYPES, SKB_TYPES, SkBuff, XdpBuff
from bpf2py.errors import BpfOSError, EncodeError, NotSupported
from bpf2py.info import TestRunResult
from bpf2py.uapi.program_types import AttachType
from bpf2py.uapi.program_types import ProgramType as P

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine
    from bpf2py.engine.program import EngineProgram
    from bpf2py.engine.run import Run

__all__ = ["run_once", "test_run"]

EINVAL, ENOTSUPP, E2BIG = 22, 524, 7
MAX_CONTEXT = 1 << 16
RAW_TP_ARGUMENTS = 12 * 8
# Programs of other types have no test run (struct bpf_prog_ops of each type in the kernel).
_RUNNABLE = (
    *SKB_TYPES[:-1], P.XDP, P.RAW_TRACEPOINT, P.RAW_TRACEPOINT_WRITABLE, P.TRACING, P.SK_LOOKUP, P.SYSCALL, P.FLOW_DISSECTOR,
    P.NETFILTER,
)  # fmt: skip
# Newer kernels refuse packets without a whole IP header (seen on 6.18).
_NETWORK = {b"\x08\x00": 20, b"\x86\xdd": 40}
_TRAMPOLINES = (AttachType.TRACE_FENTRY, AttachType.TRACE_FEXIT, AttachType.MODIFY_RETURN)


def test_run(
    engine: Machine,
    program: EngineProgram,
    name: str,
    data: bytes,
    context: bytes,
    repeat: int,
    cpu: int | None,
    flags: int,
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
    if (kind == P.XDP or kind in SKB_TYPES) and len(data) < ETH_HLEN:
        raise _invalid(what)
    if kind in SKB_TYPES and engine.version >= (6, 18, 0) and len(data) < ETH_HLEN + _NETWORK.get(data[12:14], 0):
        raise _invalid(what)
    if kind in (P.RAW_TRACEPOINT, P.RAW_TRACEPOINT_WRITABLE):
        if len(context) > RAW_TP_ARGUMENTS or data or repeat > 1:
            raise _invalid(what)
    elif kind == P.SYSCALL and (len(context) > MAX_CONTEXT or data or repeat > 1):
        raise _invalid(what)
    result = TestRunResult(0, b"", b"", 0)
    started = time.perf_counter_ns()
    turns = max(repeat, 1)
    for _ in range(turns):
        # Each turn sees what the one before left, but for what the kernel puts back itself.
        result = _on_cpu(engine, program, cpu, data, context)
    return result._replace(duration_ns=(time.perf_counter_ns() - started) // turns)


def _invalid(what: str) -> BpfOSError:
    text = "the data or context does not fit (packets need at least 14 bytes; contexts the size of the program's)"
    return BpfOSError(f"{what}: {text}", errno=EINVAL, command="BPF_PROG_TEST_RUN")


def _on_cpu(engine: Machine, program: EngineProgram, cpu: int | None, data: bytes, context: bytes) -> TestRunResult:
    if cpu is None:
        return run_once(engine, program, data, context)
    try:
        with engine.cpu(cpu):
            return run_once(engine, program, data, context)
    except EncodeError as error:
        raise BpfOSError(
            f"program {program.name}: {error.message}", errno=EINVAL, command="BPF_PROG_TEST_RUN"
        ) from None


def run_once(
    engine: Machine, program: EngineProgram, data: bytes, context: bytes, prepare: Any = None
) -> TestRunResult:
    """Run a program on a packet, or on the bytes of a context; the result with what it left of them."""
    memory = engine.memory
    packet: XdpBuff | SkBuff | None = None
    if program.type == P.XDP:
        packet = XdpBuff(memory, data, context)
    elif program.type in SKB_TYPES or program.type == P.FLOW_DISSECTOR:
        packet = SkBuff(memory, data, context, program.type in L2_TYPES)
    if packet is not None:
        try:

            def with_packet(run: Run) -> None:
                run.packet = packet
                if prepare is not None:
                    prepare(run)

            value = engine.execute(program, packet.context, with_packet)
            left = packet.with_metadata() if isinstance(packet, XdpBuff) else packet.whole()
            return TestRunResult(value & 0xFFFFFFFF, left, packet.context_bytes() if context else b"", 0)
        finally:
            packet.close()
    size = max(len(context), RAW_TP_ARGUMENTS)
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
