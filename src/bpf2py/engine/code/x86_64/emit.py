"""eBPF to x86-64 machine code, in one pass.

Registers, as the kernel's JIT compiler has them where it can: R0..R5 are rax rdi rsi rdx rcx r8, so that a call needs no moves;
R6..R9 are rbx r13 r14 r15, which calls preserve; R10 is rbp, which holds the frame's place in the process, while programs see
the address in the engine's memory. r12 holds the memory's base, r9 the fuel, r10 and r11 are free.

Each access computes its address into r11, compares it with the memory's bounds and leaves the code when it lies outside.
Accesses through R10 need no test, the check has seen their offsets. Source of facts: Intel's Software Developer's Manual,
volume 2; RFC 9669.
"""

from __future__ import annotations

import struct

from bpf2py.engine.code import emitter
from bpf2py.engine.code.code import MAX_LOOPS, Code, Function, Op, Target, jump_target
from bpf2py.engine.code.control import Fault, Slot
from bpf2py.engine.code.emitter import SIZES
from bpf2py.engine.code.layout import Layout
from bpf2py.engine.code.x86_64.encode import (
    R9,
    R10,
    R11,
    R12,
    RAX,
    RBP,
    RCX,
    RDI,
    RDX,
    REGISTER,
    SAVED,
    base_prefix,
    frame,
    i32,
    mov_imm,
    prefix,
    ri,
    rr,
    tested,
)  # fmt: skip
from bpf2py.engine.code.x86_64.inline import INLINE, array_lookup, legacy_load
from bpf2py.engine.code.x86_64.runtime import control
from bpf2py.engine.memory import FUNCTIONS, PUBLIC
from bpf2py.isa import opcodes as isa

__all__ = ["emit"]

_ARITHMETIC = {
    isa.BPF_ADD: (0x01, 0),
    isa.BPF_SUB: (0x29, 5),
    isa.BPF_OR: (0x09, 1),
    isa.BPF_AND: (0x21, 4),
    isa.BPF_XOR: (0x31, 6),
}
_SHIFT = {
    isa.BPF_LSH: (4, 1),
    isa.BPF_RSH: (5, 3),
    isa.BPF_ARSH: (7, 2),
}  # digit of the opcode group, prefix of shlx/shrx/sarx
_CONDITION = {
    isa.BPF_JEQ: 4, isa.BPF_JNE: 5, isa.BPF_JGT: 7, isa.BPF_JGE: 3, isa.BPF_JLT: 2, isa.BPF_JLE: 6,
    isa.BPF_JSGT: 15, isa.BPF_JSGE: 13, isa.BPF_JSLT: 12, isa.BPF_JSLE: 14, isa.BPF_JSET: 5,
}  # fmt: skip
_ATOMIC = {isa.BPF_ADD: "add", isa.BPF_OR: "or", isa.BPF_AND: "and", isa.BPF_XOR: "xor"}


_JB, _JAE, _JE, _JNE, _JA, _JS = 2, 3, 4, 5, 7, 8


