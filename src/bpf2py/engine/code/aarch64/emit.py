"""eBPF to A64 machine code, in one pass.

Registers: R0 is x7 and R1..R5 are x0..x4, so that calls of helpers in Python need no moves; R6..R9 are x19..x22, which calls
preserve; R10 is x23, which holds the frame's place in the process, while programs see the address in the engine's memory. x24
holds the memory's base, x25 the fuel, x28 where the control numbers are, x26 the lowest public address, and x8, x12..x15 and x27
the highest offsets from there (see `runtime`). x9..x11, x16 and x17 are free. x29 stays the frame of the C function below.

Each access compares its address with the memory's bounds and leaves the code when it lies outside. Accesses through R10 need no
test, the check has seen their offsets. Nothing runs at the same time, so that atomic operations are loads and stores: those with
exclusive access or acquire semantics would end the process at an address that is not aligned.

Source of facts: Arm Architecture Reference Manual for A-profile; RFC 9669.
"""

from __future__ import annotations

from bpf2py.engine.code import emitter
from bpf2py.engine.code.aarch64.encode import (
    ADD,
    AND,
    ANDS,
    ASR,
    BASE,
    BL,
    CONTROLS,
    EOR,
    EQ,
    FRAME,
    FUEL,
    GE,
    GT,
    HI,
    HS,
    LE,
    LINK,
    LO,
    LS,
    LSL,
    LSR,
    LT,
    NE,
    NOP,
    ORR,
    PUBLIC_START,
    REGISTER,
    RET,
    SDIV,
    SP,
    SUB,
    SUBS,
    UDIV,
    ZERO,
    B,
    add_imm,
    aimed,
    bitmask,
    blr,
    br,
    branch_if,
    cbnz,
    cbz,
    load,
    load_at,
    load_near,
    logical_imm,
    mov,
    mov_imm,
    msub,
    mul,
    opposite,
    pair,
    pop,
    push,
    rev,
    rrr,
    sbfm,
    shift_imm,
    store,
    store_at,
    store_near,
    ubfm,
)
from bpf2py.engine.code.aarch64.inline import INLINE, array_lookup, legacy_load
from bpf2py.engine.code.aarch64.runtime import FUNCTION, LIMIT, TRUSTED_LIMIT, code_of
from bpf2py.engine.code.code import MAX_LOOPS, Code, Function, Op, Target, jump_target
from bpf2py.engine.code.control import Fault, Slot
from bpf2py.engine.code.emitter import SIZES
from bpf2py.engine.code.layout import Layout
from bpf2py.engine.memory import CONTROL, FUNCTIONS, PUBLIC
from bpf2py.errors import EncodeError
from bpf2py.isa import opcodes as isa

__all__ = ["emit"]

_ARITHMETIC = {isa.BPF_ADD: ADD, isa.BPF_SUB: SUB, isa.BPF_OR: ORR, isa.BPF_AND: AND, isa.BPF_XOR: EOR}
_SHIFT = {isa.BPF_LSH: LSL, isa.BPF_RSH: LSR, isa.BPF_ARSH: ASR}
_CONDITION = {
    isa.BPF_JEQ: EQ, isa.BPF_JNE: NE, isa.BPF_JGT: HI, isa.BPF_JGE: HS, isa.BPF_JLT: LO, isa.BPF_JLE: LS,
    isa.BPF_JSGT: GT, isa.BPF_JSGE: GE, isa.BPF_JSLT: LT, isa.BPF_JSLE: LE, isa.BPF_JSET: NE,
}  # fmt: skip
_COUNT = 17  # the register may_goto's turns are counted in; where there are some they are kept like one of R6..R9
_NOTED, _WHY, _WHERE = 10, 11, 16  # the address, the fault and the instruction, on the way out


