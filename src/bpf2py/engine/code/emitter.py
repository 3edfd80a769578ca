"""What emitters of machine code have in common: they go through a program's functions, instruction after instruction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence, Sized
from typing import ClassVar

from bpf2py.engine.code.code import Code, Function, Op, Target, function_address, is_jump
from bpf2py.engine.code.layout import Layout
from bpf2py.engine.code.straight import SIZES, straight_pieces
from bpf2py.engine.memory import FUNCTIONS, PUBLIC
from bpf2py.isa import opcodes as isa

__all__ = ["SIZES", "Emitter"]


class Emitter(ABC):
    """Emits one program's code, or one library function's.

    Attributes:
        out: the code so far; places in it are counted as it counts.
        low: the lowest address the code may use.
        places: where each instruction starts, by slot.
        entries: where each function starts, by slot.
        jumps: branches to instructions: (place, slot). A jump to a function's first one goes past its prologue.
        calls: branches to functions: (place, slot of the first instruction).
        loops: whether the function has may_goto.
        tested: whether the accesses that are emitted were tested before.
        registers: the processor's registers that hold BPF's.
    """

    out: Sized
    registers: ClassVar[Sequence[int]]

    def __init__(self, code: Code, layout: Layout, resolve: dict[str, int], library: dict[str, int], unit: int) -> None:
        self.code = code
        self.layout = layout
        self.resolve = resolve
        self.library = library
        self.unit = unit
        self.low = 0 if code.trusted else PUBLIC
        self.places: list[int] = [0] * (len(code.ops) + 1)
        self.jumps: list[tuple[int, int]] = []
        self.calls: list[tuple[int, int]] = []
        self.entries: dict[int, int] = {}
        self.loops = False
        self.tested = False
        self.function: Function = code.functions[0]

    def run(self) -> None:
        """Emit everything."""
        for function in self.code.functions:
            self.function = function
            self.align()
            self.entries[function.start] = len(self.out)
            ops = [op for op in self.code.ops[function.start : function.end] if op is not None]
            self.loops = any(op.opcode & 0xF7 == isa.BPF_JMP | isa.BPF_JCOND and is_jump(op) for op in ops)
            written = {op.dst for op in ops} | {
                op.src for op in ops if op.opcode & 0xE7 == isa.BPF_STX | isa.BPF_ATOMIC
            }
            self.prologue(function, [register for register in (6, 7, 8, 9) if register in written])
            self._body(function)
        self.finish()

    def _body(self, function: Function) -> None:
        out, ops, places = self.out, self.code.ops, self.places
        targets, loops = self.code.targets(function)
        classes = (None, self.load, self.store_imm, self._stx, self.alu, None, None, self.alu)
        pieces = straight_pieces(self.code, function, targets, self.low, self.layout.size)
        again: list[
            tuple[list[int], int, int]
        ] = []  # (branches to it, first slot, end) of a piece with a test for each access
        end = -1
        for slot in range(function.start, function.end):
            places[slot] = len(out)
            op = ops[slot]
            if op is None:
                continue
            if slot >= end:
                self.tested = False
            cost = loops.get(slot)
            if cost is not None:
                self.pay(cost, slot)
            piece = pieces.get(slot)
            if piece is not None:
                end, bounds = piece
                branches = [self.leave_unless(base, *where) for base, where in bounds.items()]
                if self.code.trusted:  # that has no effects which must come before the fault
                    for place in branches:
                        self.fault_from(place, slot)
                elif branches:
                    again.append((branches, slot, end))
                self.tested = True
            kind = op.opcode & 7
            handler = classes[kind]
            if handler is not None:
                handler(op, slot)
            elif op.opcode == isa.LD_IMM64:
                self.move(op.dst, self._constant(op, slot))
            elif op.opcode == isa.CALLX:
                self.call_number(op.dst if op.dst else op.imm & 15, slot)
            elif op.opcode == isa.CALL:
                if op.src == isa.BPF_PSEUDO_CALL:
                    self.call_function(slot + 1 + op.imm)
                else:
                    self.helper(self.code.helpers[slot], slot)
            elif op.opcode == isa.EXIT:
                self.leave_function()
            elif kind == isa.BPF_LD:
                self.legacy_load(op, slot)
            else:
                self.jump(op, slot)
        places[function.end] = len(out)
        self.tested = False
        for branches, first, end in again:
            for place in branches:
                self.lead_here(place)
            for slot in range(first, end):
                op = ops[slot]
                if op is None:
                    continue
                handler = classes[op.opcode & 7]
                if handler is not None:
                    handler(op, slot)
                else:
                    self.move(op.dst, self._constant(op, slot))
            self.jump_to(end)

    def _stx(self, op: Op, slot: int) -> None:
        if op.opcode & 0xE0 == isa.BPF_ATOMIC:
            self.atomic(op, slot)
        else:
            self.store(op, slot)

    def _constant(self, op: Op, slot: int) -> int:
        if op.src != isa.BPF_PSEUDO_FUNC:
            return op.imm
        callee = self.code.function_at(function_address(op, slot))
        assert callee is not None
        return FUNCTIONS + callee.number

    def targets(self) -> Iterator[tuple[int, int]]:
        """(place of each branch within the code, the place it leads to)."""
        for place, slot in self.jumps:
            yield place, self.places[slot]
        for place, slot in self.calls:
            yield place, self.entries[slot]

    # -- functions -----------------------------------------------------------------------------------------------

    @abstractmethod
    def align(self) -> None:
        """Fill up to where a function may start."""

    @abstractmethod
    def prologue(self, function: Function, saved: list[int]) -> None:
        """Enter a function that changes some of R6..R9, and see that there is stack left."""

    @abstractmethod
    def leave_function(self) -> None:
        """Return."""

    @abstractmethod
    def finish(self) -> None:
        """After the last function: what branches lead to."""

    # -- instructions --------------------------------------------------------------------------------------------

    @abstractmethod
    def leave_unless(self, base: int, first: int, end: int) -> int:
        """Branch unless all bytes from offset `first` up to `end` from a BPF register are memory: the branch's place."""

    @abstractmethod
    def fault_from(self, place: int, slot: int) -> None:
        """Let a branch of `leave_unless` end the program, as a bad access at an instruction does."""

    @abstractmethod
    def lead_here(self, place: int) -> None:
        """Let a branch of `leave_unless` lead to what is emitted next."""

    @abstractmethod
    def jump_to(self, slot: int) -> None:
        """Go on at an instruction."""

    @abstractmethod
    def pay(self, cost: int, slot: int) -> None:
        """Take the cost of a loop from the fuel."""

    @abstractmethod
    def move(self, register: int, value: int) -> None:
        """Put 64 bits into a register."""

    def alu(self, op: Op, slot: int) -> None:
        """BPF_ALU and BPF_ALU64."""
        wide, operation, dst = op.opcode & 7 == isa.BPF_ALU64, op.opcode & 0xF0, self.registers[op.dst]
        if operation == isa.BPF_END:
            self.end(dst, op.imm, wide or bool(op.opcode & isa.BPF_X))
        elif operation == isa.BPF_NEG:
            self.negate(dst, wide)
        else:
            self.arithmetic(op, operation, dst, wide)

    @abstractmethod
    def end(self, dst: int, bits: int, swap: bool) -> None:
        """Change the byte order of a register's low bits, or just keep these."""

    @abstractmethod
    def negate(self, dst: int, wide: bool) -> None:
        """BPF_NEG."""

    @abstractmethod
    def arithmetic(self, op: Op, operation: int, dst: int, wide: bool) -> None:
        """The operations of two operands, of a register and a register or a constant."""

    @abstractmethod
    def jump(self, op: Op, slot: int) -> None:
        """A jump within the function."""

    @abstractmethod
    def load(self, op: Op, slot: int) -> None:
        """BPF_LDX."""

    @abstractmethod
    def store(self, op: Op, slot: int) -> None:
        """BPF_STX."""

    @abstractmethod
    def store_imm(self, op: Op, slot: int) -> None:
        """BPF_ST."""

    @abstractmethod
    def atomic(self, op: Op, slot: int) -> None:
        """BPF_STX with BPF_ATOMIC."""

    @abstractmethod
    def legacy_load(self, op: Op, slot: int) -> None:
        """BPF_ABS and BPF_IND."""

    @abstractmethod
    def call_function(self, slot: int) -> None:
        """Call a function of the same code."""

    @abstractmethod
    def call_number(self, register: int, slot: int) -> None:
        """Call the function whose address, as programs see it, a register holds."""

    @abstractmethod
    def helper(self, target: Target, slot: int) -> None:
        """Call a helper."""
