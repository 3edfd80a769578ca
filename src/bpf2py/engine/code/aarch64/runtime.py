"""The machine code around programs.

Its C functions keep to the procedure call standard (AAPCS64): arguments in x0..x7, x19..x29 and the stack kept, sp at a multiple
of 16. Between programs and functions of the library arguments are in x0..x4, the result is in x7, and x19..x22 are kept.
"""

from __future__ import annotations

import struct

from bpf2py.engine.code.aarch64.encode import (
    ADD,
    BASE,
    CONTROLS,
    DSB_ISH,
    FRAME,
    FUEL,
    ISB,
    LIMIT8,
    LINK,
    LO,
    ORR,
    PUBLIC_START,
    REGISTER,
    RET,
    SP,
    SUB,
    SUBS,
    ZERO,
    add_imm,
    aimed,
    bitmask,
    blr,
    br,
    branch_if,
    cbnz,
    clean_data,
    forget_instructions,
    load,
    load_at,
    load_near,
    logical_imm,
    madd,
    mov,
    mov_imm,
    pair,
    pop,
    push,
    rrr,
    store_at,
    ubfm,
)
from bpf2py.engine.code.control import FIRST_CALL, Slot
from bpf2py.engine.code.layout import Layout
from bpf2py.engine.memory import CONTROL, PUBLIC

__all__ = ["FUNCTION", "LIMIT", "MEMORY", "TRUSTED_LIMIT", "code_of", "limits", "runtime"]

FUNCTION, MEMORY = 16, 17  # what `operation` is jumped to with
# Registers with the highest offset from PUBLIC an access of so many bytes may have; the same for the library's own, from 0.
LIMIT = {1: 14, 2: 13, 4: 12, 8: LIMIT8}
TRUSTED_LIMIT = {4: 8, 8: 15}
_KEPT = ((29, LINK), (19, 20), (21, 22), (23, 24), (25, 26), (27, 28))
_LINE = 16  # bytes, of the smallest cache line there can be


def limits() -> list[int]:
    """Computes the limits that C functions do not keep, from the one they do."""
    return [
        *(add_imm(ADD, LIMIT[size], LIMIT8, 8 - size) for size in (1, 2, 4)),
        rrr(ADD, TRUSTED_LIMIT[8], LIMIT8, PUBLIC_START),
        add_imm(ADD, TRUSTED_LIMIT[4], TRUSTED_LIMIT[8], 4),
    ]