class Emitter(emitter.Emitter):
    """Emits x86-64."""

    out: bytearray
    registers = REGISTER

    def __init__(self, code: Code, layout: Layout, resolve: dict[str, int], library: dict[str, int], unit: int) -> None:
        super().__init__(code, layout, resolve, library, unit)
        self.out = bytearray()
        self.bmi2 = "bmi2" in layout.features
        self.faults: list[tuple[int, int, int]] = []  # (position of the rel32, fault, slot)
        self.skips: list[tuple[int, int, int]] = []  # (position of a rel32, register to clear or -1, where to go on)
        self.saved: list[int] = []

    # -- pieces --------------------------------------------------------------------------------------------------

    def jump_if(self, condition: int, slot: int) -> None:
        out = self.out
        out += bytes([0x0F, 0x80 | condition]) + b"\0\0\0\0"
        self.jumps.append((len(out) - 4, slot))

    def fault_if(self, condition: int, fault: int, slot: int) -> None:
        out = self.out
        out += bytes([0x0F, 0x80 | condition]) + b"\0\0\0\0"
        self.faults.append((len(out) - 4, fault, slot))

    def leave_unless(self, base: int, first: int, end: int) -> int:
        out, pointer = self.out, REGISTER[base]
        out += bytes([0x4C | pointer >> 3, 0x8D, 0x98 | pointer & 7]) + i32(
            first - self.low
        )  # lea r11, [pointer + ...]
        out += (
            b"\x49\x81\xfb" + i32(self.layout.size - self.low - (end - first)) + b"\x0f\x87\0\0\0\0"
        )  # cmp r11, ...; ja
        return len(out) - 4

    def fault_from(self, place: int, slot: int) -> None:
        self.faults.append((place, Fault.MEMORY, slot))

    def lead_here(self, place: int) -> None:
        struct.pack_into("<i", self.out, place, len(self.out) - place - 4)

    def jump_to(self, slot: int) -> None:
        self.out += b"\xe9\0\0\0\0"
        self.jumps.append((len(self.out) - 4, slot))

    def load_address_value(self, register: int) -> int:
        """A register to read operand `register` (a BPF number) from: R10's value is made in r11."""
        if register != 10:
            return REGISTER[register]
        self.out += rr(0x89, RBP, R11) + rr(0x29, R12, R11)
        return R11

    def call_library(self, name: str) -> None:
        """Call a function of the library through its control number, see `first_call` of `runtime`."""
        self.out += b"\x41\xff\x94\x24" + control(self.library[name])  # call [r12 + ...]

    # -- instructions --------------------------------------------------------------------------------------------

    def negate(self, dst: int, wide: bool) -> None:
        self.out += rr(0xF7, 3, dst, wide)

    def arithmetic(self, op: Op, operation: int, dst: int, wide: bool) -> None:
        out, offset, imm = self.out, op.offset, op.imm
        if operation in (isa.BPF_DIV, isa.BPF_MOD):
            self.divide(op, dst, wide, operation == isa.BPF_MOD, offset == 1)
            return
        if op.opcode & isa.BPF_X:
            src = self.load_address_value(op.src)
            if operation == isa.BPF_MOV:
                if offset == isa.ADDR_SPACE_CAST:
                    out += rr(0x89, src, dst, False)
                    if imm == isa.CAST_USER:  # null stays null
                        out += rr(0x85, dst, dst, False) + b"\x74\x03" + rr(0x01, R12, dst)
                elif offset == 0:
                    if wide and src == dst:
                        return
                    out += rr(0x89, src, dst, wide)
                elif offset == 32:
                    out += rr(0x63, dst, src, True)
                else:
                    out += rr(0x0FBE if offset == 8 else 0x0FBF, dst, src, True)
                    if not wide:
                        out += rr(0x89, dst, dst, False)
            elif operation in _ARITHMETIC:
                out += rr(_ARITHMETIC[operation][0], src, dst, wide)
            elif operation == isa.BPF_MUL:
                out += rr(0x0FAF, dst, src, wide)
            else:
                self.shift(operation, dst, src, wide)
            return
        if operation == isa.BPF_MOV:
            out += mov_imm(dst, imm if wide else imm & 0xFFFFFFFF)
        elif operation in _ARITHMETIC:
            out += ri(_ARITHMETIC[operation][1], dst, imm, wide)
        elif operation == isa.BPF_MUL:
            rex = 0x40 | wide << 3 | (dst >> 3) << 2 | dst >> 3
            out += (bytes([rex]) if rex != 0x40 else b"") + bytes([0x69, 0xC0 | (dst & 7) << 3 | dst & 7]) + i32(imm)
        else:
            rex = 0x40 | wide << 3 | dst >> 3
            out += (bytes([rex]) if rex != 0x40 else b"") + bytes(
                [0xC1, 0xC0 | _SHIFT[operation][0] << 3 | dst & 7, imm & (63 if wide else 31)]
            )
            if not wide and not imm & 31:
                out += rr(0x89, dst, dst, False)  # a shift by 0 leaves the upper half alone

    def shift(self, operation: int, dst: int, src: int, wide: bool) -> None:
        out = self.out
        digit, pp = _SHIFT[operation]
        if self.bmi2:
            # VEX.LZ.pp.0F38 F7: dst, dst, src
            out += bytes(
                [
                    0xC4,
                    (0 if dst > 7 else 0x80) | 0x40 | (0 if dst > 7 else 0x20) | 0x02,
                    wide << 7 | (~src & 15) << 3 | pp,
                    0xF7,
                    0xC0 | (dst & 7) << 3 | dst & 7,
                ]
            )
            return
        if src == R11:
            out += rr(0x89, R11, R10)
            src = R10
            out += rr(0x89, dst, R11) + b"\x51" + rr(0x89, src, RCX)  # push rcx
            out += self._shift_r11(digit, wide) + b"\x59" + rr(0x89, R11, dst)
            return
        out += rr(0x89, dst, R11) + rr(0x89, RCX, R10) + rr(0x89, src, RCX)
        out += self._shift_r11(digit, wide) + rr(0x89, R10, RCX) + rr(0x89, R11, dst)

    @staticmethod
    def _shift_r11(digit: int, wide: bool) -> bytes:
        code = bytes([0x49 if wide else 0x41, 0xD3, 0xC3 | digit << 3])
        return code if wide else code + rr(0x89, R11, R11, False)  # a shift by 0 leaves the upper half alone

    def end(self, dst: int, bits: int, swap: bool) -> None:
        out = self.out
        rex_b = dst >> 3
        if bits == 16:
            if swap:
                out += b"\x66" + (b"\x41" if rex_b else b"") + bytes([0xC1, 0xC0 | dst & 7, 8])  # rol r16, 8
            out += rr(0x0FB7, dst, dst, False)
        elif bits == 32:
            out += (b"\x41" if rex_b else b"") + bytes([0x0F, 0xC8 | dst & 7]) if swap else rr(0x89, dst, dst, False)
        elif swap:
            out += bytes([0x48 | rex_b, 0x0F, 0xC8 | dst & 7])

    def divide(self, op: Op, dst: int, wide: bool, modulo: bool, signed: bool) -> None:
        """By 0: a quotient of 0, a remainder of the dividend. By -1: no overflow."""
        out = self.out
        constant = None if op.opcode & isa.BPF_X else op.imm
        if constant is None:
            src = self.load_address_value(op.src)
            if src != R11:
                out += rr(0x89, src, R11, wide)
            done = []
            out += rr(0x85, R11, R11, wide)
            out += bytes([0x75, 0])  # jne over
            over = len(out)
            if not modulo:
                out += rr(0x31, dst, dst, False)
            elif not wide:
                out += rr(0x89, dst, dst, False)
            out += b"\xe9\0\0\0\0"
            done.append(len(out))
            out[over - 1] = len(out) - over
        else:
            done = []
            out += mov_imm(R11, constant if wide else constant & 0xFFFFFFFF)
        if signed:
            out += ri(7, R11, -1, wide)
            out += bytes([0x75, 0])
            over = len(out)
            if modulo:
                out += rr(0x31, dst, dst, False)
            else:
                out += rr(0xF7, 3, dst, wide)
            out += b"\xe9\0\0\0\0"
            done.append(len(out))
            out[over - 1] = len(out) - over
        if dst != RAX:
            out += b"\x50"  # push rax
        if dst != RDX:
            out += b"\x52"  # push rdx
        if dst != RAX:
            out += rr(0x89, dst, RAX, wide)
        if signed:
            out += b"\x48\x99" if wide else b"\x99"  # cqo, cdq
            out += rr(0xF7, 7, R11, wide)
        else:
            out += rr(0x31, RDX, RDX, False)
            out += rr(0xF7, 6, R11, wide)
        out += rr(0x89, RDX if modulo else RAX, R11, wide)
        if dst != RDX:
            out += b"\x5a"
        if dst != RAX:
            out += b"\x58"
        out += rr(0x89, R11, dst, wide)
        for position in done:
            out[position - 4 : position] = i32(len(out) - position)

    def jump(self, op: Op, slot: int) -> None:
        out = self.out
        kind = op.opcode & 0xF0
        target = jump_target(op, slot)
        if kind == isa.BPF_JA:
            if target != slot + 1:
                out += b"\xe9\0\0\0\0"
                self.jumps.append((len(out) - 4, target))
            return
        if kind == isa.BPF_JCOND:
            out += b"\x48\x83\x3c\x24\0"  # cmp qword [rsp], 0: the turns that are left
            self.jump_if(_JE, target)
            out += b"\x48\x83\x2c\x24\x01"  # sub qword [rsp], 1
            return
        wide = op.opcode & 7 == isa.BPF_JMP
        if op.dst == 10 and op.opcode & isa.BPF_X and op.src == 10:
            dst = src = self.load_address_value(10)
        elif op.dst == 10:
            dst = self.load_address_value(10)
            src = REGISTER[op.src]
        else:
            dst = REGISTER[op.dst]
            src = self.load_address_value(op.src) if op.opcode & isa.BPF_X else 0
        if op.opcode & isa.BPF_X:
            out += rr(0x85 if kind == isa.BPF_JSET else 0x39, src, dst, wide)
        elif kind == isa.BPF_JSET:
            rex = 0x40 | wide << 3 | dst >> 3
            out += (bytes([rex]) if rex != 0x40 else b"") + bytes([0xF7, 0xC0 | dst & 7]) + i32(op.imm)
        elif op.imm == 0 and kind in (isa.BPF_JEQ, isa.BPF_JNE):
            out += rr(0x85, dst, dst, wide)
        else:
            out += ri(7, dst, op.imm, wide)
        self.jump_if(_CONDITION[kind], target)

    def access(self, name: str, register: int, base: int, offset: int, slot: int, extra: bytes = b"") -> None:
        """One load or store; `base` is a BPF register."""
        out = self.out
        if base == 10:
            out += frame(name, register, offset) + extra
            return
        pointer = REGISTER[base]
        if self.tested:
            out += tested(name, register, pointer, offset) + extra
            return
        size = int(name[-1])
        low = self.low
        out += bytes([0x4C | pointer >> 3, 0x8D, 0x98 | pointer & 7])
        out += i32(offset - low)
        out += b"\x49\x81\xfb" + i32(self.layout.size - low - size)
        if self.code.probe_reads and name[:2] == "ld":
            out += b"\x0f\x87\0\0\0\0"
            at = len(out)
            out += prefix(name, register) + i32(low)
            self.skips.append((at - 4, register, len(out)))
            return
        out += b"\x0f\x87\0\0\0\0"
        self.faults.append((len(out) - 4, Fault.MEMORY, slot))
        out += prefix(name, register) + i32(low) + extra

    def atomic(self, op: Op, slot: int) -> None:
        out = self.out
        size = SIZES[op.opcode & 0x18]
        suffix = str(size)
        src = REGISTER[op.src] if op.src != 10 else 0
        if op.imm == isa.BPF_LOAD_ACQ:
            self.access(f"ld{size}", REGISTER[op.dst], op.src, op.offset, slot)
            return
        if op.src == 10:
            out += rr(0x89, RBP, R10) + rr(0x29, R12, R10)
            src = R10
        if op.imm == isa.BPF_STORE_REL:
            self.access(f"st{size}", src, op.dst, op.offset, slot)
            return
        if op.imm == isa.BPF_XCHG:
            self.access("xchg" + suffix, src, op.dst, op.offset, slot)
        elif op.imm == isa.BPF_CMPXCHG:
            self.access("cmpxchg" + suffix, src, op.dst, op.offset, slot)
            if size == 4:
                out += rr(0x89, RAX, RAX, False)
        elif op.imm & isa.BPF_FETCH:
            operation = op.imm & 0xF0
            if operation == isa.BPF_ADD:
                self.access("xadd" + suffix, src, op.dst, op.offset, slot)
            else:
                # Nothing runs at the same time: read, change, and hand over what was read.
                self.access("ld" + suffix, R10, op.dst, op.offset, slot)
                self.access(_ATOMIC[operation] + suffix, src, op.dst, op.offset, slot)
                out += rr(0x89, R10, src, size == 8)
        else:
            self.access(_ATOMIC[op.imm & 0xF0] + suffix, src, op.dst, op.offset, slot)

    # -- calls ---------------------------------------------------------------------------------------------------

    def enter_frame(self) -> bytes:
        return ri(5, RBP, self.function.frame) if self.function.frame else b""

    def leave_frame(self) -> bytes:
        return ri(0, RBP, self.function.frame) if self.function.frame else b""

    def call_function(self, slot: int) -> None:
        self.out += self.enter_frame() + b"\xe8\0\0\0\0"
        self.calls.append((len(self.out) - 4, slot))
        self.out += self.leave_frame()

    def call_number(self, register: int, slot: int) -> None:
        out = self.out
        number = REGISTER[register]
        out += bytes([0x4C | number >> 3, 0x8D, 0x98 | number & 7]) + i32(-FUNCTIONS)
        out += base_prefix("cmp8", R11) + control(Slot.FUNCTIONS)
        self.fault_if(_JAE, Fault.FUNCTION, slot)
        out += self.enter_frame()
        out += b"\x43\xff\x94\xdc" + i32(self.layout.table)  # call [r12 + r11 * 8 + table]
        out += self.leave_frame()

    def helper(self, target: Target, slot: int) -> None:
        out = self.out
        for register in target.pointers:
            pointer = REGISTER[register]
            out += bytes([0x4C | pointer >> 3, 0x8D, 0x98 | pointer & 7]) + i32(-PUBLIC)
            out += b"\x49\x81\xfb" + i32(self.layout.size - PUBLIC)
            self.fault_if(_JA, Fault.POINTER, slot)
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
            out += self.enter_frame()
            self.call_library(target.name)
            out += self.leave_frame()
        else:
            if self.code.trusted:  # where the program is was noted by the program
                out += base_prefix("st8", R9) + control(Slot.FUEL)
            else:
                self.place(slot)
            out += self.enter_frame()
            out += b"\x41\xb9" + i32(target.number)  # mov r9d, number; the runtime keeps the fuel
            out += b"\x49\xbb" + self.layout.python_helper.to_bytes(8, "little") + b"\x41\xff\xd3"
            out += self.leave_frame()

    def place(self, slot: int) -> None:
        """Note where the program is, for what a Python helper raises; the fuel goes to memory."""
        self.out += base_prefix("imm4", 0) + control(Slot.PC) + i32(slot)
        self.out += base_prefix("imm4", 0) + control(Slot.UNIT) + i32(self.unit)
        self.out += base_prefix("st8", R9) + control(Slot.FUEL)

    def check_map(self, slot: int) -> None:
        """R1 must be the address of a map's header: a program may have made it up."""
        out = self.out
        low, high = self.resolve["maps"], self.resolve["maps_end"]
        out += bytes([0x4C, 0x8D, 0x98 | RDI]) + i32(-low)
        out += b"\x49\x81\xfb" + i32(high - low - 256)
        self.fault_if(_JA, Fault.MAP, slot)
        out += b"\x41\xf6\xc3\xff"  # test r11b, 255
        self.fault_if(_JNE, Fault.MAP, slot)
        out += b"\x41\x83\xbc\x3c" + i32(0) + b"\0"  # cmp dword [r12 + rdi], 0: no map's type is 0
        self.fault_if(_JE, Fault.MAP, slot)

    # -- functions -----------------------------------------------------------------------------------------------

    def epilogue(self) -> bytes:
        out = b""
        if self.loops:
            out += b"\x48\x83\xc4\x08"  # add rsp, 8
        for register in reversed(self.saved):
            out += (b"\x41" if register > 7 else b"") + bytes([0x58 | register & 7])
        return out + b"\xc3"

    def leave_function(self) -> None:
        self.out += self.epilogue()

    def align(self) -> None:
        self.out += b"\x90" * (-len(self.out) % 16)

    def prologue(self, function: Function, saved: list[int]) -> None:
        out = self.out
        self.saved = [SAVED[register] for register in saved]
        for register in self.saved:
            out += (b"\x41" if register > 7 else b"") + bytes([0x50 | register & 7])
        out += bytes([0x4C | RBP >> 3, 0x8D, 0x98 | RBP & 7]) + i32(-function.frame)  # lea r11, [rbp - frame]
        out += base_prefix("cmp8", R11) + control(Slot.STACK_LOW)
        self.fault_if(_JB, Fault.STACK, function.start)
        if self.loops:
            out += b"\x68" + i32(MAX_LOOPS)  # push imm32

    def pay(self, cost: int, slot: int) -> None:
        self.out += ri(5, R9, cost)
        self.fault_if(_JB, Fault.FUEL, slot)

    def move(self, register: int, value: int) -> None:
        self.out += mov_imm(REGISTER[register], value)

    def legacy_load(self, op: Op, slot: int) -> None:
        legacy_load(self, op, slot)

    def load(self, op: Op, slot: int) -> None:
        name = "lds" if op.opcode & 0xE0 == isa.BPF_MEMSX else "ld"
        self.access(f"{name}{SIZES[op.opcode & 0x18]}", REGISTER[op.dst], op.src, op.offset, slot)

    def store(self, op: Op, slot: int) -> None:
        register = REGISTER[op.src]
        if op.src == 10:
            self.out += rr(0x89, RBP, R10) + rr(0x29, R12, R10)
            register = R10
        self.access(f"st{SIZES[op.opcode & 0x18]}", register, op.dst, op.offset, slot)

    def store_imm(self, op: Op, slot: int) -> None:
        size = SIZES[op.opcode & 0x18]
        extra = (op.imm & (1 << 8 * min(size, 4)) - 1).to_bytes(min(size, 4), "little")
        self.access(f"imm{size}", 0, op.dst, op.offset, slot, extra)

    def finish(self) -> None:
        out = self.out
        for position, target in self.targets():
            struct.pack_into("<i", out, position, target - position - 4)
        for position, register, back in self.skips:
            struct.pack_into("<i", out, position, len(out) - position - 4)
            out += rr(0x31, register, register, False)
            out += b"\xe9" + i32(back - len(out) - 5)
        stubs: dict[tuple[int, int], int] = {}
        ends = []
        for position, fault, slot in self.faults:
            stub = stubs.get((fault, slot))
            if stub is None:
                stub = stubs[fault, slot] = len(out)
                out += (
                    b"\x41\xba" + i32(slot) + b"\xb8" + i32(fault) + b"\xe9\0\0\0\0"
                )  # mov r10d, slot; mov eax, fault
                ends.append(len(out))
            struct.pack_into("<i", out, position, stub - position - 4)
        for position in ends:
            struct.pack_into("<i", out, position - 4, len(out) - position)
        if self.low:
            out += b"\x49\x81\xc3" + i32(self.low)  # add r11, low: the address itself
        out += base_prefix("st8", RAX) + control(Slot.FAULT)
        out += base_prefix("st8", R10) + control(Slot.PC)
        out += base_prefix("st8", R11) + control(Slot.ADDRESS)
        out += base_prefix("imm4", 0) + control(Slot.UNIT) + i32(self.unit)
        out += b"\x49\xbb" + self.layout.unwind.to_bytes(8, "little") + b"\x41\xff\xe3"  # jmp r11


def emit(
    code: Code, layout: Layout, resolve: dict[str, int], library: dict[str, int], unit: int
) -> tuple[bytes, dict[int, int]]:
    """See `Processor.emit`."""
    made = Emitter(code, layout, resolve, library, unit)
    made.run()
    return bytes(made.out), made.entries
