"""What is part of the program's own code instead of a call: a few helpers, array lookups, and the old packet loads."""

from __future__ import annotations

from typing import Protocol

from bpf2py.engine.code.code import MAX_TAIL_CALLS, SKB_DATA, SKB_DATA_END, Op, Target
from bpf2py.engine.code.control import Fault, Slot
from bpf2py.engine.code.emitter import SIZES
from bpf2py.engine.code.layout import Layout
from bpf2py.engine.code.x86_64.encode import (
    R10,
    R11,
    RAX,
    RDI,
    RDX,
    REGISTER,
    RSI,
    base_prefix,
    frame,
    i32,
    mov_imm,
    ri,
    rr,
)
from bpf2py.engine.code.x86_64.runtime import control
from bpf2py.engine.memory import ENGINE, FUNCTIONS
from bpf2py.isa import opcodes as isa

__all__ = ["INLINE", "array_lookup", "legacy_load"]


class Emitter(Protocol):
    """What these pieces need of the emitter they are put into."""

    out: bytearray
    faults: list[tuple[int, int, int]]  # (position of the rel32, fault, slot)
    layout: Layout

    def access(self, name: str, register: int, base: int, offset: int, slot: int, extra: bytes = b"") -> None:
        """One load or store; `base` is a BPF register."""

    def end(self, dst: int, bits: int, swap: bool) -> None:
        """Change the byte order of a register."""

    def call_library(self, name: str) -> None:
        """Call a function of the library."""

    def enter_frame(self) -> bytes:
        """Go to the frame of the next function."""

    def leave_frame(self) -> bytes:
        """Come back."""

    def epilogue(self) -> bytes:
        """Leave the function."""


def array_lookup(emitter: Emitter, target: Target, slot: int) -> None:
    """The element's address by its index, null beyond the last."""
    out = emitter.out
    data, stride, entries = target.array
    if target.key:
        out += frame("ld4", R10, target.key)
    else:
        emitter.access("ld4", R10, 2, 0, slot)
    out += rr(0x31, RAX, RAX, False)
    out += ri(7, R10, entries - (1 << 32 if entries >> 31 else 0), False)
    out += b"\x73\0"  # jae over
    over = len(out)
    if stride & stride - 1:
        out += b"\x4d\x69\xd2" + i32(stride)  # imul r10, r10, imm32
    else:
        out += b"\x49\xc1\xe2" + bytes([stride.bit_length() - 1])  # shl r10, imm8
    if target.slot:
        out += base_prefix("ld4", RAX) + i32(ENGINE)
        out += b"\x48\x69\xc0" + i32(target.slot)  # imul rax, rax, imm32
        out += b"\x49\x8d\x84\x02" + i32(data)  # lea rax, [r10 + rax + disp32]
    else:
        out += b"\x49\x8d\x82" + i32(data)  # lea rax, [r10 + disp32]
    out[over - 1] = len(out) - over


def legacy_load(emitter: Emitter, op: Op, slot: int) -> None:
    """BPF_ABS and BPF_IND: from the packet of the context in R6, big-endian; outside of it the program ends with 0."""
    out = emitter.out
    size = SIZES[op.opcode & 0x18]
    if op.opcode & 0xE0 == isa.BPF_IND:
        out += rr(0x89, REGISTER[op.src], RAX, False) + ri(0, RAX, op.imm, False)
    else:
        out += mov_imm(RAX, op.imm & 0xFFFFFFFF)
    emitter.access("ld4", RDI, 6, SKB_DATA, slot)
    emitter.access("ld4", RSI, 6, SKB_DATA_END, slot)
    out += rr(0x01, RDI, RAX) + b"\x48\x8d\x50" + bytes([size])  # lea rdx, [rax + size]
    out += rr(0x39, RSI, RDX) + b"\x76\0"  # jbe over
    over = len(out)
    out += rr(0x31, RAX, RAX, False) + emitter.epilogue()
    out[over - 1] = len(out) - over
    emitter.access(f"ld{size}", RAX, 0, 0, slot)
    if size > 1:
        emitter.end(RAX, size * 8, True)


def get_smp_processor_id(emitter: Emitter, slot: int) -> None:
    emitter.out += base_prefix("ld4", RAX) + i32(ENGINE)


def nothing(emitter: Emitter, slot: int) -> None:
    emitter.out += mov_imm(RAX, 0)


def read_clock(emitter: Emitter, slot: int) -> None:
    emitter.out += b"\x49\xbb" + emitter.layout.clock.to_bytes(8, "little") + b"\x41\xff\xd3"  # mov r11, ...; call r11


def throw(emitter: Emitter, slot: int) -> None:
    """bpf_throw(cookie): leave the program with the cookie as its result."""
    emitter.out += base_prefix("st8", RDI) + control(Slot.RESULT)
    emitter.out += b"\xe9\0\0\0\0"
    emitter.faults.append((len(emitter.out) - 4, Fault.THROW, slot))


def tail_call(emitter: Emitter, slot: int) -> None:
    """Jump to the program in slot R3 of the map in R2, on this function's own frame; go on after it when there is none."""
    out = emitter.out
    out += b"\x57"  # push rdi: the context
    out += rr(0x89, RSI, RDI) + rr(0x89, RDX, RSI, False)
    out += emitter.enter_frame()
    emitter.call_library("prog_array_function")
    out += emitter.leave_frame()
    out += b"\x5f"
    out += b"\x4c\x8d\x98" + i32(-FUNCTIONS)  # lea r11, [rax - FUNCTIONS]
    out += base_prefix("cmp8", R11) + control(Slot.FUNCTIONS)
    out += b"\x0f\x83\0\0\0\0"
    missing = len(out)
    out += base_prefix("ld8", R10) + control(Slot.TAIL_CALLS)
    out += ri(7, R10, MAX_TAIL_CALLS)
    out += b"\x0f\x83\0\0\0\0"
    too_many = len(out)
    out += ri(0, R10, 1) + base_prefix("st8", R10) + control(Slot.TAIL_CALLS)
    out += emitter.epilogue()[:-1]
    out += b"\x43\xff\xa4\xdc" + i32(emitter.layout.table)  # jmp [r12 + r11 * 8 + table]
    for position in (missing, too_many):
        out[position - 4 : position] = i32(len(out) - position)
    out += mov_imm(RAX, -2)


INLINE = {
    "get_smp_processor_id": get_smp_processor_id,
    "nothing": nothing,
    "read_clock": read_clock,
    "tail_call": tail_call,
    "throw": throw,
}
