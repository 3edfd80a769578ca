"""Encodings of the x86-64 instructions the emitter uses.

Source of facts: Intel's Software Developer's Manual, volume 2.
"""

from __future__ import annotations

from functools import cache

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 = range(16)
# Of R0..R10, and those of R6..R9 that calls preserve.
REGISTER = (RAX, RDI, RSI, RDX, RCX, R8, RBX, R13, R14, R15, RBP)
SAVED = {6: RBX, 7: R13, 8: R14, 9: R15}


def i32(value: int) -> bytes:
    """Four bytes."""
    return (value & 0xFFFFFFFF).to_bytes(4, "little")


@cache
def rr(op: int, reg: int, rm: int, wide: bool = True) -> bytes:
    """``op r/m, r`` between registers; an opcode above 255 has two bytes."""
    rex = 0x40 | wide << 3 | (reg >> 3) << 2 | rm >> 3
    head = bytes([rex]) if rex != 0x40 or op == 0x0FB6 or op in (0x88, 0x8A) else b""
    return head + (bytes([op]) if op < 256 else bytes([op >> 8, op & 0xFF])) + bytes([0xC0 | (reg & 7) << 3 | rm & 7])


@cache
def ri(digit: int, rm: int, value: int, wide: bool = True) -> bytes:
    """``add or adc sbb and sub xor cmp`` (digit 0..7) of a register and an immediate."""
    rex = 0x40 | wide << 3 | rm >> 3
    head = bytes([rex]) if rex != 0x40 else b""
    modrm = bytes([0xC0 | digit << 3 | rm & 7])
    if -128 <= value <= 127:
        return head + b"\x83" + modrm + bytes([value & 0xFF])
    return head + b"\x81" + modrm + i32(value)


def mov_imm(reg: int, value: int) -> bytes:
    """The shortest load of 64 bits."""
    value &= 0xFFFFFFFFFFFFFFFF
    if value == 0:
        return rr(0x31, reg, reg, False)
    if value <= 0xFFFFFFFF:
        return (b"\x41" if reg > 7 else b"") + bytes([0xB8 | reg & 7]) + i32(value)
    if value >= 0xFFFFFFFF80000000:
        return bytes([0x48 | reg >> 3, 0xC7, 0xC0 | reg & 7]) + i32(value)
    return bytes([0x48 | reg >> 3, 0xB8 | reg & 7]) + value.to_bytes(8, "little")


@cache
def prefix(op: str, reg: int) -> bytes:
    """The part of a load or store in front of its ModRM byte's addressing, for memory at [r12 + r11 + disp32]."""
    legacy, rex_w, code = _MEMORY[op]
    rex = 0x43 | rex_w << 3 | (reg >> 3) << 2
    return legacy + bytes([rex]) + code + bytes([0x84 | (reg & 7) << 3, 0x1C])


@cache
def base_prefix(op: str, reg: int) -> bytes:
    """The same for memory at [r12 + disp32]."""
    legacy, rex_w, code = _MEMORY[op]
    rex = 0x41 | rex_w << 3 | (reg >> 3) << 2
    return legacy + bytes([rex]) + code + bytes([0x84 | (reg & 7) << 3, 0x24])


@cache
def tested(op: str, reg: int, pointer: int, offset: int) -> bytes:
    """A load or store, but for an immediate it stores, for memory at [r12 + pointer + offset]."""
    legacy, rex_w, code = _MEMORY[op]
    rex = 0x41 | rex_w << 3 | (reg >> 3) << 2 | (pointer >> 3) << 1
    short = -128 <= offset <= 127
    place = bytes([(0x44 if short else 0x84) | (reg & 7) << 3, (pointer & 7) << 3 | 4])
    return legacy + bytes([rex]) + code + place + (bytes([offset & 255]) if short else i32(offset))


@cache
def frame(op: str, reg: int, offset: int) -> bytes:
    """The same for memory at [rbp + offset]."""
    legacy, rex_w, code = _MEMORY[op]
    rex = 0x40 | rex_w << 3 | (reg >> 3) << 2
    short = -128 <= offset <= 127
    place = bytes([(0x45 if short else 0x85) | (reg & 7) << 3])
    return legacy + bytes([rex]) + code + place + (bytes([offset & 255]) if short else i32(offset))


_MEMORY = {
    "ld1": (b"", 0, b"\x0f\xb6"),
    "ld2": (b"", 0, b"\x0f\xb7"),
    "ld4": (b"", 0, b"\x8b"),
    "ld8": (b"", 1, b"\x8b"),
    "lds1": (b"", 1, b"\x0f\xbe"),
    "lds2": (b"", 1, b"\x0f\xbf"),
    "lds4": (b"", 1, b"\x63"),
    "st1": (b"", 0, b"\x88"),
    "st2": (b"\x66", 0, b"\x89"),
    "st4": (b"", 0, b"\x89"),
    "st8": (b"", 1, b"\x89"),
    "imm1": (b"", 0, b"\xc6"),
    "imm2": (b"\x66", 0, b"\xc7"),
    "imm4": (b"", 0, b"\xc7"),
    "imm8": (b"", 1, b"\xc7"),
    "xadd4": (b"", 0, b"\x0f\xc1"),
    "xadd8": (b"", 1, b"\x0f\xc1"),
    "xchg4": (b"", 0, b"\x87"),
    "xchg8": (b"", 1, b"\x87"),
    "cmpxchg4": (b"", 0, b"\x0f\xb1"),
    "cmpxchg8": (b"", 1, b"\x0f\xb1"),
    "add4": (b"", 0, b"\x01"),
    "add8": (b"", 1, b"\x01"),
    "or4": (b"", 0, b"\x09"),
    "or8": (b"", 1, b"\x09"),
    "and4": (b"", 0, b"\x21"),
    "and8": (b"", 1, b"\x21"),
    "xor4": (b"", 0, b"\x31"),
    "xor8": (b"", 1, b"\x31"),
    "sub8i": (b"", 1, b"\x81"),
    "cmp8": (b"", 1, b"\x3b"),
    "lea": (b"", 1, b"\x8d"),
    "call": (b"", 0, b"\xff"),
}
