"""Accesses that are tested together do what each does alone: what is written before a bad one, where it is, what registers hold."""

from __future__ import annotations

import random
import struct

import pytest
from tests.engine.raw_programs import RawProgram

from bpf2py.engine import Engine
from bpf2py.engine.code.code import Code, Op
from bpf2py.engine.code.control import Slot
from bpf2py.engine.code.native import can_run
from bpf2py.engine.code.straight import straight_pieces
from bpf2py.engine.memory import PUBLIC
from bpf2py.isa import opcodes as isa

SEED = 20261128
SIZES = (isa.BPF_B, isa.BPF_H, isa.BPF_W, isa.BPF_DW)
M64 = (1 << 64) - 1
AREA = 512


def wide(register: int, value: int) -> list[Op | None]:
    return [Op(isa.LD_IMM64, register, 0, 0, value), None]


def encoded(ops: list[Op | None]) -> bytes:
    out = b""
    for op in ops:
        if op is None:
            continue
        low = (op.imm & 0xFFFFFFFF ^ 1 << 31) - (1 << 31)
        out += struct.pack("<BBhi", op.opcode, op.dst | op.src << 4, op.offset, low)
        if op.opcode == isa.LD_IMM64:
            out += struct.pack("<BBhI", 0, 0, 0, op.imm >> 32 & 0xFFFFFFFF)
    return out


def pieces_of(*ops: Op | None) -> dict[int, tuple[int, dict[int, tuple[int, int]]]]:
    code = Code.decode("test", encoded(list(ops)), [(0, "test")])
    found = straight_pieces(code, code.functions[0], set(), PUBLIC, 1 << 30)
    return {slot: (piece.end, piece.bounds) for slot, piece in found.items()}


def load(dst: int, base: int, offset: int, size: int = isa.BPF_W) -> Op:
    return Op(isa.BPF_LDX | isa.BPF_MEM | size, dst, base, offset, 0)


def test_what_is_tested_together() -> None:
    add = Op(isa.BPF_ALU64 | isa.BPF_ADD, 1, 0, 0, 8)
    done = Op(isa.EXIT, 0, 0, 0, 0)
    assert pieces_of(load(0, 1, 4), load(2, 1, 8), done) == {0: (2, {1: (4, 12)})}
    assert pieces_of(load(0, 1, 4), done) == {}  # one test for one access is what there is anyway
    assert pieces_of(load(0, 1, 4), add, load(2, 1, 8), done) == {}  # another pointer by then
    assert pieces_of(load(1, 1, 4), load(2, 1, 8), done) == {}
    assert pieces_of(load(0, 1, 4), load(2, 3, -8), load(4, 1, 0), load(5, 3, 0), done) == {
        0: (4, {1: (0, 8), 3: (-8, 4)})
    }
    assert pieces_of(load(0, 1, 0), load(0, 1, 4), load(0, 1, 30000), load(0, 1, 30004), done) == {
        0: (2, {1: (0, 8)}), 2: (4, {1: (30000, 30008)}),
    }  # fmt: skip
    # Constants need no test where they are good, and do where they are not.
    assert pieces_of(*wide(1, PUBLIC), load(0, 1, 0), done) == {2: (3, {})}
    assert pieces_of(*wide(1, PUBLIC), load(0, 1, -4), done) == {}
    assert pieces_of(*wide(1, (1 << 30) - 4), load(0, 1, 1), done) == {}
    # What a call or an atomic operation may change is not known after it.
    call = Op(isa.CALL, 0, 0, 0, 5)
    assert pieces_of(*wide(1, PUBLIC), call, load(0, 1, 0), done) == {}
    assert pieces_of(load(0, 6, 0), call, load(0, 6, 4), done) == {}
    swap = Op(isa.BPF_STX | isa.BPF_ATOMIC | isa.BPF_DW, 2, 1, 0, isa.BPF_XCHG)
    assert pieces_of(*wide(1, PUBLIC), swap, load(0, 1, 0), done) == {}


def straight(random_: random.Random, places: list[int]) -> list[Op | None]:
    """Accesses through R6 to R9 and constants, with a little arithmetic between them."""
    ops: list[Op | None] = []
    for register in range(6):
        ops += wide(register, random_.getrandbits(64))
    for register in range(6, 10):
        ops += wide(register, random_.choice(places))
        if random_.random() < 0.7:  # so that it is not known to be a constant
            ops += [Op(isa.BPF_ALU64 | isa.BPF_XOR, register, 0, 0, 0)]
    for _ in range(random_.randrange(2, 16)):
        base, other, size = random_.randrange(6, 10), random_.randrange(6), random_.choice(SIZES)
        offset = random_.choice((0, 4, 8, 16, 24, -8, -16, 3, 100, 1500, -2000))
        kind = random_.random()
        if kind < 0.4:
            ops.append(load(random_.choice((other, other, other, base)), base, offset, size))
        elif kind < 0.7:
            ops.append(Op(isa.BPF_STX | isa.BPF_MEM | size, base, other, offset, 0))
        elif kind < 0.85:
            ops.append(Op(isa.BPF_ST | isa.BPF_MEM | size, base, 0, offset, random_.getrandbits(31)))
        elif kind < 0.95:
            ops.append(Op(isa.BPF_ALU64 | isa.BPF_ADD, random_.randrange(10), 0, 0, random_.choice((8, -8, 4))))
        else:
            ops += wide(base, random_.choice(places))
    for register in range(1, 10):
        ops.append(Op(isa.BPF_ALU64 | isa.BPF_XOR | isa.BPF_X, 0, register, 0, 0))
    ops.append(Op(isa.EXIT, 0, 0, 0, 0))
    return ops


@pytest.mark.skipif(not can_run(), reason="no machine code on this processor")
@pytest.mark.parametrize("probe_reads", [False, True])
def test_machine_code_and_python_agree(probe_reads: bool) -> None:
    random_ = random.Random(SEED)
    engines = [Engine(translator=translator) for translator in ("native", "python")]
    areas = [engine.memory.allocate(AREA) for engine in engines]
    assert areas[0] == areas[1]
    end = engines[0].memory.size
    assert engines[1].memory.size == end
    places = [
        areas[0] + 64,
        areas[0] + 128,
        areas[0] + 128,
        PUBLIC,
        PUBLIC + 8,
        end - 16,
        end - 24,
        0,
        M64 - 7,
        end,
        1 << 63,
    ]
    faults = 0
    for _ in range(700):
        code = encoded(straight(random_, places))
        filling = random_.randbytes(AREA)
        found = []
        for engine in engines:
            memory = engine.memory
            memory.write(areas[0], filling)
            for edge in (PUBLIC, end - 64):
                memory.write(edge, bytes(64))
            raw = RawProgram.__new__(RawProgram)
            raw.code = Code.decode("raw", code, [(0, "f0")])
            raw.code.probe_reads = probe_reads
            raw.__init__(engine, [])  # type: ignore[misc]
            result, fault = raw.run(areas[0])
            where = [memory.control[slot] for slot in (Slot.PC, Slot.ADDRESS)] if fault else []
            found.append(
                (result, fault, where, memory.read(areas[0], AREA), memory.read(PUBLIC, 64), memory.read(end - 64, 64))
            )
            raw.close()
        assert found[0] == found[1], code.hex()
        faults += found[0][1] != 0
    assert 100 < faults < 650
