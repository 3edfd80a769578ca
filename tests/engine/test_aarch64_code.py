"""AArch64 machine code, looked at on any machine: as an assembler writes it, and where its branches lead.

What it does when it runs is tested in tests/verify/test_aarch64.py.
"""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from bpf2py.elf.object_file import ElfFile
from bpf2py.engine.code.aarch64 import encode as a
from bpf2py.engine.code.aarch64.emit import Emitter, emit
from bpf2py.engine.code.aarch64.processor import thunk
from bpf2py.engine.code.aarch64.runtime import runtime
from bpf2py.engine.code.check import check_form
from bpf2py.engine.code.code import Code, Op
from bpf2py.engine.code.layout import Layout
from bpf2py.engine.code.library import library_code, library_names
from bpf2py.engine.memory import CONTROL, LARGEST, MAX_FUNCTIONS, OPS_STACK
from bpf2py.errors import EncodeError
from bpf2py.isa import opcodes as isa

M64 = (1 << 64) - 1


def assembled(lines: list[str], directory: Path) -> list[int]:
    """The instructions an assembler makes of lines."""
    source, made = directory / "code.s", directory / "code.o"
    source.write_text("\n".join([*lines, ""]))
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-target",
        "aarch64-linux-gnu",
        "-c",
        str(source),
        "-o",
        str(made),
    ]
    subprocess.run(command, check=True)
    section = ElfFile(made.read_bytes()).find(".text")
    assert section is not None
    return words(section.data)


