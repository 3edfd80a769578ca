"""Every instruction of the instruction set, on both translations, against values worked out by hand from RFC 9669."""

from __future__ import annotations

import pytest
from tests.engine.raw_programs import RawProgram

from bpf2py.engine import Engine
from bpf2py.engine.code.check import CheckError, check_form
from bpf2py.engine.code.code import Code
from bpf2py.engine.memory import PUBLIC
from bpf2py.isa import opcodes as isa
from bpf2py.isa.instruction import Instruction as I
from bpf2py.isa.instruction import encode

M64, M32 = (1 << 64) - 1, (1 << 32) - 1
ALU, ALU64, K, X = isa.BPF_ALU, isa.BPF_ALU64, isa.BPF_K, isa.BPF_X
B, H, W, DW = isa.BPF_B, isa.BPF_H, isa.BPF_W, isa.BPF_DW
A64, B64 = 0xF1E2D3C4B5A69788, 0x0000000080000003
NEG7 = -7 & M64

# operation, a, b, 64-bit result, 32-bit result of the low halves
ARITHMETIC = [
    (isa.BPF_ADD, A64, B64, 0xF1E2D3C535A6978B, 0x35A6978B),
    (isa.BPF_SUB, A64, B64, 0xF1E2D3C435A69785, 0x35A69785),
    (isa.BPF_MUL, A64, B64, (A64 * B64) & M64, (A64 * B64) & M32),
    (isa.BPF_DIV, A64, B64, A64 // B64, 0xB5A69788 // 0x80000003),
    (isa.BPF_MOD, A64, B64, A64 % B64, 0xB5A69788 % 0x80000003),
    (isa.BPF_DIV, A64, 0, 0, 0),
    (isa.BPF_MOD, A64, 0, A64, 0xB5A69788),
    (isa.BPF_OR, A64, B64, 0xF1E2D3C4B5A6978B, 0xB5A6978B),
    (isa.BPF_AND, A64, B64, 0x80000000, 0x80000000),
    (isa.BPF_XOR, A64, B64, 0xF1E2D3C435A6978B, 0x35A6978B),
    (isa.BPF_LSH, A64, 68, 0x1E2D3C4B5A697880, 0x5A697880),
    (isa.BPF_RSH, A64, 68, 0x0F1E2D3C4B5A6978, 0x0B5A6978),
    (isa.BPF_ARSH, A64, 68, 0xFF1E2D3C4B5A6978, 0xFB5A6978),
    (isa.BPF_MOV, A64, B64, B64, 0x80000003),
]  # fmt: skip
SIGNED = [  # v4: offset 1; quotients towards zero
    (isa.BPF_DIV, NEG7, 2, -3 & M64, -3 & M32),
    (isa.BPF_MOD, NEG7, 2, -1 & M64, -1 & M32),
    (isa.BPF_DIV, 7, -2 & M64, -3 & M64, -3 & M32),
    (isa.BPF_MOD, 7, -2 & M64, 1, 1),
    (isa.BPF_DIV, 1 << 63 | 1 << 31, -1 & M64, (1 << 63) - (1 << 31), 1 << 31),
    (isa.BPF_MOD, 1 << 63 | 1 << 31, -1 & M64, 0, 0),
    (isa.BPF_DIV, NEG7, 0, 0, 0),
    (isa.BPF_MOD, NEG7, 0, NEG7, NEG7 & M32),
]  # fmt: skip
SIGN_EXTENDED = [(8, 0x180, -128), (16, 0x18000, -32768), (32, 0x180000000, -(1 << 31)), (8, 0x17F, 127)]
SWAPS = [  # class, source bit, bits, result of 0x1122334455667788
    (ALU, isa.BPF_TO_LE, 16, 0x7788), (ALU, isa.BPF_TO_LE, 32, 0x55667788), (ALU, isa.BPF_TO_LE, 64, 0x1122334455667788),
    (ALU, isa.BPF_TO_BE, 16, 0x8877), (ALU, isa.BPF_TO_BE, 32, 0x88776655), (ALU, isa.BPF_TO_BE, 64, 0x8877665544332211),
    (ALU64, 0, 16, 0x8877), (ALU64, 0, 32, 0x88776655), (ALU64, 0, 64, 0x8877665544332211),
]  # fmt: skip
# operation, then for each pair (a, b) of PAIRS whether the 64-bit jump is taken
PAIRS = [(1, 2), (2, 1), (5, 5), (-1 & M64, 1), (1, -1 & M64), (1 << 32, 0)]
JUMPS = {
    isa.BPF_JEQ: [0, 0, 1, 0, 0, 0], isa.BPF_JNE: [1, 1, 0, 1, 1, 1], isa.BPF_JGT: [0, 1, 0, 1, 0, 1],
    isa.BPF_JGE: [0, 1, 1, 1, 0, 1], isa.BPF_JLT: [1, 0, 0, 0, 1, 0], isa.BPF_JLE: [1, 0, 1, 0, 1, 0],
    isa.BPF_JSGT: [0, 1, 0, 0, 1, 1], isa.BPF_JSGE: [0, 1, 1, 0, 1, 1], isa.BPF_JSLT: [1, 0, 0, 1, 0, 0],
    isa.BPF_JSLE: [1, 0, 1, 1, 0, 0], isa.BPF_JSET: [0, 0, 1, 1, 1, 0],
}  # fmt: skip
OF_HALVES = {  # the last pair's halves are equal
    isa.BPF_JEQ: 1, isa.BPF_JNE: 0, isa.BPF_JGT: 0, isa.BPF_JGE: 1, isa.BPF_JLT: 0, isa.BPF_JLE: 1, isa.BPF_JSGT: 0,
    isa.BPF_JSGE: 1, isa.BPF_JSLT: 0, isa.BPF_JSLE: 1, isa.BPF_JSET: 0,
}  # fmt: skip
SEEN: set[int] = set()


@pytest.fixture(params=["native", "python"], scope="module")
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine(translator=request.param)


def result_of(engine: Engine, *code: I, starts: tuple[int, ...] = (0,)) -> int:
    """What a program leaves in R0; its context is 64 bytes of 0..63."""
    SEEN.update(instruction.opcode for instruction in code)
    made = RawProgram(engine, encode(code), starts)
    context = engine.memory.allocate(64)
    engine.memory.write(context, bytes(range(64)))
    try:
        result, fault = made.run(context)
        assert fault == 0
        return int(result)
    finally:
        made.close()
        engine.memory.free(context)


def wide(register: int, value: int) -> I:
    return I.load_imm64(register, value)


EXIT = I(isa.EXIT)


@pytest.mark.parametrize(("operation", "a", "b", "long", "short"), ARITHMETIC)
@pytest.mark.parametrize(("dst", "src"), [(0, 1), (2, 4), (3, 0), (4, 3), (7, 9), (9, 5), (5, 7)])
def test_arithmetic(engine: Engine, operation: int, a: int, b: int, long: int, short: int, dst: int, src: int) -> None:
    for kind, wanted in ((ALU64, long), (ALU, short)):
        code = [wide(dst, a), wide(src, b), I(kind | operation | X, dst, src), I(ALU64 | isa.BPF_MOV | X, 0, dst), EXIT]
        assert result_of(engine, *code) == wanted


@pytest.mark.parametrize(("operation", "a", "b", "long", "short"), [row for row in ARITHMETIC if row[2]])
def test_arithmetic_with_a_constant(engine: Engine, operation: int, a: int, b: int, long: int, short: int) -> None:
    shift = operation in (isa.BPF_LSH, isa.BPF_RSH, isa.BPF_ARSH)
    constant = 4 if shift else 0x7FFFFFF1
    expected = {
        isa.BPF_ADD: a + constant, isa.BPF_SUB: a - constant, isa.BPF_MUL: a * constant, isa.BPF_DIV: a // constant,
        isa.BPF_MOD: a % constant, isa.BPF_OR: a | constant, isa.BPF_AND: a & constant, isa.BPF_XOR: a ^ constant,
        isa.BPF_MOV: constant, isa.BPF_LSH: long, isa.BPF_RSH: long, isa.BPF_ARSH: long,
    }[operation] & M64  # fmt: skip
    assert result_of(engine, wide(0, a), I(ALU64 | operation | K, 0, 0, 0, constant), EXIT) == expected
    low = {isa.BPF_DIV: (a & M32) // constant, isa.BPF_MOD: (a & M32) % constant}.get(operation, expected) & M32
    low = short if shift else low
    assert result_of(engine, wide(0, a), I(ALU | operation | K, 0, 0, 0, constant), EXIT) == low


def test_constants_are_sign_extended(engine: Engine) -> None:
    assert result_of(engine, I(ALU64 | isa.BPF_MOV | K, 0, 0, 0, -2), EXIT) == -2 & M64
    assert result_of(engine, I(ALU | isa.BPF_MOV | K, 0, 0, 0, -2), EXIT) == -2 & M32
    assert result_of(engine, wide(0, 1), I(ALU64 | isa.BPF_ADD | K, 0, 0, 0, -2), EXIT) == M64


@pytest.mark.parametrize(("operation", "a", "b", "long", "short"), SIGNED)
@pytest.mark.parametrize(("dst", "src"), [(0, 1), (3, 0), (2, 3), (8, 9)])
def test_signed_division(
    engine: Engine, operation: int, a: int, b: int, long: int, short: int, dst: int, src: int
) -> None:
    for kind, wanted in ((ALU64, long), (ALU, short)):
        code = [
            wide(dst, a),
            wide(src, b),
            I(kind | operation | X, dst, src, 1),
            I(ALU64 | isa.BPF_MOV | X, 0, dst),
            EXIT,
        ]
        assert result_of(engine, *code) == wanted
    if b and b != -1 & M64:
        constant = b - (1 << 64) if b >> 63 else b
        assert result_of(engine, wide(0, a), I(ALU64 | operation | K, 0, 0, 1, constant), EXIT) == long


@pytest.mark.parametrize(("bits", "value", "wanted"), SIGN_EXTENDED)
def test_sign_extending_moves(engine: Engine, bits: int, value: int, wanted: int) -> None:
    assert result_of(engine, wide(1, value), I(ALU64 | isa.BPF_MOV | X, 0, 1, bits), EXIT) == wanted & M64
    if bits < 32:
        assert result_of(engine, wide(1, value), I(ALU | isa.BPF_MOV | X, 0, 1, bits), EXIT) == wanted & M32


def test_negation(engine: Engine) -> None:
    assert result_of(engine, wide(0, 5), I(ALU64 | isa.BPF_NEG, 0), EXIT) == -5 & M64
    assert result_of(engine, wide(0, 5), I(ALU | isa.BPF_NEG, 0), EXIT) == -5 & M32


@pytest.mark.parametrize(("kind", "source", "bits", "wanted"), SWAPS)
@pytest.mark.parametrize("register", [0, 1, 7, 9])
def test_byte_order(engine: Engine, kind: int, source: int, bits: int, wanted: int, register: int) -> None:
    swap = I(kind | isa.BPF_END | source, register, 0, 0, bits)
    assert (
        result_of(engine, wide(register, 0x1122334455667788), swap, I(ALU64 | isa.BPF_MOV | X, 0, register), EXIT)
        == wanted
    )


@pytest.mark.parametrize("operation", JUMPS)
def test_jumps(engine: Engine, operation: int) -> None:
    for (a, b), taken in zip(PAIRS, JUMPS[operation], strict=True):
        for kind in (isa.BPF_JMP, isa.BPF_JMP32):
            expected = taken if kind == isa.BPF_JMP or a != 1 << 32 else OF_HALVES[operation]
            tail = [I(ALU64 | isa.BPF_MOV | K, 0, 0, 0, 0), EXIT, I(ALU64 | isa.BPF_MOV | K, 0, 0, 0, 1), EXIT]
            assert result_of(engine, wide(2, a), wide(3, b), I(kind | operation | X, 2, 3, 2), *tail) == expected
            constant = b - (1 << 64) if b >> 63 else b
            assert result_of(engine, wide(2, a), I(kind | operation | K, 2, 0, 2, constant), *tail) == expected


def test_unconditional_jumps_and_loops(engine: Engine) -> None:
    seven, zero = I(ALU64 | isa.BPF_MOV | K, 0, 0, 0, 7), I(ALU64 | isa.BPF_MOV | K, 0)
    not_taken = I(isa.BPF_JMP | isa.BPF_JNE | K, 0, 0, 1, 7)
    assert result_of(engine, seven, not_taken, I(isa.BPF_JMP | isa.BPF_JA, 0, 0, 1), zero, EXIT) == 7
    assert result_of(engine, seven, not_taken, I(isa.BPF_JMP32 | isa.BPF_JA, 0, 0, 0, 1), zero, EXIT) == 7
    loop = [
        I(ALU64 | isa.BPF_MOV | K, 0), I(ALU64 | isa.BPF_MOV | K, 1, 0, 0, 10), I(ALU64 | isa.BPF_ADD | X, 0, 1),
        I(ALU64 | isa.BPF_ADD | K, 1, 0, 0, -1), I(isa.BPF_JMP | isa.BPF_JNE | K, 1, 0, -3), EXIT,
    ]  # fmt: skip
    assert result_of(engine, *loop) == 55


def test_a_loop_back_to_the_first_instruction(engine: Engine) -> None:
    """It does not enter the function again, which keeps R6 for its caller: in the main program, and in one it calls."""
    loop = [
        I(ALU64 | isa.BPF_ADD | K, 1, 0, 0, -1), I(isa.BPF_JMP | isa.BPF_JGT | X, 1, 2, -2),
        I(ALU64 | isa.BPF_MOV | X, 6, 1), I(ALU64 | isa.BPF_MOV | X, 0, 6), EXIT,
    ]  # fmt: skip
    low = [I(ALU64 | isa.BPF_MOV | K, 1, 0, 0, 90), I(ALU64 | isa.BPF_MOV | K, 2, 0, 0, 33), wide(6, A64)]
    main = [*low, I(isa.CALL, 0, isa.BPF_PSEUDO_CALL, 0, 2), I(ALU64 | isa.BPF_ADD | X, 0, 6), EXIT]
    assert result_of(engine, *main, *loop, starts=(0, 7)) == A64 + 33
    turns = [
        I(isa.BPF_LDX | isa.BPF_MEM | DW, 6, 1, 0), I(ALU64 | isa.BPF_ADD | K, 6, 0, 0, 1),
        I(isa.BPF_STX | isa.BPF_MEM | DW, 1, 6, 0), I(isa.BPF_LDX | isa.BPF_MEM | B, 2, 1, 0),
        I(isa.BPF_JMP | isa.BPF_JNE | K, 2, 0, -5, 200), I(ALU64 | isa.BPF_MOV | X, 0, 2), EXIT,
    ]  # fmt: skip
    assert result_of(engine, *turns) == 200


@pytest.mark.parametrize(("size", "width"), [(B, 1), (H, 2), (W, 4), (DW, 8)])
@pytest.mark.parametrize("register", [1, 4, 8])
def test_memory(engine: Engine, size: int, width: int, register: int) -> None:
    move = I(ALU64 | isa.BPF_MOV | X, register, 1)
    wanted = int.from_bytes(bytes(range(3, 3 + width)), "little")
    assert result_of(engine, move, I(isa.BPF_LDX | isa.BPF_MEM | size, 0, register, 3), EXIT) == wanted
    mask = (1 << 8 * width) - 1
    store = [
        move,
        wide(2, A64),
        I(isa.BPF_STX | isa.BPF_MEM | size, register, 2, 8),
        I(isa.BPF_LDX | isa.BPF_MEM | DW, 0, register, 8),
        EXIT,
    ]
    before = int.from_bytes(bytes(range(8, 16)), "little")
    assert result_of(engine, *store) == (before & ~mask | A64 & mask) & M64
    constant = [
        move,
        I(isa.BPF_ST | isa.BPF_MEM | size, register, 0, 8, -2),
        I(isa.BPF_LDX | isa.BPF_MEM | DW, 0, register, 8),
        EXIT,
    ]
    assert result_of(engine, *constant) == (before & ~mask | -2 & mask) & M64
    stack = [
        wide(2, A64),
        I(isa.BPF_STX | isa.BPF_MEM | size, 10, 2, -8),
        I(isa.BPF_LDX | isa.BPF_MEM | size, 0, 10, -8),
        EXIT,
    ]
    assert result_of(engine, *stack) == A64 & mask
    if width < 8:
        signed = [
            move,
            I(isa.BPF_ST | isa.BPF_MEM | size, register, 0, 8, -2),
            I(isa.BPF_LDX | isa.BPF_MEMSX | size, 0, register, 8),
            EXIT,
        ]
        assert result_of(engine, *signed) == -2 & M64


@pytest.mark.parametrize(("size", "width"), [(B, 1), (H, 2), (W, 4), (DW, 8)])
@pytest.mark.parametrize("after_helper", [False, True])
def test_bounds(engine: Engine, size: int, width: int, after_helper: bool) -> None:
    """From the first public byte to the last of the memory, whatever the offset, also after Python was called."""
    first, last = PUBLIC, engine.memory.size - width
    buffer = engine.memory.allocate(64)
    comm = [wide(1, buffer), I(ALU64 | isa.BPF_MOV | K, 2, 0, 0, 8), I(isa.CALL, 0, 0, 0, 16)] if after_helper else []
    accesses = [
        I(isa.BPF_LDX | isa.BPF_MEM | size, 0, 6, 0), I(isa.BPF_STX | isa.BPF_MEM | size, 6, 0, 0),
        I(isa.BPF_ST | isa.BPF_MEM | size, 6, 0, 0, 0), I(isa.BPF_STX | isa.BPF_ATOMIC | size, 0, 6, 0, isa.BPF_LOAD_ACQ),
        I(isa.BPF_STX | isa.BPF_ATOMIC | size, 6, 0, 0, isa.BPF_STORE_REL),
    ]  # fmt: skip
    if width >= 4:
        operations = (isa.BPF_ADD, isa.BPF_OR | isa.BPF_FETCH, isa.BPF_XCHG, isa.BPF_CMPXCHG)
        accesses += [I(isa.BPF_STX | isa.BPF_ATOMIC | size, 6, 0, 0, operation) for operation in operations]
    zero = I(ALU64 | isa.BPF_MOV | K, 0, 0, 0, 0)
    for access in accesses:
        for offset in (0, 5000, -32768):
            here = access._replace(offset=offset)
            for address, allowed in (
                (first - 1, False),
                (first, True),
                (last, True),
                (last + 1, False),
                (-width & M64, False),
            ):
                made = RawProgram(engine, encode([*comm, wide(6, address - offset & M64), zero, here, zero, EXIT]))
                assert (made.run(buffer)[1] == 0) == allowed, f"{here} at {address:#x}"
                made.close()
    engine.memory.free(buffer)


ATOMIC = [(isa.BPF_ADD, 12), (isa.BPF_OR, 15 & ~4 | 4), (isa.BPF_AND, 0), (isa.BPF_XOR, 0)]


@pytest.mark.parametrize(("size", "mask"), [(W, M32), (DW, M64)])
def test_atomics(engine: Engine, size: int, mask: int) -> None:
    a, b = 0xFFFFFFFFFFFFFFF6 & mask, 0x1C
    set_up = [wide(2, a), I(isa.BPF_STX | isa.BPF_MEM | size, 10, 2, -8), wide(3, b)]
    load = I(isa.BPF_LDX | isa.BPF_MEM | size, 0, 10, -8)
    for operation, wanted in (
        (isa.BPF_ADD, a + b), (isa.BPF_OR, a | b), (isa.BPF_AND, a & b), (isa.BPF_XOR, a ^ b),
    ):  # fmt: skip
        for fetch in (0, isa.BPF_FETCH):
            atomic = I(isa.BPF_STX | isa.BPF_ATOMIC | size, 10, 3, -8, operation | fetch)
            assert result_of(engine, *set_up, atomic, load, EXIT) == wanted & mask
            assert result_of(engine, *set_up, atomic, I(ALU64 | isa.BPF_MOV | X, 0, 3), EXIT) == (a if fetch else b)
    exchange = I(isa.BPF_STX | isa.BPF_ATOMIC | size, 10, 3, -8, isa.BPF_XCHG)
    assert result_of(engine, *set_up, exchange, load, EXIT) == b
    assert result_of(engine, *set_up, exchange, I(ALU64 | isa.BPF_MOV | X, 0, 3), EXIT) == a
    compare = I(isa.BPF_STX | isa.BPF_ATOMIC | size, 10, 3, -8, isa.BPF_CMPXCHG)
    for expected, stored in ((a, b), (1, a)):
        assert result_of(engine, *set_up, wide(0, expected), compare, load, EXIT) == stored
        assert result_of(engine, *set_up, wide(0, expected), compare, EXIT) == a


@pytest.mark.parametrize(("size", "width"), [(B, 1), (H, 2), (W, 4), (DW, 8)])
def test_acquire_and_release(engine: Engine, size: int, width: int) -> None:
    mask = (1 << 8 * width) - 1
    store = I(isa.BPF_STX | isa.BPF_ATOMIC | size, 1, 2, 8, isa.BPF_STORE_REL)
    load = I(isa.BPF_STX | isa.BPF_ATOMIC | size, 0, 1, 8, isa.BPF_LOAD_ACQ)
    assert result_of(engine, wide(2, A64), store, load, EXIT) == A64 & mask


@pytest.mark.parametrize("size", [B, H, W])
def test_legacy_packet_loads(engine: Engine, size: int) -> None:
    """R6 is a struct __sk_buff, whose data and data_end are at 76 and 80."""
    width = {B: 1, H: 2, W: 4}[size]
    packet = engine.memory.allocate(64)
    engine.memory.write(packet, bytes(range(0x40, 0x80)))
    skb = engine.memory.allocate(192)
    engine.memory.u32[skb + 76 >> 2], engine.memory.u32[skb + 80 >> 2] = packet, packet + 64
    for load, at in (
        (I(isa.BPF_LD | isa.BPF_ABS | size, 0, 0, 0, 5), 5),
        (I(isa.BPF_LD | isa.BPF_IND | size, 0, 7, 0, 5), 8),
    ):
        code = [wide(6, skb), wide(7, 3), load, EXIT]
        wanted = int.from_bytes(bytes(range(0x40 + at, 0x40 + at + width)), "big")
        assert result_of(engine, *code) == wanted
    index_in_r0 = [wide(6, skb), wide(0, 3), I(isa.BPF_LD | isa.BPF_IND | size, 0, 0, 0, 5), EXIT]
    assert result_of(engine, *index_in_r0) == int.from_bytes(bytes(range(0x48, 0x48 + width)), "big")
    beyond = [
        wide(6, skb),
        I(ALU64 | isa.BPF_MOV | K, 0, 0, 0, 9),
        I(isa.BPF_LD | isa.BPF_ABS | size, 0, 0, 0, 64),
        EXIT,
    ]
    assert result_of(engine, *beyond) == 0


def test_calls(engine: Engine) -> None:
    """A function with arguments in R1..R5, whose R6..R9 are its own; and its address, called indirectly."""
    function = [
        I(ALU64 | isa.BPF_MOV | K, 6, 0, 0, 99), I(isa.BPF_ST | isa.BPF_MEM | DW, 10, 0, -8, 1),
        I(ALU64 | isa.BPF_MOV | X, 0, 1), *[I(ALU64 | isa.BPF_ADD | X, 0, r) for r in (2, 3, 4, 5)], EXIT,
    ]  # fmt: skip
    arguments = [I(ALU64 | isa.BPF_MOV | K, r, 0, 0, 10**r) for r in (1, 2, 3, 4, 5)]
    main = [
        I(ALU64 | isa.BPF_MOV | K, 6, 0, 0, 1000000), I(isa.BPF_ST | isa.BPF_MEM | DW, 10, 0, -8, 10000000), *arguments,
        I(isa.CALL, 0, isa.BPF_PSEUDO_CALL, 0, 4), I(ALU64 | isa.BPF_ADD | X, 0, 6), I(isa.BPF_LDX | isa.BPF_MEM | DW, 1, 10, -8),
        I(ALU64 | isa.BPF_ADD | X, 0, 1), EXIT,
    ]  # fmt: skip
    assert result_of(engine, *main, *function, starts=(0, len(main))) == 11111110
    indirect = [
        *arguments, I.load_imm64(7, 3, isa.BPF_PSEUDO_FUNC), I(isa.CALLX, 7), EXIT,
    ]  # fmt: skip
    assert result_of(engine, *indirect, *function, starts=(0, 9)) == 111110


def test_may_goto(engine: Engine) -> None:
    """Ends a loop that would not end by itself after 8 Mi turns; here a count ends it before."""
    code = [
        I(ALU64 | isa.BPF_MOV | K, 0), I(isa.BPF_JMP | isa.BPF_JCOND, 0, 0, 3), I(ALU64 | isa.BPF_ADD | K, 0, 0, 0, 1),
        I(isa.BPF_JMP | isa.BPF_JGE | K, 0, 0, 1, 1000), I(isa.BPF_JMP | isa.BPF_JA, 0, 0, -4), EXIT,
    ]  # fmt: skip
    assert result_of(engine, *code) == 1000


def test_may_goto_ends_a_loop_without_end() -> None:
    code = [
        I(ALU64 | isa.BPF_MOV | K, 0), I(isa.BPF_JMP | isa.BPF_JCOND, 0, 0, 2), I(ALU64 | isa.BPF_ADD | K, 0, 0, 0, 1),
        I(isa.BPF_JMP | isa.BPF_JA, 0, 0, -3), EXIT,
    ]  # fmt: skip
    assert result_of(Engine(translator="native"), *code) == 8 * 1024 * 1024


def _valid(opcode: int) -> bool:
    """Whether some instruction with this opcode is well formed."""
    for offset in (0, 1):
        for imm in (0, 1, 16):
            for src in (0, 1):
                code = encode([I(opcode, 1, src, offset, imm)]) if opcode != isa.LD_IMM64 else encode([wide(1, 1)])
                for dst in (0, 1):
                    raw = bytes([code[0], dst | src << 4]) + code[2:]
                    body = raw + encode([EXIT, EXIT, EXIT])
                    try:
                        check_form(Code.decode("one", body, [(0, "f")]))
                    except CheckError as error:
                        if error.slot == 0 and "jump" not in error.text and "call" not in error.text:
                            continue
                    return True
    return False


def test_every_opcode_was_run() -> None:
    """Of all 256; what is well formed for the check was run above."""
    missing = [f"{opcode:#04x}" for opcode in range(256) if _valid(opcode) and opcode not in SEEN]
    assert not missing, "run the whole file, or add " + ", ".join(missing)
