"""What is part of the program's own code instead of a call: a few helpers, array lookups, and the old packet loads."""

from __future__ import annotations

from typing import Protocol

from bpf2py.engine.code.aarch64.encode import (
    ADD,
    BASE,
    CONTROLS,
    HS,
    LS,
    LSL,
    REGISTER,
    SUBS,
    ZERO,
    add_imm,
    blr,
    br,
    branch_if,
    load,
    load_at,
    madd,
    mov,
    mov_imm,
    pop,
    push,
    rrr,
    shift_imm,
    store_at,
)
from bpf2py.engine.code.aarch64.runtime import FUNCTION
from bpf2py.engine.code.code import MAX_TAIL_CALLS, SKB_DATA, SKB_DATA_END, Op, Target
from bpf2py.engine.code.control import Fault, Slot
from bpf2py.engine.code.emitter import SIZES
from bpf2py.engine.code.layout import Layout
from bpf2py.engine.memory import ENGINE
from bpf2py.isa import opcodes as isa

__all__ = ["INLINE", "array_lookup", "legacy_load"]

R0, R1, R2, R3 = REGISTER[:4]


class Emitter(Protocol):
    """What these pieces need of the emitter they are put into."""

    out: list[int]
    layout: Layout

    def aim(self, place: int, target: int) -> None:
        """Fill in where a branch leads to."""

    def add(self, rd: int, rn: int, value: int, wide: bool = True) -> None:
        """``rd = rn + value``."""

    def compare(self, register: int, value: int, wide: bool = True) -> None:
        """With a number."""

    def fault_if(self, word: int, fault: int, slot: int, address: int = ZERO, start: int = 0) -> None:
        """Leave the program where a branch is taken."""

    def read(self, size: int, register: int, base: int, offset: int, slot: int, signed: bool = False) -> None:
        """One load; `base` is a BPF register."""

    def end(self, dst: int, bits: int, swap: bool) -> None:
        """Change the byte order of a register."""

    def call_library(self, name: str) -> None:
        """Call a function of the library."""

    def function_number(self, number: int, register: int) -> None:
        """The number of a function by its address."""

    def load_entry(self, number: int) -> None:
        """The address of a function by its number."""

    def enter_frame(self) -> None:
        """Go to the frame of the next function."""

    def leave_frame(self) -> None:
        """Come back."""

    def epilogue(self) -> None:
        """Leave the function, but for the return."""

    def leave_function(self) -> None:
        """Leave the function."""


def array_lookup(emitter: Emitter, target: Target, slot: int) -> None:
    """The element's address by its index, null beyond the last."""
    out = emitter.out
    data, stride, entries = target.array
    if target.key:
        emitter.read(4, 11, 10, target.key, slot)
    else:
        emitter.read(4, 11, 2, 0, slot)
    out += mov_imm(R0, 0)
    emitter.compare(11, entries, False)
    beyond = len(out)
    out.append(branch_if(HS))
    out += mov_imm(10, data)
    if target.slot:
        out += [*mov_imm(9, ENGINE), load(4, False, R0, BASE, 9), *mov_imm(9, target.slot), madd(10, R0, 9, 10)]
    if stride & stride - 1:
        out += [*mov_imm(9, stride), madd(R0, 11, 9, 10)]
    else:
        out += [shift_imm(LSL, 11, 11, stride.bit_length() - 1), rrr(ADD, R0, 11, 10)]
    emitter.aim(beyond, len(out))


def legacy_load(emitter: Emitter, op: Op, slot: int) -> None:
    """BPF_ABS and BPF_IND: from the packet of the context in R6, big-endian; outside of it the program ends with 0."""
    out = emitter.out
    size = SIZES[op.opcode & 0x18]
    if op.opcode & 0xE0 == isa.BPF_IND:
        emitter.add(R0, REGISTER[op.src], op.imm, False)
    else:
        out += mov_imm(R0, op.imm & 0xFFFFFFFF)
    emitter.read(4, R1, 6, SKB_DATA, slot)
    emitter.read(4, R2, 6, SKB_DATA_END, slot)
    out += [rrr(ADD, R0, R0, R1), add_imm(ADD, R3, R0, size), rrr(SUBS, ZERO, R3, R2)]
    within = len(out)
    out.append(branch_if(LS))
    out += mov_imm(R0, 0)
    emitter.leave_function()
    emitter.aim(within, len(out))
    emitter.read(size, R0, 0, 0, slot)
    if size > 1:
        emitter.end(R0, size * 8, True)


def get_smp_processor_id(emitter: Emitter, slot: int) -> None:
    emitter.out += [*mov_imm(9, ENGINE), load(4, False, R0, BASE, 9)]


def nothing(emitter: Emitter, slot: int) -> None:
    emitter.out += mov_imm(R0, 0)


def read_clock(emitter: Emitter, slot: int) -> None:
    emitter.out += [*mov_imm(FUNCTION, emitter.layout.clock), blr(FUNCTION)]


def throw(emitter: Emitter, slot: int) -> None:
    """bpf_throw(cookie): leave the program with the cookie as its result."""
    emitter.out += [store_at(R1, CONTROLS, Slot.RESULT), rrr(SUBS, ZERO, ZERO, ZERO)]
    emitter.fault_if(branch_if(HS), Fault.THROW, slot)


def tail_call(emitter: Emitter, slot: int) -> None:
    """Jump to the program in slot R3 of the map in R2, on this function's own frame; go on after it when there is none."""
    out = emitter.out
    out += [push(R1), mov(R1, R2), mov(R2, R3, False)]
    emitter.enter_frame()
    emitter.call_library("prog_array_function")
    emitter.leave_frame()
    out.append(pop(R1))
    emitter.function_number(10, R0)
    missing = len(out)
    out.append(branch_if(HS))
    out.append(load_at(9, CONTROLS, Slot.TAIL_CALLS))
    emitter.compare(9, MAX_TAIL_CALLS)
    too_many = len(out)
    out.append(branch_if(HS))
    out += [add_imm(ADD, 9, 9, 1), store_at(9, CONTROLS, Slot.TAIL_CALLS)]
    emitter.load_entry(10)
    emitter.epilogue()
    out.append(br(FUNCTION))
    for place in (missing, too_many):
        emitter.aim(place, len(out))
    out += mov_imm(R0, -2)


INLINE = {
    "get_smp_processor_id": get_smp_processor_id,
    "nothing": nothing,
    "read_clock": read_clock,
    "tail_call": tail_call,
    "throw": throw,
}
