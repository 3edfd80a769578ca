"""`Code`: instructions ready to be checked and translated, with their functions."""

from __future__ import annotations

import struct
from typing import NamedTuple

from bpf2py.isa.opcodes import (
    BPF_CALL,
    BPF_EXIT,
    BPF_JA,
    BPF_JMP,
    BPF_JMP32,
    BPF_PSEUDO_CALL,
    BPF_PSEUDO_FUNC,
    CALL,
    LD_IMM64,
)

__all__ = [
    "MAX_LOOPS",
    "MAX_TAIL_CALLS",
    "SKB_DATA",
    "SKB_DATA_END",
    "Code",
    "Function",
    "Op",
    "SourceLine",
    "Target",
    "is_jump",
    "jump_target",
]

_SLOT = struct.Struct("<BBhi")
MAX_LOOPS = 8 * 1024 * 1024  # BPF_MAX_LOOPS of include/linux/bpf.h
MAX_TAIL_CALLS = 33  # MAX_TAIL_CALL_CNT
SKB_DATA, SKB_DATA_END = 76, 80  # offsets in struct __sk_buff of include/uapi/linux/bpf.h


class Op(NamedTuple):
    """One instruction; of a 64-bit load `imm` is all 64 bits, unsigned, and `src` its pseudo kind."""

    opcode: int
    dst: int
    src: int
    offset: int
    imm: int


class SourceLine(NamedTuple):
    """From `slot` on, instructions come from this line."""

    slot: int
    file: str
    line: int


class Target(NamedTuple):
    """What a helper call is: filled in when the program is placed.

    Attributes:
        kind: ``"native"`` (a function of the engine's library), ``"quick"`` (one that leaves to the Python callback what is not
            usual), ``"python"`` (a Python callback) or ``"inline"``.
        name: the library function's or helper's name.
        number: the helper's number, for callbacks.
        pointers: registers (1..5) that must hold public addresses.
        map: whether R1 must be checked to be a map.
        array: (address of the elements, bytes between them, their number) of the array R1 is.
        key: where the key is on the stack, from R10, where that is known.
        slot: bytes from one CPU's value to the next where that array has one for each, else 0.
    """

    kind: str
    name: str
    number: int = 0
    pointers: tuple[int, ...] = ()
    map: int = 0
    array: tuple[int, int, int] = (0, 0, 0)
    key: int = 0
    slot: int = 0


class Function:
    """One function of a program.

    Attributes:
        name: for messages.
        start, end: slots it takes, `end` exclusive.
        frame: bytes of its stack frame, a multiple of 16.
        may_lack_result: whether it may return without a result, as static functions in C do that return nothing.
        number: what callers of its address know it by (`Memory` FUNCTIONS + number), assigned when it is made runnable.
    """

    __slots__ = ("end", "frame", "may_lack_result", "name", "number", "start")

    def __init__(self, name: str, start: int, end: int) -> None:
        self.name = name
        self.start = start
        self.end = end
        self.frame = 0
        self.number = -1
        self.may_lack_result = False


class Code:
    """A program's instructions.

    Attributes:
        name: of the program.
        ops: one per slot; None for the second slot of a 64-bit load.
        functions: in order; the first is where the program starts.
        helpers: what each call of a helper leads to, by slot.
        probe_reads: loads from bad addresses give 0, as where the kernel follows typed pointers.
        trusted: part of the engine, which may use private memory.
        lines: where instructions come from, for translations that debuggers look at.
    """

    __slots__ = ("functions", "helpers", "lines", "name", "ops", "probe_reads", "trusted", "values")

    def __init__(self, name: str, ops: list[Op | None], functions: list[Function]) -> None:
        self.name = name
        self.ops = ops
        self.functions = functions
        self.helpers: dict[int, Target] = {}
        self.probe_reads = False
        self.trusted = False
        self.lines: list[SourceLine] = []

    @classmethod
    def decode(cls, name: str, code: bytes | bytearray, starts: list[tuple[int, str]]) -> Code:
        """From bytes and (byte offset, name) of each function."""
        ops: list[Op | None] = []
        pending = False
        for opcode, registers, offset, imm in _SLOT.iter_unpack(code):
            if pending:
                last = ops[-1]
                assert last is not None
                ops[-1] = last._replace(imm=(last.imm & 0xFFFFFFFF) | (imm & 0xFFFFFFFF) << 32)
                ops.append(None)
                pending = False
                continue
            ops.append(tuple.__new__(Op, (opcode, registers & 15, registers >> 4, offset, imm)))
            pending = opcode == LD_IMM64
        bounds = [offset // 8 for offset, _ in starts] + [len(ops)]
        functions = [Function(starts[i][1], bounds[i], bounds[i + 1]) for i in range(len(starts))]
        return cls(name, ops, functions)

    def function_at(self, slot: int) -> Function | None:
        """The function that starts at a slot."""
        for function in self.functions:
            if function.start == slot:
                return function
        return None

    def function_of(self, slot: int) -> Function:
        """The function a slot belongs to."""
        for function in self.functions:
            if function.start <= slot < function.end:
                return function
        raise IndexError(slot)

    def targets(self, function: Function) -> tuple[set[int], dict[int, int]]:
        """(slots jumped to, cost of each loop by the slot it comes back to)."""
        targets: set[int] = set()
        loops: dict[int, int] = {}
        for slot in range(function.start, function.end):
            op = self.ops[slot]
            if op is None or not is_jump(op):
                continue
            target = jump_target(op, slot)
            targets.add(target)
            if target <= slot:
                loops[target] = max(loops.get(target, 1), slot - target + 1)
        return targets, loops

    def calls(self, function: Function) -> list[tuple[int, int]]:
        """(slot, slot of the callee) of calls and addresses of functions of the same code."""
        found = []
        for slot in range(function.start, function.end):
            op = self.ops[slot]
            if op is None:
                continue
            if op.opcode == CALL and op.src == BPF_PSEUDO_CALL:
                found.append((slot, slot + 1 + op.imm))
        return found


def is_function_address(op: Op) -> bool:
    """Whether this loads the address of a function of the same code."""
    return op.opcode == LD_IMM64 and op.src == BPF_PSEUDO_FUNC


def function_address(op: Op, slot: int) -> int:
    """The slot of the function such an instruction names."""
    return slot + 1 + (op.imm & 0xFFFFFFFF ^ 1 << 31) - (1 << 31)


def is_jump(op: Op) -> bool:
    """Whether this is a jump within the function."""
    kind = op.opcode & 7
    return kind in (BPF_JMP, BPF_JMP32) and op.opcode & 0xF0 not in (BPF_CALL, BPF_EXIT)


def jump_target(op: Op, slot: int) -> int:
    """The slot a jump leads to."""
    if op.opcode == BPF_JMP32 | BPF_JA:
        return slot + 1 + op.imm
    return slot + 1 + op.offset
