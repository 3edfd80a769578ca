"""Straight pieces of code of which all accesses to memory can be tested at once.

A piece starts at an access and ends after one; nothing jumps into it or out of it, nothing in it calls. Pointers it uses have
the value they had at its start. So one test for each pointer, of all that is accessed through it, says that every access is
good; where that fails, the same instructions run with a test each, for what is accessed before the bad one has to happen.
An address that is a constant needs no test at all.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from bpf2py.engine.code.code import Code, Function
from bpf2py.isa import opcodes as isa

__all__ = ["SIZES", "Piece", "straight_pieces"]

SIZES = {isa.BPF_B: 1, isa.BPF_H: 2, isa.BPF_W: 4, isa.BPF_DW: 8}
WIDEST = 2048  # bytes one test covers
_MOVE_X = isa.BPF_ALU64 | isa.BPF_MOV | isa.BPF_X
_ADD_K = isa.BPF_ALU64 | isa.BPF_ADD
_ALU, _ACCESS, _CONSTANT, _JUMP, _OTHER = range(5)


def _action(opcode: int) -> int:
    kind = opcode & 7
    if kind in (isa.BPF_ALU, isa.BPF_ALU64):
        return _ALU
    if kind == isa.BPF_LD:
        return _CONSTANT if opcode == isa.LD_IMM64 else _OTHER
    if kind in (isa.BPF_JMP, isa.BPF_JMP32):
        return _OTHER if opcode in (isa.CALL, isa.CALLX) else _JUMP
    return _OTHER if kind == isa.BPF_STX and opcode & 0xE0 == isa.BPF_ATOMIC else _ACCESS


_ACTIONS = bytes(map(_action, range(256)))


class Piece(NamedTuple):
    """Slots whose accesses are tested at once.

    Attributes:
        end: the slot after the last one.
        bounds: (lowest offset, end) of what is accessed, by the pointer's register.
    """

    end: int
    bounds: dict[int, tuple[int, int]]


def straight_pieces(code: Code, function: Function, targets: Collection[int], low: int, size: int) -> dict[int, Piece]:
    """The pieces of a function for which that is worth it, by their first slot.

    Args:
        targets: slots that are jumped to.
        low, size: where the memory starts that the code may use, and where it ends.
    """
    pieces: dict[int, Piece] = {}
    constants: dict[int, int] = {}
    bounds: dict[int, tuple[int, int]] = {}
    written: set[int] = set()
    start, last, accesses = -1, -1, 0

    def close() -> None:
        nonlocal start, bounds, written, accesses
        if accesses > len(bounds):
            pieces[start] = Piece(last + 1, bounds)
        start, accesses, bounds, written = -1, 0, {}, set()

    ops = code.ops
    for slot in range(function.start, function.end):
        op = ops[slot]
        if op is None:
            continue
        opcode, dst, src, offset, imm = op
        if slot in targets:
            close()
            constants.clear()
        action = _ACTIONS[opcode]
        if action == _ALU:
            known = constants.pop(dst, None) if constants else None
            if opcode == _MOVE_X:
                if src in constants and not offset:
                    constants[dst] = constants[src]
            elif known is not None and opcode == _ADD_K:
                constants[dst] = known + imm
            written.add(dst)
        elif action == _ACCESS:
            reads = opcode & 7 == isa.BPF_LDX
            base = src if reads else dst
            if base != 10:
                length = SIZES[opcode & 0x18]
                known = constants.get(base) if constants else None
                if known is None or not low <= known + offset <= size - length:
                    first, end = bounds.get(base, (offset, offset))
                    first, end = min(first, offset), max(end, offset + length)
                    if base in written or end - first > WIDEST:
                        close()
                        first, end = offset, offset + length
                    bounds[base] = first, end
                accesses += 1
                last = slot
                if start < 0:
                    start = slot
                    written = set()
            if reads:
                constants.pop(dst, None)
                written.add(dst)
        elif action == _CONSTANT:
            constants.pop(dst, None)
            if not src:
                constants[dst] = imm
            written.add(dst)
        else:
            if start >= 0:
                close()
            if action != _JUMP:
                constants.clear()
    close()
    return pieces