def runtime(layout: Layout) -> tuple[bytes, dict[str, int]]:
    """The code around programs, see `Processor.runtime`.

    ``operation`` is jumped to with a function in x16, the base in x17 and arguments in place; ``python_helper`` takes the number
    in w5.
    """
    out: list[int] = []
    places: dict[str, int] = {}
    result = REGISTER[0]

    def enter() -> None:
        frame = 2 * len(_KEPT) + 2
        out.append(pair("push", *_KEPT[0], -frame))
        out.extend(pair("stp", *registers, 2 * at) for at, registers in enumerate(_KEPT) if at)
        out.append(add_imm(ADD, 29, SP, 0))  # the frame of a function of C's, for those who follow frames
        out.append(mov(BASE, MEMORY))
        out.append(add_imm(SUB, CONTROLS, BASE, CONTROL >> 12, shifted=True))
        out.extend(mov_imm(PUBLIC_START, PUBLIC))
        out.extend(mov_imm(LIMIT8, layout.size - PUBLIC - 8))
        out.extend(limits())
        out.append(load_at(9, CONTROLS, Slot.SAVED_SP))
        out.append(store_at(9, SP, frame - 2))
        out.append(add_imm(ADD, 9, SP, 0))
        out.append(store_at(9, CONTROLS, Slot.SAVED_SP))

    def leave() -> None:
        frame = 2 * len(_KEPT) + 2
        out.append(load_at(9, SP, frame - 2))
        out.append(store_at(9, CONTROLS, Slot.SAVED_SP))
        out.append(mov(0, result))
        out.extend(pair("ldp", *registers, 2 * at) for at, registers in enumerate(_KEPT) if at)
        out.append(pair("pop", *_KEPT[0], frame))
        out.append(RET)

    def call_back() -> None:
        out.extend(mov_imm(FUNCTION, layout.callback))
        out.append(blr(FUNCTION))

    def after_callback() -> None:
        """The fuel is what Python left of it; what it said went wrong ends the program."""
        out.append(load_at(FUEL, CONTROLS, Slot.FUEL))
        out.append(load_at(9, CONTROLS, Slot.FAULT))
        out.append(aimed(cbnz(9), places["unwind"] // 4 - len(out)))
        out.extend(limits())

    def begin(name: str) -> None:
        places[name] = 4 * len(out)

    begin("program")
    out += [mov(FUNCTION, 0), mov(MEMORY, 1), *(mov(register, register + 2) for register in range(4))]
    enter()
    out.append(load_at(FUEL, CONTROLS, Slot.FUEL))
    out.append(load_at(FRAME, CONTROLS, Slot.STACK_TOP))
    out.append(blr(FUNCTION))
    out.append(store_at(FUEL, CONTROLS, Slot.FUEL))
    leave()

    begin("operation")
    enter()
    out += mov_imm(FUEL, 1 << 40)
    out += [*mov_imm(9, layout.ops_stack), rrr(ADD, FRAME, BASE, 9)]
    out.append(blr(FUNCTION))
    leave()

    begin("unwind")
    out.append(load_at(9, CONTROLS, Slot.SAVED_SP))
    out.append(add_imm(ADD, SP, 9, 0))
    out.append(store_at(FUEL, CONTROLS, Slot.FUEL))
    out += mov_imm(result, -14)
    leave()

    begin("python_helper")
    out.append(push(LINK))
    call_back()
    out.append(mov(result, 0))
    after_callback()
    out += [pop(LINK), RET]

    begin("first_call")
    out += [pair("push", 0, 1, -6), pair("stp", 2, 3, 2), pair("stp", 4, LINK, 4)]
    out.append(store_at(FUEL, CONTROLS, Slot.FUEL))
    # Which one: the index in the load in front of the call.
    out += [load_near(4, False, 5, LINK, -8), ubfm(5, 5, 10, 21, False)]
    fields = bitmask(FIRST_CALL, 32)
    assert fields is not None
    out.append(logical_imm(ORR, 5, 5, fields, False))
    call_back()
    after_callback()
    out += [pair("ldp", 4, LINK, 4), load_near(4, False, 5, LINK, -8), ubfm(5, 5, 10, 21, False)]
    out += [pair("ldp", 2, 3, 2), pair("pop", 0, 1, 6)]
    out += [load(8, False, FUNCTION, CONTROLS, 5, scaled=True), br(FUNCTION)]

    if layout.clock_gettime:
        begin("clock")
        # The clock's number is in x0, where C wants it; the program's numbers that count are in registers that C keeps.
        out += [pair("push", LINK, FUEL, -4), add_imm(ADD, 1, SP, 16)]
        out += [*mov_imm(FUNCTION, layout.clock_gettime), blr(FUNCTION)]
        out += [load_at(9, SP, 2), load_at(10, SP, 3), *mov_imm(11, 1_000_000_000), madd(result, 9, 11, 10)]
        out.extend(limits())
        out += [pair("pop", LINK, FUEL, 4), RET]

    begin("synchronise")
    for each in (clean_data, forget_instructions):
        out.append(mov(2, 0))
        again = len(out)
        out += [each(2), add_imm(ADD, 2, 2, _LINE), rrr(SUBS, ZERO, 2, 1)]
        out.append(aimed(branch_if(LO), again - len(out)))
        out.append(DSB_ISH)
    out += [ISB, RET]
    return code_of(out), places


def code_of(words: list[int]) -> bytes:
    """The bytes of instructions."""
    return struct.pack(f"<{len(words)}I", *words)
