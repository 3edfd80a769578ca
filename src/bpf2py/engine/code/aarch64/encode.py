"""Encodings of the A64 instructions the emitter uses, a number each.

Source of facts: Arm Architecture Reference Manual for A-profile, "A64 Base Instruction Descriptions".
"""

from __future__ import annotations

from functools import cache

# Of R0..R10: arguments are in the registers of C's, and R6..R9 in ones that calls preserve.
REGISTER = (7, 0, 1, 2, 3, 4, 19, 20, 21, 22, 23)
FRAME = REGISTER[10]  # its place in the process; programs see the address in the engine's memory
BASE, FUEL, PUBLIC_START, LIMIT8, CONTROLS = 24, 25, 26, 27, 28
LINK, SP, ZERO = 30, 31, 31

EQ, NE, HS, LO, HI, LS, GE, LT, GT, LE = 0, 1, 2, 3, 8, 9, 10, 11, 12, 13

ADD, SUB, SUBS, AND, ORR, EOR, ANDS = 0x0B000000, 0x4B000000, 0x6B000000, 0x0A000000, 0x2A000000, 0x4A000000, 0x6A000000
UDIV, SDIV, LSL, LSR, ASR = 0x1AC00800, 0x1AC00C00, 0x1AC02000, 0x1AC02400, 0x1AC02800
B, BL, CBZ, CBNZ = 0x14000000, 0x94000000, 0x34000000, 0x35000000
NOP, RET = 0xD503201F, 0xD65F03C0
DSB_ISH, ISB = 0xD5033B9F, 0xD5033FDF
_LOGICAL_IMM = {AND: 0x12000000, ORR: 0x32000000, EOR: 0x52000000, ANDS: 0x72000000}
_ADD_IMM = {ADD: 0x11000000, SUB: 0x51000000, SUBS: 0x71000000}


def rrr(op: int, rd: int, rn: int, rm: int, wide: bool = True) -> int:
    """``op rd, rn, rm``."""
    return op | wide << 31 | rm << 16 | rn << 5 | rd


def mov(rd: int, rn: int, wide: bool = True) -> int:
    """Between registers; of 32 bits it clears the upper half."""
    return ORR | wide << 31 | rn << 16 | ZERO << 5 | rd


def mul(rd: int, rn: int, rm: int, wide: bool = True) -> int:
    """``rd = rn * rm``."""
    return 0x1B007C00 | wide << 31 | rm << 16 | rn << 5 | rd


def madd(rd: int, rn: int, rm: int, ra: int) -> int:
    """``rd = ra + rn * rm``."""
    return 0x9B000000 | rm << 16 | ra << 10 | rn << 5 | rd


def msub(rd: int, rn: int, rm: int, ra: int, wide: bool = True) -> int:
    """``rd = ra - rn * rm``."""
    return 0x1B008000 | wide << 31 | rm << 16 | ra << 10 | rn << 5 | rd


def ubfm(rd: int, rn: int, immr: int, imms: int, wide: bool = True) -> int:
    """Bits of a register, moved, zero-extended."""
    return 0x53000000 | (0x80400000 if wide else 0) | immr << 16 | imms << 10 | rn << 5 | rd


def sbfm(rd: int, rn: int, immr: int, imms: int, wide: bool = True) -> int:
    """Bits of a register, moved, sign-extended."""
    return ubfm(rd, rn, immr, imms, wide) & ~0x40000000


def shift_imm(op: int, rd: int, rn: int, count: int, wide: bool = True) -> int:
    """LSL, LSR or ASR by 0 to 63, or 31."""
    top = 63 if wide else 31
    if op == LSL:
        return ubfm(rd, rn, -count & top, top - count, wide)
    return (ubfm if op == LSR else sbfm)(rd, rn, count, top, wide)


def rev(rd: int, rn: int, bits: int) -> int:
    """Bytes in the other order: of 16 bits in each half word, of 32 bits with a clear upper half, or of 64."""
    return {16: 0x5AC00400, 32: 0x5AC00800, 64: 0xDAC00C00}[bits] | rn << 5 | rd


def add_imm(op: int, rd: int, rn: int, value: int, wide: bool = True, shifted: bool = False) -> int:
    """ADD, SUB or SUBS of 0 to 4095, or of that many times 4096 where `shifted`; register 31 is SP but in ``rd`` of SUBS."""
    return _ADD_IMM[op] | wide << 31 | shifted << 22 | value << 10 | rn << 5 | rd


@cache
def bitmask(value: int, bits: int) -> int | None:
    """The fields N, immr and imms of a logical immediate, in place; None where there is none for the value.

    What there is: a run of ones, rotated within an element of 2, 4 .. 64 bits that is repeated.
    """
    mask = (1 << bits) - 1
    value &= mask
    if value in (0, mask):
        return None
    size = bits
    while size > 2:
        half = size // 2
        if value & (1 << half) - 1 != value >> half & (1 << half) - 1:
            break
        size = half
    element = (1 << size) - 1
    value &= element
    ones = value.bit_count()
    run = (1 << ones) - 1
    for rotation in range(size):
        if (run >> rotation | run << size - rotation) & element == value:
            imms = (0x3F & ~(2 * size - 1) | ones - 1) & 0x3F
            return (size == 64) << 22 | rotation << 16 | imms << 10
    return None