def words(code: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(code) // 4}I", code))


def written(random_: random.Random) -> list[tuple[int, str]]:
    """One of each instruction: (encoded here, for the assembler)."""
    d, n, m, k = (random_.randrange(31) for _ in range(4))
    wide = random_.random() < 0.5
    r = "x" if wide else "w"
    top = 63 if wide else 31
    count, low = random_.randrange(top + 1), random_.choice((0, 1, 4095, random_.randrange(4096)))
    near, index = (
        random_.choice((-256, 255, random_.randint(-256, 255))),
        random_.choice((0, 4095, random_.randrange(4096))),
    )
    half = random_.randrange(-64, 64)
    d2 = (d + 1) % 31
    return [
        *((a.rrr(op, d, n, m, wide), f"{name} {r}{d}, {r}{n}, {r}{m}") for op, name in (
            (a.ADD, "add"), (a.SUB, "sub"), (a.SUBS, "subs"), (a.AND, "and"), (a.ORR, "orr"), (a.EOR, "eor"), (a.ANDS, "ands"),
            (a.UDIV, "udiv"), (a.SDIV, "sdiv"), (a.LSL, "lsl"), (a.LSR, "lsr"), (a.ASR, "asr"),
        )),
        (a.rrr(a.SUB, d, a.ZERO, m, wide), f"neg {r}{d}, {r}{m}"),
        (a.rrr(a.SUBS, a.ZERO, n, m, wide), f"cmp {r}{n}, {r}{m}"),
        (a.mov(d, n, wide), f"mov {r}{d}, {r}{n}"),
        (a.mul(d, n, m, wide), f"mul {r}{d}, {r}{n}, {r}{m}"),
        (a.madd(d, n, m, k), f"madd x{d}, x{n}, x{m}, x{k}"),
        (a.msub(d, n, m, k, wide), f"msub {r}{d}, {r}{n}, {r}{m}, {r}{k}"),
        *((a.shift_imm(op, d, n, count, wide), f"{name} {r}{d}, {r}{n}, #{count}")
          for op, name in ((a.LSL, "lsl"), (a.LSR, "lsr"), (a.ASR, "asr"))),
        (a.ubfm(d, n, 10, 21, False), f"ubfx w{d}, w{n}, #10, #12"),
        *((a.sbfm(d, n, 0, bits - 1, wide), f"sxt{name} {r}{d}, w{n}") for bits, name in ((8, "b"), (16, "h"))),
        (a.sbfm(d, n, 0, 31), f"sxtw x{d}, w{n}"),
        (a.rev(d, n, 16), f"rev16 w{d}, w{n}"), (a.rev(d, n, 32), f"rev w{d}, w{n}"), (a.rev(d, n, 64), f"rev x{d}, x{n}"),
        *((a.add_imm(op, d, n, low, wide, lifted), f"{name} {r}{d}, {r}{n}, #{low}{', lsl #12' * lifted}")
          for op, name in ((a.ADD, "add"), (a.SUB, "sub"), (a.SUBS, "subs")) for lifted in (False, True)),
        (a.add_imm(a.SUBS, a.ZERO, n, low, wide), f"cmp {r}{n}, #{low}"),
        (a.add_imm(a.ADD, d, a.SP, 0), f"mov x{d}, sp"), (a.add_imm(a.ADD, a.SP, n, 0), f"mov sp, x{n}"),
        *((a.load(size, False, d, n, m), f"ldr{suffix} {'x' if size == 8 else 'w'}{d}, [x{n}, x{m}]")
          for size, suffix in ((1, "b"), (2, "h"), (4, ""), (8, ""))),
        *((a.load(size, True, d, n, m), f"ldrs{suffix} x{d}, [x{n}, x{m}]") for size, suffix in ((1, "b"), (2, "h"), (4, "w"))),
        (a.load(8, False, d, n, m, True), f"ldr x{d}, [x{n}, x{m}, lsl #3]"),
        *((a.store(size, d, n, m), f"str{suffix} {'x' if size == 8 else 'w'}{d}, [x{n}, x{m}]")
          for size, suffix in ((1, "b"), (2, "h"), (4, ""), (8, ""))),
        *((a.load_near(size, False, d, n, near), f"ldur{suffix} {'x' if size == 8 else 'w'}{d}, [x{n}, #{near}]")
          for size, suffix in ((1, "b"), (2, "h"), (4, ""), (8, ""))),
        *((a.load_near(size, True, d, n, near), f"ldurs{suffix} x{d}, [x{n}, #{near}]")
          for size, suffix in ((1, "b"), (2, "h"), (4, "w"))),
        *((a.store_near(size, d, n, near), f"stur{suffix} {'x' if size == 8 else 'w'}{d}, [x{n}, #{near}]")
          for size, suffix in ((1, "b"), (2, "h"), (4, ""), (8, ""))),
        (a.load_at(d, n, index), f"ldr x{d}, [x{n}, #{8 * index}]"), (a.store_at(d, n, index), f"str x{d}, [x{n}, #{8 * index}]"),
        (a.store_at(a.ZERO, a.SP, index), f"str xzr, [sp, #{8 * index}]"),
        (a.pair("stp", d, d2, half), f"stp x{d}, x{d2}, [sp, #{8 * half}]"),
        (a.pair("ldp", d, d2, half), f"ldp x{d}, x{d2}, [sp, #{8 * half}]"),
        (a.pair("push", d, d2, half), f"stp x{d}, x{d2}, [sp, #{8 * half}]!"),
        (a.pair("pop", d, d2, half), f"ldp x{d}, x{d2}, [sp], #{8 * half}"),
        (a.push(d), f"str x{d}, [sp, #-16]!"), (a.pop(d), f"ldr x{d}, [sp], #16"),
        *((a.aimed(a.branch_if(condition), distance), f"b.{name} . + {4 * distance}") for condition, name in (
            (a.EQ, "eq"), (a.NE, "ne"), (a.HS, "hs"), (a.LO, "lo"), (a.HI, "hi"), (a.LS, "ls"), (a.GE, "ge"), (a.LT, "lt"),
            (a.GT, "gt"), (a.LE, "le"),
        ) for distance in (random_.choice((-(1 << 18), (1 << 18) - 1, random_.randint(-(1 << 18), (1 << 18) - 1))),)),
        (a.aimed(a.cbz(d, wide), -5), f"cbz {r}{d}, . - 20"), (a.aimed(a.cbnz(d, wide), 5), f"cbnz {r}{d}, . + 20"),
        (a.aimed(a.opposite(a.branch_if(a.HI)), 2), "b.ls . + 8"), (a.aimed(a.opposite(a.cbz(d, wide)), 2), f"cbnz {r}{d}, . + 8"),
        (a.aimed(a.B, -(1 << 25)), f"b . - {1 << 27}"), (a.aimed(a.BL, (1 << 25) - 1), f"bl . + {(1 << 27) - 4}"),
        (a.br(n), f"br x{n}"), (a.blr(n), f"blr x{n}"), (a.RET, "ret"), (a.NOP, "nop"), (a.DSB_ISH, "dsb ish"), (a.ISB, "isb"),
        (a.clean_data(n), f"dc cvau, x{n}"), (a.forget_instructions(n), f"ic ivau, x{n}"),
    ]  # fmt: skip


def test_encodings(tmp_path: Path) -> None:
    random_ = random.Random(1)
    rows = [row for _ in range(60) for row in written(random_)]
    found = assembled([text for _, text in rows], tmp_path)
    assert len(found) == len(rows)
    for (word, text), wanted in zip(rows, found, strict=True):
        assert f"{word:08x}" == f"{wanted:08x}", text


def immediates(bits: int) -> set[int]:
    """Every logical immediate of so many bits."""
    found = set()
    size = 2
    while size <= bits:
        for ones in range(1, size):
            for turn in range(size):
                run = (1 << ones) - 1
                element = (run << turn | run >> size - turn) & (1 << size) - 1
                found.add(sum(element << at for at in range(0, bits, size)))
        size *= 2
    return found


def test_every_logical_immediate(tmp_path: Path) -> None:
    rows = []
    for bits, register in ((64, "x"), (32, "w")):
        for at, value in enumerate(sorted(immediates(bits))):
            fields = a.bitmask(value, bits)
            assert fields is not None, hex(value)
            op, name = ((a.AND, "and"), (a.ORR, "orr"), (a.EOR, "eor"), (a.ANDS, "ands"))[at % 4]
            rows.append((a.logical_imm(op, 3, 5, fields, bits == 64), f"{name} {register}3, {register}5, #{value:#x}"))
    assert len(rows) == 5334 + 1302  # as many as there are
    for (word, text), wanted in zip(rows, assembled([text for _, text in rows], tmp_path), strict=True):
        assert f"{word:08x}" == f"{wanted:08x}", text


def test_what_is_no_logical_immediate() -> None:
    random_, known = random.Random(2), {bits: immediates(bits) for bits in (32, 64)}
    for _ in range(5000):
        for bits in (32, 64):
            value = random_.getrandbits(bits) & random_.getrandbits(bits) | random_.getrandbits(8)
            assert (a.bitmask(value, bits) is not None) == (value in known[bits]), hex(value)
    for bits in (32, 64):
        assert a.bitmask(0, bits) is None
        assert a.bitmask(-1, bits) is None


def loaded(code: list[int]) -> int:
    """What a sequence of moves leaves in x3."""
    value = 0
    by_fields = {a.bitmask(each, 64): each for each in immediates(64)}
    for word in code:
        assert word & 31 == 3
        half, part = (word >> 21 & 3) * 16, word >> 5 & 0xFFFF
        kind = word & 0xFF800000
        if kind == 0xD2800000:
            value = part << half
        elif kind == 0x92800000:
            value = ~(part << half) & M64
        elif kind == 0xF2800000:
            value = value & ~(0xFFFF << half) | part << half
        else:
            assert word & 0xFF8003E0 == 0xB20003E0  # orr x3, xzr, #...
            value = by_fields[word & 0x7FFC00]
    return value


def test_loads_of_constants() -> None:
    random_ = random.Random(3)
    parts = (0, 0xFFFF, 0x5555, 1, 0x8000, 0x00FF, 0xABCD)
    values = [sum(random_.choice(parts) << 16 * at for at in range(4)) for _ in range(300)]
    for value in [0, 1, -1, -2, 0xFFFF, 0x10000, 1 << 31, -(1 << 31), 1 << 63, 0x7FFFFFFFFFFFFFFF, *values]:
        code = a.mov_imm(3, value)
        assert loaded(code) == value & M64, hex(value)
        assert len(code) <= 4
    for value in (0, 7, 0x12340000, -1, -8, 0xFFFFFFFF, 0x0101010101010101, -(1 << 31)):
        assert len(a.mov_imm(3, value)) == 1, hex(value)


@pytest.fixture(scope="module")
def layout() -> Layout:
    made = Layout(LARGEST, -CONTROL - MAX_FUNCTIONS * 8, 0x123456789ABC, OPS_STACK, frozenset())
    _, places = runtime(made)
    made.unwind, made.python_helper = 0x700000000000 + places["unwind"], 0x700000000000 + places["python_helper"]
    return made


def jumping(distance: int, back: bool) -> Code:
    """A program whose jump leads over so many loads of four instructions."""
    load = [Op(isa.LD_IMM64, 2, 0, 0, 0x1111222233334444), None] * distance
    there = Op(isa.BPF_JMP | isa.BPF_JGT, 1, 0, 2 * distance, 5)
    body = [there, *load] if not back else [*load, there._replace(offset=-2 * distance - 1)]
    code = Code.decode("far", b"", [(0, "far")])
    code.ops = [*body, Op(isa.BPF_ALU64 | isa.BPF_MOV, 0, 0, 0, 0), Op(isa.EXIT, 0, 0, 0, 0)]
    code.functions[0].end = len(code.ops)
    check_form(code)
    return code


def leads_to(machine: list[int], place: int) -> tuple[int, int]:
    """(condition, target) of the conditional branch at a place, which may go around a farther one."""
    word = machine[place]
    assert word & 0xFF000010 == 0x54000000
    distance = (word >> 5 & 0x7FFFF ^ 1 << 18) - (1 << 18)
    if distance == 2 and machine[place + 1] & 0xFC000000 == a.B:
        far = (machine[place + 1] & 0x3FFFFFF ^ 1 << 25) - (1 << 25)
        return word & 15 ^ 1, place + 1 + far
    return word & 15, place + distance


# A short program's branches are plain; one over 1 MiB of code is not reached by them. Offsets have 16 bits.
@pytest.mark.parametrize("distance", [10, 16383])
@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("far", [False, True])
def test_branches_lead_where_they_should(layout: Layout, distance: int, back: bool, far: bool) -> None:
    code = jumping(distance, back)
    made = Emitter(code, layout, {}, {}, 1, far)
    made.run()
    slot = next(
        slot for slot, op in enumerate(code.ops) if op is not None and op.opcode & 0xF7 == isa.BPF_JMP | isa.BPF_JGT
    )
    target = slot + 1 + code.ops[slot].offset  # type: ignore[union-attr]
    place = made.places[slot] + 1  # after the comparison
    assert leads_to(made.out, place) == (a.HI, made.places[target])
    assert (made.out[place + 1] & 0xFC000000 == a.B) == far


def test_programs_too_large_for_a_branch(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a conditional branch reaches is emitted with others; more than those reach is refused."""
    code = jumping(10, False)
    short, _ = emit(code, layout, {}, {}, 1)
    reach = [30]

    def aimed(word: int, distance: int) -> int:
        if word & 0x7C000000 != a.B and abs(distance) > reach[0]:
            raise OverflowError
        if word & 0x7C000000 == a.B and reach[0] == 0:
            raise OverflowError
        return a.aimed(word, distance)

    monkeypatch.setattr("bpf2py.engine.code.aarch64.emit.aimed", aimed)
    long, _ = emit(code, layout, {}, {}, 1)
    assert len(long) > len(short)
    reach[0] = 0
    with pytest.raises(EncodeError, match=r"far is too large: .* 128 MiB"):
        emit(code, layout, {}, {}, 1)


def test_the_library_is_emitted_anywhere(layout: Layout) -> None:
    """Every function of it, the same each time, without a word that only this machine could know."""
    for name in library_names():
        code = library_code(name)
        library = dict.fromkeys(library_names(), 16)
        first, entries = emit(code, layout, {}, library, 1)
        assert (first, entries) == emit(code, layout, {}, library, 1)
        assert all(offset % 16 == 0 for offset in entries.values())


def test_a_thunk_sets_arguments_and_goes_to_the_operation() -> None:
    code = words(thunk(0x7FFF12340000, 0x7E0000000000, 0x7D0000001000, (1, 2, 3)))
    assert code[:3] == [word for register in range(3) for word in a.mov_imm(register, register + 1)]
    assert code[3:-1] == [*a.mov_imm(16, 0x7D0000001000), *a.mov_imm(17, 0x7E0000000000), *a.mov_imm(9, 0x7FFF12340000)]
    assert code[-1] == a.br(9)