class Emitter(emitter.Emitter):
    """Emits A64; places count instructions.

    Args:
        far: branches may be farther than a conditional one reaches: each goes around an unconditional one.
    """

    out: list[int]
    registers = REGISTER

    def __init__(
        self, code: Code, layout: Layout, resolve: dict[str, int], library: dict[str, int], unit: int, far: bool
    ) -> None:
        super().__init__(code, layout, resolve, library, unit)
        self.out = []
        self.far = far
        # (place of the branch, fault, slot, register with the address, what is added to it)
        self.faults: list[tuple[int, int, int, int, int]] = []
        self.skips: list[tuple[int, int, int]] = []  # (place of the branch, register to clear, where to go on)
        self.kept: list[int] = []

    # -- pieces --------------------------------------------------------------------------------------------------

    def branch(self, word: int) -> int:
        """A conditional branch: its place, to be aimed later."""
        if self.far:
            self.out += [aimed(opposite(word), 2), B]
        else:
            self.out.append(word)
        return len(self.out) - 1

    def aim(self, place: int, target: int) -> None:
        """Fill in where a branch leads to."""
        self.out[place] = aimed(self.out[place], target - place)

    def fault_if(self, word: int, fault: int, slot: int, address: int = ZERO, start: int = 0) -> None:
        """Leave the program where a branch is taken; the address is that of a register, counted from `start`."""
        self.faults.append((self.branch(word), fault, slot, address, start))

    def operand(self, register: int) -> int:
        """A register to read a BPF register from: R10's value is made in x9."""
        if register != 10:
            return REGISTER[register]
        self.out.append(rrr(SUB, 9, FRAME, BASE))
        return 9

    def add(self, rd: int, rn: int, value: int, wide: bool = True) -> None:
        """``rd = rn + value``; x17 may be used."""
        op = ADD if value >= 0 else SUB
        size = abs(value)
        if size < 1 << 12:
            self.out.append(add_imm(op, rd, rn, size, wide))
        elif size < 1 << 24:
            self.out.append(add_imm(op, rd, rn, size >> 12, wide, shifted=True))
            if size & 4095:
                self.out.append(add_imm(op, rd, rd, size & 4095, wide))
        else:
            self.out += mov_imm(17, value if wide else value & 0xFFFFFFFF)
            self.out.append(rrr(ADD, rd, rn, 17, wide))

    def compare(self, register: int, value: int, wide: bool = True) -> None:
        """With a signed number; x17 may be used."""
        if 0 <= value < 1 << 12:
            self.out.append(add_imm(SUBS, ZERO, register, value, wide))
        else:
            self.out += mov_imm(17, value if wide else value & 0xFFFFFFFF)
            self.out.append(rrr(SUBS, ZERO, register, 17, wide))

    def call_library(self, name: str) -> None:
        """Call a function of the library through its control number; `first_call` of `runtime` looks at the load."""
        self.out += [load_at(FUNCTION, CONTROLS, self.library[name]), blr(FUNCTION)]

    def load_entry(self, number: int) -> None:
        """The address of a function by the register with its number, for a call or jump."""
        self.out.append(add_imm(SUB, 11, CONTROLS, -CONTROL - self.layout.table >> 12, shifted=True))
        self.out.append(load(8, False, FUNCTION, 11, number, scaled=True))

    # -- arithmetic ----------------------------------------------------------------------------------------------

    def pay(self, cost: int, slot: int) -> None:
        if cost < 1 << 12:
            self.out.append(add_imm(SUBS, FUEL, FUEL, cost))
        else:
            self.out += [*mov_imm(17, cost), rrr(SUBS, FUEL, FUEL, 17)]
        self.fault_if(branch_if(LO), Fault.FUEL, slot)

    def move(self, register: int, value: int) -> None:
        self.out += mov_imm(REGISTER[register], value)

    def negate(self, dst: int, wide: bool) -> None:
        self.out.append(rrr(SUB, dst, ZERO, dst, wide))

    def arithmetic(self, op: Op, operation: int, dst: int, wide: bool) -> None:
        out, offset, imm = self.out, op.offset, op.imm
        by_register = bool(op.opcode & isa.BPF_X)
        if operation == isa.BPF_MOV:
            if by_register:
                self.move_register(dst, self.operand(op.src), offset, imm, wide)
            else:
                out += mov_imm(dst, imm if wide else imm & 0xFFFFFFFF)
        elif by_register:
            self.binary(operation, dst, self.operand(op.src), offset == 1, wide)
        elif operation in _SHIFT:
            out.append(shift_imm(_SHIFT[operation], dst, dst, imm & (63 if wide else 31), wide))
        elif operation in (isa.BPF_ADD, isa.BPF_SUB):
            self.add(dst, dst, imm if operation == isa.BPF_ADD else -imm, wide)
        else:
            fields = bitmask(imm, 64 if wide else 32) if operation in _ARITHMETIC else None
            if fields is not None:
                out.append(logical_imm(_ARITHMETIC[operation], dst, dst, fields, wide))
            else:
                out += mov_imm(9, imm if wide else imm & 0xFFFFFFFF)
                self.binary(operation, dst, 9, offset == 1, wide)

    def binary(self, operation: int, dst: int, src: int, signed: bool, wide: bool) -> None:
        """Division by 0 gives 0, and the smallest number by -1 itself, as BPF wants it."""
        out = self.out
        if operation in _ARITHMETIC:
            out.append(rrr(_ARITHMETIC[operation], dst, dst, src, wide))
        elif operation in _SHIFT:
            out.append(rrr(_SHIFT[operation], dst, dst, src, wide))
        elif operation == isa.BPF_MUL:
            out.append(mul(dst, dst, src, wide))
        else:
            divide = SDIV if signed else UDIV
            if operation == isa.BPF_DIV:
                out.append(rrr(divide, dst, dst, src, wide))
            else:
                out += [rrr(divide, 10, dst, src, wide), msub(dst, 10, src, dst, wide)]

    def move_register(self, dst: int, src: int, offset: int, imm: int, wide: bool) -> None:
        out = self.out
        if offset == isa.ADDR_SPACE_CAST:
            out.append(mov(dst, src, False))
            if imm == isa.CAST_USER:  # null stays null
                out += [aimed(cbz(dst), 2), rrr(ADD, dst, dst, BASE)]
        elif offset:
            out.append(sbfm(dst, src, 0, offset - 1, wide))
        elif not wide or src != dst:
            out.append(mov(dst, src, wide))

    def end(self, dst: int, bits: int, swap: bool) -> None:
        out = self.out
        if swap:
            out.append(rev(dst, dst, bits))
        if bits == 16:
            out.append(ubfm(dst, dst, 0, 15, False))
        elif bits == 32 and not swap:
            out.append(mov(dst, dst, False))

    # -- jumps ---------------------------------------------------------------------------------------------------

    def jump(self, op: Op, slot: int) -> None:
        out = self.out
        kind = op.opcode & 0xF0
        target = jump_target(op, slot)
        if kind == isa.BPF_JA:
            if target != slot + 1:
                self.jumps.append((len(out), target))
                out.append(B)
            return
        if kind == isa.BPF_JCOND:
            turns = len(self.kept) - 1
            out.append(load_at(9, SP, turns))
            self.jumps.append((self.branch(cbz(9)), target))
            out += [add_imm(SUB, 9, 9, 1), store_at(9, SP, turns)]
            return
        wide = op.opcode & 7 == isa.BPF_JMP
        dst = self.operand(op.dst)
        word = branch_if(_CONDITION[kind])
        if op.opcode & isa.BPF_X:
            src = self.operand(op.src)
            out.append(rrr(ANDS if kind == isa.BPF_JSET else SUBS, ZERO, dst, src, wide))
        elif kind == isa.BPF_JSET:
            fields = bitmask(op.imm, 64 if wide else 32)
            if fields is not None:
                out.append(logical_imm(ANDS, ZERO, dst, fields, wide))
            else:
                out += [*mov_imm(17, op.imm), rrr(ANDS, ZERO, dst, 17, wide)]
        elif op.imm == 0 and kind in (isa.BPF_JEQ, isa.BPF_JNE):
            word = (cbz if kind == isa.BPF_JEQ else cbnz)(dst, wide)
        else:
            self.compare(dst, op.imm, wide)
        self.jumps.append((self.branch(word), target))

    def leave_unless(self, base: int, first: int, end: int) -> int:
        out, pointer = self.out, REGISTER[base]
        if first:
            self.add(9, pointer, first)
            pointer = 9
        if self.low:
            out.append(rrr(SUB, 9, pointer, PUBLIC_START))
            pointer = 9
        less = end - first - 8
        limit = LIMIT[8] if self.low else TRUSTED_LIMIT[8]
        if less:
            out.append(add_imm(SUB if less > 0 else ADD, 10, limit, abs(less)))
            limit = 10
        out.append(rrr(SUBS, ZERO, pointer, limit))
        return self.branch(branch_if(HI))

    def fault_from(self, place: int, slot: int) -> None:
        self.faults.append((place, Fault.MEMORY, slot, ZERO, 0))

    def lead_here(self, place: int) -> None:
        self.aim(place, len(self.out))

    def jump_to(self, slot: int) -> None:
        self.out.append(B)
        self.jumps.append((len(self.out) - 1, slot))

    # -- memory --------------------------------------------------------------------------------------------------

    def address(self, base: int, offset: int, size: int, slot: int, quiet: int = -1) -> int:
        """The register with the tested address of an access, from `base`, a BPF register other than R10.

        x9 and x10 may be used. Where the code may read any address, a bad one leads on to `quiet`, a register to clear.
        """
        out = self.out
        pointer = REGISTER[base]
        if offset:
            self.add(9, pointer, offset)
            pointer = 9
        if self.tested:
            return pointer
        tested, start = pointer, 0
        if self.low:
            out.append(rrr(SUB, 10, pointer, PUBLIC_START))
            tested, start = 10, PUBLIC
            limit = LIMIT[size]
        elif size in TRUSTED_LIMIT:
            limit = TRUSTED_LIMIT[size]
        else:
            limit = 10
            out.append(add_imm(ADD, limit, TRUSTED_LIMIT[8], 8 - size))
        out.append(rrr(SUBS, ZERO, tested, limit))
        if quiet >= 0 and self.code.probe_reads:
            self.skips.append((self.branch(branch_if(HI)), quiet, len(out) + 1))
        else:
            self.fault_if(branch_if(HI), Fault.MEMORY, slot, tested, start)
        return pointer

    def near(self, offset: int) -> tuple[int, int]:
        """(register, offset) of something in the frame."""
        if offset >= -256:
            return FRAME, offset
        self.add(9, FRAME, offset)
        return 9, 0

    def read(self, size: int, register: int, base: int, offset: int, slot: int, signed: bool = False) -> None:
        """One load; `base` is a BPF register."""
        if base == 10:
            self.out.append(load_near(size, signed, register, *self.near(offset)))
        else:
            index = self.address(base, offset, size, slot, register)
            self.out.append(load(size, signed, register, BASE, index))

    def write(self, size: int, register: int, base: int, offset: int, slot: int) -> None:
        """One store; `base` is a BPF register."""
        if base == 10:
            self.out.append(store_near(size, register, *self.near(offset)))
        else:
            index = self.address(base, offset, size, slot)
            self.out.append(store(size, register, BASE, index))

    def load(self, op: Op, slot: int) -> None:
        signed = op.opcode & 0xE0 == isa.BPF_MEMSX
        self.read(SIZES[op.opcode & 0x18], REGISTER[op.dst], op.src, op.offset, slot, signed)

    def value(self, register: int) -> int:
        """The register with what is stored of a BPF register: R10's value is made in x11."""
        if register != 10:
            return REGISTER[register]
        self.out.append(rrr(SUB, 11, FRAME, BASE))
        return 11

    def store(self, op: Op, slot: int) -> None:
        self.write(SIZES[op.opcode & 0x18], self.value(op.src), op.dst, op.offset, slot)

    def store_imm(self, op: Op, slot: int) -> None:
        size = SIZES[op.opcode & 0x18]
        value = op.imm & (1 << 8 * size) - 1
        if value:
            self.out += mov_imm(11, value)
        self.write(size, 11 if value else ZERO, op.dst, op.offset, slot)

    def atomic(self, op: Op, slot: int) -> None:
        out = self.out
        size = SIZES[op.opcode & 0x18]
        wide = size == 8
        if op.imm == isa.BPF_LOAD_ACQ:
            self.read(size, REGISTER[op.dst], op.src, op.offset, slot)
            return
        src = self.value(op.src)
        if op.imm == isa.BPF_STORE_REL:
            self.write(size, src, op.dst, op.offset, slot)
            return
        if op.dst == 10:
            base, distance = self.near(op.offset)
            take, put = load_near(size, False, 16, base, distance), store_near(size, 0, base, distance)
        else:
            index = self.address(op.dst, op.offset, size, slot)
            take, put = load(size, False, 16, BASE, index), store(size, 0, BASE, index)
        out.append(take)
        if op.imm == isa.BPF_XCHG:
            out += [put | src, mov(src, 16)]
        elif op.imm == isa.BPF_CMPXCHG:
            out += [rrr(SUBS, ZERO, 16, REGISTER[0], wide), aimed(branch_if(NE), 2), put | src, mov(REGISTER[0], 16)]
        else:
            out += [rrr(_ARITHMETIC[op.imm & 0xF0], 17, 16, src, wide), put | 17]
            if op.imm & isa.BPF_FETCH:
                out.append(mov(src, 16))

    def legacy_load(self, op: Op, slot: int) -> None:
        legacy_load(self, op, slot)

    # -- calls ---------------------------------------------------------------------------------------------------

    def enter_frame(self) -> None:
        """Go to the frame of the next function."""
        if self.function.frame:
            self.add(FRAME, FRAME, -self.function.frame)

    def leave_frame(self) -> None:
        """Come back."""
        if self.function.frame:
            self.add(FRAME, FRAME, self.function.frame)

    def call_function(self, slot: int) -> None:
        self.enter_frame()
        self.calls.append((len(self.out), slot))
        self.out.append(BL)
        self.leave_frame()

    def call_number(self, register: int, slot: int) -> None:
        self.function_number(10, REGISTER[register])
        self.fault_if(branch_if(HS), Fault.FUNCTION, slot, 10, FUNCTIONS)
        self.enter_frame()
        self.load_entry(10)
        self.out.append(blr(FUNCTION))
        self.leave_frame()

    def function_number(self, number: int, register: int) -> None:
        """Into a register the number of the function another one holds the address of, compared with how many there are."""
        self.out += [*mov_imm(9, FUNCTIONS), rrr(SUB, number, register, 9)]
        self.out += [load_at(9, CONTROLS, Slot.FUNCTIONS), rrr(SUBS, ZERO, number, 9)]

    def helper(self, target: Target, slot: int) -> None:
        out = self.out
        for register in target.pointers:
            out += [
                rrr(SUB, 10, REGISTER[register], PUBLIC_START),
                add_imm(ADD, 9, LIMIT[8], 8),
                rrr(SUBS, ZERO, 10, 9),
            ]
            self.fault_if(branch_if(HI), Fault.POINTER, slot, 10, PUBLIC)
        if target.map:
            self.check_map(slot)
        if target.kind == "inline":
            if target.array[0]:
                array_lookup(self, target, slot)
            else:
                INLINE[target.name](self, slot)
        elif target.kind != "python":
            if target.kind == "quick":
                self.place(slot)
            self.enter_frame()
            self.call_library(target.name)
            self.leave_frame()
        else:
            if self.code.trusted:  # where the program is was noted by the program
                out.append(store_at(FUEL, CONTROLS, Slot.FUEL))
            else:
                self.place(slot)
            self.enter_frame()
            out += [*mov_imm(5, target.number), *mov_imm(FUNCTION, self.layout.python_helper), blr(FUNCTION)]
            self.leave_frame()

    def place(self, slot: int) -> None:
        """Note where the program is, for what a Python helper raises; the fuel goes to memory."""
        for control, value in ((Slot.PC, slot), (Slot.UNIT, self.unit)):
            self.out += [*mov_imm(9, value), store_at(9, CONTROLS, control)]
        self.out.append(store_at(FUEL, CONTROLS, Slot.FUEL))

    def check_map(self, slot: int) -> None:
        """R1 must be the address of a map's header: a program may have made it up."""
        out = self.out
        low, high = self.resolve["maps"], self.resolve["maps_end"]
        pointer = REGISTER[1]
        self.add(10, pointer, -low)
        self.compare(10, high - low - 256)
        self.fault_if(branch_if(HI), Fault.MAP, slot, pointer)
        fields = bitmask(255, 64)
        assert fields is not None
        out.append(logical_imm(ANDS, ZERO, 10, fields))
        self.fault_if(branch_if(NE), Fault.MAP, slot, pointer)
        out.append(load(4, False, 9, BASE, pointer))  # no map's type is 0
        self.fault_if(cbz(9), Fault.MAP, slot, pointer)

    # -- functions -----------------------------------------------------------------------------------------------

    def align(self) -> None:
        self.out += [NOP] * (-len(self.out) % 4)

    def prologue(self, function: Function, saved: list[int]) -> None:
        out = self.out
        ops = self.code.ops[function.start : function.end]
        calls = any(op is not None and op.opcode in (isa.CALL, isa.CALLX) for op in ops)
        self.kept = [LINK] * calls + [REGISTER[register] for register in saved] + [_COUNT] * self.loops
        if self.loops:
            out += mov_imm(_COUNT, MAX_LOOPS)
        for at in range(0, len(self.kept), 2):
            first, *second = self.kept[at : at + 2]
            if second:
                out.append(pair("stp", first, second[0], at) if at else pair("push", first, second[0], -self._words()))
            else:
                out.append(store_at(first, SP, at) if at else push(first))
        self.add(10, FRAME, -function.frame)
        out += [load_at(9, CONTROLS, Slot.STACK_LOW), rrr(SUBS, ZERO, 10, 9)]
        self.fault_if(branch_if(LO), Fault.STACK, function.start)

    def _words(self) -> int:
        """Of the function's stack in the process, a multiple of 16 bytes."""
        return len(self.kept) + 1 & -2

    def epilogue(self) -> None:
        """Leave the function, but for the return."""
        out = self.out
        for at in reversed(range(0, len(self.kept), 2)):
            first, *second = self.kept[at : at + 2]
            if second:
                out.append(pair("ldp", first, second[0], at) if at else pair("pop", first, second[0], self._words()))
            else:
                out.append(load_at(first, SP, at) if at else pop(first))

    def leave_function(self) -> None:
        self.epilogue()
        self.out.append(RET)

    def finish(self) -> None:
        out = self.out
        for place, target in self.targets():
            self.aim(place, target)
        for place, register, back in self.skips:
            self.aim(place, len(out))
            out.append(mov(register, ZERO))
            out.append(aimed(B, back - len(out)))
        stubs: dict[tuple[int, int, int, int], int] = {}
        ends: dict[int, list[int]] = {}
        for place, fault, slot, address, start in self.faults:
            stub = stubs.get((fault, slot, address, start))
            if stub is None:
                stub = stubs[fault, slot, address, start] = len(out)
                if address != _NOTED:
                    out.append(mov(_NOTED, address))
                out += [*mov_imm(_WHERE, slot), *mov_imm(_WHY, fault)]
                ends.setdefault(start, []).append(len(out))
                out.append(B)
            self.aim(place, stub)
        last = []
        for start, places in ends.items():
            for place in places:
                self.aim(place, len(out))
            if start:
                out += [*mov_imm(9, start), rrr(ADD, _NOTED, _NOTED, 9)]
            last.append(len(out))
            out.append(B)
        for place in last:
            self.aim(place, len(out))
        for control, register in ((Slot.FAULT, _WHY), (Slot.PC, _WHERE), (Slot.ADDRESS, _NOTED)):
            out.append(store_at(register, CONTROLS, control))
        out += [*mov_imm(9, self.unit), store_at(9, CONTROLS, Slot.UNIT)]
        out += [*mov_imm(FUNCTION, self.layout.unwind), br(FUNCTION)]


def emit(
    code: Code, layout: Layout, resolve: dict[str, int], library: dict[str, int], unit: int
) -> tuple[bytes, dict[int, int]]:
    """See `Processor.emit`."""
    for far in (False, True):
        made = Emitter(code, layout, resolve, library, unit, far)
        try:
            made.run()
        except OverflowError:
            continue
        return code_of(made.out), {slot: 4 * place for slot, place in made.entries.items()}
    raise EncodeError(
        f"engine: {code.name} is too large: its machine code takes more than the 128 MiB a branch reaches"
    )