def logical_imm(op: int, rd: int, rn: int, fields: int, wide: bool = True) -> int:
    """AND, ORR, EOR or ANDS of an immediate that `bitmask` knows."""
    return _LOGICAL_IMM[op] | wide << 31 | fields | rn << 5 | rd


def mov_imm(rd: int, value: int) -> list[int]:
    """The shortest load of 64 bits."""
    value &= 0xFFFFFFFFFFFFFFFF
    if value <= 0xFFFF:
        return [0xD2800000 | value << 5 | rd]
    parts = [value >> 16 * at & 0xFFFF for at in range(4)]
    inverted = parts.count(0xFFFF) > parts.count(0)
    if not inverted or parts.count(0xFFFF) < 3:
        fields = bitmask(value, 64)
        if fields is not None and parts.count(0) < 3:
            return [logical_imm(ORR, rd, ZERO, fields)]
    spare = 0xFFFF if inverted else 0
    words: list[int] = []
    for at, part in enumerate(parts):
        if part != spare:
            if words:
                words.append(0xF2800000 | at << 21 | part << 5 | rd)  # movk
            elif inverted:
                words.append(0x92800000 | at << 21 | (part ^ 0xFFFF) << 5 | rd)  # movn
            else:
                words.append(0xD2800000 | at << 21 | part << 5 | rd)  # movz
    return words or [0x92800000 | rd]


def load(size: int, signed: bool, rt: int, rn: int, rm: int, scaled: bool = False) -> int:
    """``ldr rt, [rn, rm]``, `signed` to 64 bits; `scaled`: rm counts values."""
    return _SCALE[size] << 30 | (0x38A06800 if signed else 0x38606800) | scaled << 12 | rm << 16 | rn << 5 | rt


def store(size: int, rt: int, rn: int, rm: int) -> int:
    """``str rt, [rn, rm]``."""
    return _SCALE[size] << 30 | 0x38206800 | rm << 16 | rn << 5 | rt


def load_near(size: int, signed: bool, rt: int, rn: int, offset: int) -> int:
    """``ldur rt, [rn, offset]``, from -256 to 255, `signed` to 64 bits."""
    return _SCALE[size] << 30 | (0x38800000 if signed else 0x38400000) | (offset & 511) << 12 | rn << 5 | rt


def store_near(size: int, rt: int, rn: int, offset: int) -> int:
    """``stur rt, [rn, offset]``, from -256 to 255."""
    return _SCALE[size] << 30 | 0x38000000 | (offset & 511) << 12 | rn << 5 | rt


def load_at(rt: int, rn: int, index: int) -> int:
    """``ldr rt, [rn, 8 * index]`` of 64 bits, index 0 to 4095."""
    return 0xF9400000 | index << 10 | rn << 5 | rt


def store_at(rt: int, rn: int, index: int) -> int:
    """``str rt, [rn, 8 * index]`` of 64 bits."""
    return 0xF9000000 | index << 10 | rn << 5 | rt


def pair(op: str, rt: int, rt2: int, index: int) -> int:
    """``stp`` or ``ldp`` of 64 bits at [sp, 8 * index]; ``push``: sp goes there before, ``pop``: after it."""
    kind = {"stp": 0xA9000000, "ldp": 0xA9400000, "push": 0xA9800000, "pop": 0xA8C00000}[op]
    return kind | (index & 127) << 15 | rt2 << 10 | SP << 5 | rt


def push(rt: int) -> int:
    """``str rt, [sp, -16]!``."""
    return 0xF81F0C00 | SP << 5 | rt


def pop(rt: int) -> int:
    """``ldr rt, [sp], 16``."""
    return 0xF8410400 | SP << 5 | rt


def branch_if(condition: int) -> int:
    """``b.cond``, whose target is filled in by `aimed`."""
    return 0x54000000 | condition


def cbz(register: int, wide: bool = True) -> int:
    """``cbz``, whose target is filled in by `aimed`."""
    return CBZ | wide << 31 | register


def cbnz(register: int, wide: bool = True) -> int:
    """``cbnz``, whose target is filled in by `aimed`."""
    return CBNZ | wide << 31 | register


def opposite(word: int) -> int:
    """The branch that is taken where this conditional one is not."""
    return word ^ (1 if word & 0xFF000000 == 0x54000000 else 1 << 24)


def aimed(word: int, distance: int) -> int:
    """A branch with its target so many instructions away. Raises OverflowError where that is too far."""
    if word & 0x7C000000 == B:
        if not -(1 << 25) <= distance < 1 << 25:
            raise OverflowError(distance)
        return word | distance & 0x3FFFFFF
    if not -(1 << 18) <= distance < 1 << 18:
        raise OverflowError(distance)
    return word | (distance & 0x7FFFF) << 5


def br(register: int) -> int:
    """Jump to an address."""
    return 0xD61F0000 | register << 5


def blr(register: int) -> int:
    """Call an address."""
    return 0xD63F0000 | register << 5


def clean_data(register: int) -> int:
    """``dc cvau``: what was written to the line at an address goes to where instructions are read from."""
    return 0xD50B7B20 | register


def forget_instructions(register: int) -> int:
    """``ic ivau``: instructions of the line at an address are read anew."""
    return 0xD50B7520 | register


_SCALE = {1: 0, 2: 1, 4: 2, 8: 3}
