"""The machine code around programs."""

from __future__ import annotations

from bpf2py.engine.code.control import FIRST_CALL, Slot
from bpf2py.engine.code.layout import Layout
from bpf2py.engine.code.x86_64.encode import (
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    RAX,
    RBP,
    RBX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
    base_prefix,
    i32,
    mov_imm,
    rr,
)  # fmt: skip
from bpf2py.engine.memory import CONTROL

__all__ = ["control", "runtime"]


def control(slot: int) -> bytes:
    """The displacement of a control number from the memory's base."""
    return i32(slot * 8 - CONTROL)


_PUSHED = (RBP, RBX, R12, R13, R14, R15)


def runtime(layout: Layout) -> tuple[bytes, dict[str, int]]:
    """The code around programs, see `Processor.runtime`.

    ``operation`` is jumped to with a function in rax, the base in r10 and arguments in place; ``python_helper`` takes the number
    in r9.
    """
    out = bytearray()
    places: dict[str, int] = {}

    def enter() -> None:
        for register in _PUSHED:
            out.extend((b"\x41" if register > 7 else b"") + bytes([0x50 | register & 7]))
        out.extend(rr(0x89, R10, R12))
        # push qword [r12 + SAVED_SP]; mov [r12 + SAVED_SP], rsp
        out.extend(b"\x41\xff\xb4\x24" + control(Slot.SAVED_SP))
        out.extend(base_prefix("st8", RSP) + control(Slot.SAVED_SP))

    def leave() -> None:
        out.extend(b"\x41\x8f\x84\x24" + control(Slot.SAVED_SP))  # pop qword
        for register in reversed(_PUSHED):
            out.extend((b"\x41" if register > 7 else b"") + bytes([0x58 | register & 7]))
        out.extend(b"\xc3")

    def call_back() -> None:
        out.extend(b"\x55" + rr(0x89, RSP, RBP) + b"\x48\x83\xe4\xf0")  # push rbp; mov rbp, rsp; and rsp, -16
        out.extend(b"\x48\xb8" + layout.callback.to_bytes(8, "little") + b"\xff\xd0")  # call callback
        out.extend(rr(0x89, RBP, RSP) + b"\x5d")

    places["program"] = len(out)
    out += rr(0x89, RDI, RAX) + rr(0x89, RSI, R10)
    out += rr(0x89, RDX, RDI) + rr(0x89, RCX, RSI) + rr(0x89, R8, RDX) + rr(0x89, R9, RCX)
    enter()
    out += base_prefix("ld8", R9) + control(Slot.FUEL)
    out += base_prefix("ld8", RBP) + control(Slot.STACK_TOP)
    out += b"\xff\xd0"  # call rax
    out += base_prefix("st8", R9) + control(Slot.FUEL)
    leave()

    places["operation"] = len(out)
    enter()
    out += mov_imm(R9, 1 << 40)
    out += base_prefix("lea", RBP) + i32(layout.ops_stack)
    out += b"\xff\xd0"
    leave()

    places["unwind"] = len(out)
    out += base_prefix("ld8", RSP) + control(Slot.SAVED_SP)
    out += base_prefix("st8", R9) + control(Slot.FUEL)
    out += mov_imm(RAX, -14)
    leave()

    places["python_helper"] = len(out)
    call_back()
    out += base_prefix("ld8", R9) + control(Slot.FUEL)
    out += base_prefix("ld8", R11) + control(Slot.FAULT)
    out += rr(0x85, R11, R11)
    out += b"\x0f\x85" + i32(places["unwind"] - len(out) - 6)
    out += b"\xc3"

    places["first_call"] = len(out)
    out += b"\x57\x56\x52\x51\x41\x50"  # push rdi, rsi, rdx, rcx, r8
    # Which one: the displacement at the end of the call in front of the return address.
    out += b"\x4c\x8b\x5c\x24\x28" + b"\x4d\x63\x5b\xfc"  # mov r11, [rsp + 40]; movsxd r11, [r11 - 4]
    out += b"\x41\x53"  # push r11
    out += base_prefix("st8", R9) + control(Slot.FUEL)
    out += b"\x45\x8d\x8b" + i32(CONTROL) + b"\x41\xc1\xe9\x03"  # lea r9d, [r11 + CONTROL]; shr r9d, 3
    out += b"\x41\x81\xc9" + i32(FIRST_CALL)  # or r9d, FIRST_CALL
    call_back()
    out += b"\x41\x5b\x41\x58\x59\x5a\x5e\x5f"  # pop r11, r8, rcx, rdx, rsi, rdi
    out += base_prefix("ld8", R9) + control(Slot.FUEL)
    out += base_prefix("ld8", R10) + control(Slot.FAULT)
    out += rr(0x85, R10, R10)
    out += b"\x0f\x85" + i32(places["unwind"] - len(out) - 6)
    out += b"\x43\xff\x24\x1c"  # jmp [r12 + r11]

    if layout.clock_gettime:
        places["clock"] = len(out)
        out += (
            b"\x55" + rr(0x89, RSP, RBP) + b"\x48\x83\xe4\xf0\x48\x83\xec\x20"
        )  # push rbp; mov rbp, rsp; and rsp, -16; sub rsp, 32
        out += b"\x4c\x89\x4c\x24\x10" + rr(0x89, RSP, RSI)  # mov [rsp + 16], r9; mov rsi, rsp
        out += b"\x48\xb8" + layout.clock_gettime.to_bytes(8, "little") + b"\xff\xd0"
        out += (
            b"\x4c\x8b\x4c\x24\x10" + b"\x48\x69\x04\x24" + i32(1_000_000_000)
        )  # mov r9, [rsp + 16]; imul rax, [rsp], 10^9
        out += (
            b"\x48\x03\x44\x24\x08" + rr(0x89, RBP, RSP) + b"\x5d\xc3"
        )  # add rax, [rsp + 8]; mov rsp, rbp; pop rbp; ret
    return bytes(out), places
