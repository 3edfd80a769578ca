"""Arithmetic on numbers the check knows: what an instruction makes of them, and whether a jump is taken."""

from __future__ import annotations

from collections.abc import Callable

from bpf2py.engine.code.code import Op
from bpf2py.isa import opcodes as isa

__all__ = ["calculate", "compare"]

_ALU: dict[int, Callable[[int, int, int], int]] = {
    isa.BPF_ADD: lambda a, b, _: a + b,
    isa.BPF_SUB: lambda a, b, _: a - b,
    isa.BPF_MUL: lambda a, b, _: a * b,
    isa.BPF_OR: lambda a, b, _: a | b,
    isa.BPF_AND: lambda a, b, _: a & b,
    isa.BPF_XOR: lambda a, b, _: a ^ b,
    isa.BPF_LSH: lambda a, b, bits: a << (b & (bits - 1)),
    isa.BPF_RSH: lambda a, b, bits: a >> (b & (bits - 1)),
    isa.BPF_ARSH: lambda a, b, bits: _signed(a, bits) >> (b & (bits - 1)),
}
_COMPARE: dict[int, Callable[[int, int, int], bool]] = {
    isa.BPF_JEQ: lambda a, b, _: a == b,
    isa.BPF_JNE: lambda a, b, _: a != b,
    isa.BPF_JGT: lambda a, b, _: a > b,
    isa.BPF_JGE: lambda a, b, _: a >= b,
    isa.BPF_JLT: lambda a, b, _: a < b,
    isa.BPF_JLE: lambda a, b, _: a <= b,
    isa.BPF_JSET: lambda a, b, _: bool(a & b),
    isa.BPF_JSGT: lambda a, b, bits: _signed(a, bits) > _signed(b, bits),
    isa.BPF_JSGE: lambda a, b, bits: _signed(a, bits) >= _signed(b, bits),
    isa.BPF_JSLT: lambda a, b, bits: _signed(a, bits) < _signed(b, bits),
    isa.BPF_JSLE: lambda a, b, bits: _signed(a, bits) <= _signed(b, bits),
}


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def calculate(op: Op, value: int, operand: int) -> int | None:
    """The number an ALU instruction leaves in its register, signed where it has 64 bits; None for rarer operations."""
    bits = 64 if op.opcode & 7 == isa.BPF_ALU64 else 32
    operation = op.opcode & 0xF0
    mask = (1 << bits) - 1
    if operation == isa.BPF_MOV:
        if op.offset == isa.ADDR_SPACE_CAST:
            return None
        result = _signed(operand, op.offset) if op.offset > 1 else operand
    elif operation in _ALU and not op.offset:
        result = _ALU[operation](value & mask, operand & mask, bits)
    else:
        return None
    return _signed(result, 64) if bits == 64 else result & mask


def compare(op: Op, value: int, operand: int) -> bool | None:
    """Whether a conditional jump is taken; None for what is not one."""
    bits = 64 if op.opcode & 7 == isa.BPF_JMP else 32
    mask = (1 << bits) - 1
    function = _COMPARE.get(op.opcode & 0xF0)
    return function(value & mask, operand & mask, bits) if function is not None else None
