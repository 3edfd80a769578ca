"""One BPF instruction, and decoding and encoding of whole programs.

Little-endian only, as on every machine bpf2py runs on: who reads a file refuses the other byte order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from bpf2py._typing import NamedTuple
from bpf2py.errors import ObjectError
from bpf2py.isa.opcodes import LD_IMM64, SLOT_SIZE

__all__ = ["Instruction", "decode", "encode"]

_SLOT = struct.Struct("<BBhi")
_PAIR = struct.Struct("<BBhiIi")


class Instruction(NamedTuple):
    """One instruction: a slot of 8 bytes, or two slots for a load of 64 bits.

    Attributes:
        opcode: 0..255.
        dst: destination register, 0..15 (the verifier allows 0..10).
        src: source register, or the kind of pseudo load or call, 0..15.
        offset: signed 16 bits.
        imm: signed 32 bits.
        next_imm: the second slot's immediate, signed 32 bits; None for all but 64-bit loads.
    """

    opcode: int
    dst: int = 0
    src: int = 0
    offset: int = 0
    imm: int = 0
    next_imm: int | None = None

    @property
    def size(self) -> int:
        """Bytes it takes: 8 or 16."""
        return SLOT_SIZE if self.next_imm is None else 2 * SLOT_SIZE

    @property
    def slots(self) -> int:
        """Slots it takes, which is what jump distances count: 1 or 2."""
        return 1 if self.next_imm is None else 2

    @property
    def imm64(self) -> int:
        """The 64 bits a 64-bit load puts into its register, unsigned; of any other, the sign-extended immediate."""
        low = self.imm & (0xFFFFFFFF if self.next_imm is not None else 0xFFFFFFFFFFFFFFFF)
        return low | ((self.next_imm or 0) & 0xFFFFFFFF) << 32

    @classmethod
    def load_imm64(cls, dst: int, value: int, src: int = 0) -> Instruction:
        """The two-slot load of a 64-bit value, given signed or unsigned.

        >>> Instruction.load_imm64(1, 0x1_0000_0002)
        Instruction(opcode=24, dst=1, src=0, offset=0, imm=2, next_imm=1)
        """
        low, high = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
        return cls(LD_IMM64, dst, src, 0, (low ^ 1 << 31) - (1 << 31), (high ^ 1 << 31) - (1 << 31))

    def encode(self) -> bytes:
        """The 8 or 16 bytes.

        Raises:
            struct.error: a field does not fit.
        """
        if not (0 <= self.dst < 16 and 0 <= self.src < 16):
            raise struct.error(f"registers dst {self.dst}, src {self.src} do not fit into 4 bits")
        if self.next_imm is None:
            return _SLOT.pack(self.opcode, self.dst | self.src << 4, self.offset, self.imm)
        return _PAIR.pack(self.opcode, self.dst | self.src << 4, self.offset, self.imm, 0, self.next_imm)


def decode(code: bytes | bytearray | memoryview) -> list[Instruction]:
    """Every instruction of a program; a 64-bit load is one item. Unknown opcodes are decoded, not judged.

    Raises:
        ObjectError: the length is not a multiple of 8, or a 64-bit load lacks its second half.
    """
    if len(code) % SLOT_SIZE:
        raise ObjectError(f"BPF code of {len(code)} bytes is not a multiple of {SLOT_SIZE}")
    result: list[Instruction] = []
    make = tuple.__new__
    slots = _SLOT.iter_unpack(code)
    for opcode, registers, offset, imm in slots:
        if opcode != LD_IMM64:
            result.append(make(Instruction, (opcode, registers & 15, registers >> 4, offset, imm, None)))
            continue
        second = next(slots, None)
        if second is None or second[:3] != (0, 0, 0):
            position = sum(item.size for item in result)
            raise ObjectError("64-bit load (opcode 0x18) without its second half", offset=position)
        result.append(make(Instruction, (opcode, registers & 15, registers >> 4, offset, imm, second[3])))
    return result


def encode(instructions: Iterable[Instruction]) -> bytes:
    """The bytes of a program.

    Raises:
        struct.error: a field of an instruction does not fit.
    """
    return b"".join([instruction.encode() for instruction in instructions])
