from __future__ import annotations

import itertools
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpf2py.isa.disasm import Line, disassemble, format_instruction
from bpf2py.isa.instruction import Instruction, decode, encode
from bpf2py.toolchain.compiler import compile

MACROS = Path(__file__).parents[1] / "toolchain" / "macros"


def text(code: str) -> str:
    lines = list(disassemble(bytes.fromhex(code)))
    assert len(lines) == 1
    return lines[0].text


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        # arithmetic
        ("0f 21 00 00 00 00 00 00", "r1 += r2"),
        ("04 01 00 00 ff ff ff ff", "w1 += -1"),
        ("37 03 00 00 05 00 00 00", "r3 /= 5"),
        ("3f 21 01 00 00 00 00 00", "r1 s/= r2"),
        ("94 01 01 00 05 00 00 00", "w1 s%= 5"),
        ("c7 01 00 00 20 00 00 00", "r1 s>>= 32"),
        ("87 01 00 00 00 00 00 00", "r1 = -r1"),
        ("84 01 00 00 00 00 00 00", "w1 = -w1"),
        ("bf a1 00 00 00 00 00 00", "r1 = r10"),
        ("b4 00 00 00 07 00 00 00", "w0 = 7"),
        ("bf 21 08 00 00 00 00 00", "r1 = (s8)r2"),
        ("bc 21 10 00 00 00 00 00", "w1 = (s16)w2"),
        ("bf 21 20 00 00 00 00 00", "r1 = (s32)r2"),
        ("bf 21 01 00 00 00 01 00", "r1 = addr_space_cast(r2, 1, 0)"),
        ("d4 01 00 00 20 00 00 00", "r1 = le32 r1"),
        ("dc 01 00 00 40 00 00 00", "r1 = be64 r1"),
        ("d7 01 00 00 10 00 00 00", "r1 = bswap16 r1"),
        # memory
        ("61 21 08 00 00 00 00 00", "r1 = *(u32 *)(r2 + 8)"),
        ("79 a1 f8 ff 00 00 00 00", "r1 = *(u64 *)(r10 - 8)"),
        ("91 21 03 00 00 00 00 00", "r1 = *(s8 *)(r2 + 3)"),
        ("81 21 00 00 00 00 00 00", "r1 = *(s32 *)(r2 + 0)"),
        ("6a 01 08 00 05 00 00 00", "*(u16 *)(r1 + 8) = 5"),
        ("73 21 00 80 00 00 00 00", "*(u8 *)(r1 - 32768) = r2"),
        ("30 00 00 00 10 00 00 00", "r0 = *(u8 *)skb[16]"),
        ("48 10 00 00 00 00 00 00", "r0 = *(u16 *)skb[r1]"),
        ("40 10 00 00 04 00 00 00", "r0 = *(u32 *)skb[r1 + 4]"),
        # atomics
        ("db 21 f8 ff 00 00 00 00", "lock *(u64 *)(r1 - 8) += r2"),
        ("c3 21 00 00 a0 00 00 00", "lock *(u32 *)(r1 + 0) ^= w2"),
        ("db 21 08 00 01 00 00 00", "r2 = atomic_fetch_add((u64 *)(r1 + 8), r2)"),
        ("c3 21 08 00 51 00 00 00", "w2 = atomic_fetch_and((u32 *)(r1 + 8), w2)"),
        ("db 21 00 00 e1 00 00 00", "r2 = xchg_64(r1 + 0, r2)"),
        ("c3 21 00 00 f1 00 00 00", "w0 = cmpxchg32_32(r1 + 0, w0, w2)"),
        ("db 21 08 00 00 01 00 00", "r1 = load_acquire((u64 *)(r2 + 8))"),
        ("d3 21 08 00 00 01 00 00", "w1 = load_acquire((u8 *)(r2 + 8))"),
        ("cb 21 08 00 10 01 00 00", "store_release((u16 *)(r1 + 8), w2)"),
        # jumps and calls
        ("05 00 03 00 00 00 00 00", "goto +3"),
        ("06 00 00 00 70 11 01 00", "gotol +70000"),
        ("0d 01 00 00 00 00 00 00", "gotox r1"),
        ("e5 00 02 00 00 00 00 00", "may_goto +2"),
        ("65 01 03 00 05 00 00 00", "if r1 s> 5 goto +3"),
        ("5e 21 fe ff 00 00 00 00", "if w1 != w2 goto -2"),
        ("45 01 00 00 ff 00 00 00", "if r1 & 255 goto +0"),
        ("85 00 00 00 01 00 00 00", "call bpf_map_lookup_elem#1"),
        ("85 00 00 00 ff ff 00 00", "call bpf_helper_65535#65535"),
        ("85 10 00 00 05 00 00 00", "call +5"),
        ("85 20 00 00 d2 04 00 00", "call kfunc#1234"),
        ("85 20 02 00 d2 04 00 00", "call kfunc#1234 (module 2)"),
        ("8d 03 00 00 00 00 00 00", "callx r3"),
        ("95 00 00 00 00 00 00 00", "exit"),
        # loads of 64 bits
        ("18 01 00 00 88 77 66 55 00 00 00 00 44 33 22 11", "r1 = 0x1122334455667788 ll"),
        ("18 11 00 00 05 00 00 00 00 00 00 00 00 00 00 00", "r1 = map_fd(5)"),
        ("18 21 00 00 05 00 00 00 00 00 00 00 10 00 00 00", "r1 = map_value(fd 5) + 16"),
        ("18 31 00 00 05 00 00 00 00 00 00 00 00 00 00 00", "r1 = ksym(btf_id 5)"),
        ("18 31 00 00 05 00 00 00 00 00 00 00 09 00 00 00", "r1 = ksym(btf_id 5, module fd 9)"),
        ("18 41 00 00 0c 00 00 00 00 00 00 00 00 00 00 00", "r1 = func(+12)"),
        ("18 51 00 00 02 00 00 00 00 00 00 00 00 00 00 00", "r1 = map_idx(2)"),
        ("18 61 00 00 02 00 00 00 00 00 00 00 08 00 00 00", "r1 = map_value(idx 2) + 8"),
        # none of the instruction set: unknown, or with a reserved field in use
        ("ff 00 00 00 00 00 00 00", ".bytes ff 00 00 00 00 00 00 00"),
        ("b7 0b 00 00 00 00 00 00", ".bytes b7 0b 00 00 00 00 00 00"),
        ("0f 21 00 00 01 00 00 00", ".bytes 0f 21 00 00 01 00 00 00"),
        ("07 21 00 00 01 00 00 00", ".bytes 07 21 00 00 01 00 00 00"),
        ("99 21 00 00 00 00 00 00", ".bytes 99 21 00 00 00 00 00 00"),
        ("d4 01 00 00 08 00 00 00", ".bytes d4 01 00 00 08 00 00 00"),
        ("85 30 00 00 01 00 00 00", ".bytes 85 30 00 00 01 00 00 00"),
        ("cb 21 00 00 00 00 00 00", ".bytes cb 21 00 00 00 00 00 00"),
        ("18 01 00 00 00 00 00 00", ".bytes 18 01 00 00 00 00 00 00"),
        ("95 00 00", ".bytes 95 00 00"),
    ],
)
def test_texts(code: str, expected: str) -> None:
    assert text(code) == expected


def test_slots_and_targets() -> None:
    code = encode(
        [
            Instruction(0x55, 1, 0, 3, 0),
            Instruction.load_imm64(1, 0),
            Instruction(0x85, 0, 1, 0, -4),
            Instruction.load_imm64(2, 1, src=4),
            Instruction(0x06, 0, 0, 0, -7),
            Instruction(0x95),
        ]
    )
    lines = list(disassemble(code))
    assert [(line.slot, line.target) for line in lines] == [(0, 4), (1, None), (3, 0), (4, 6), (6, 0), (7, None)]
    assert b"".join(line.raw for line in lines) == code
    assert str(lines[-1]) == "   7: exit"


def test_symbols_and_kernel_functions() -> None:
    code = encode(
        [
            Instruction.load_imm64(1, 0),
            Instruction(0x85, 0, 1, 0, -1),
            Instruction(0x85, 0, 2, 0, -1),
            Instruction(0x85, 0, 2, 0, 7),
        ]
    )
    symbols = {0: "counts", 2: "helper_fn", 3: "bpf_iter_num_new"}
    lines = list(disassemble(code, symbols=symbols, kfuncs={7: "bpf_rcu_read_lock"}.get))
    assert [line.text for line in lines] == [
        "r1 = counts ll",
        "call helper_fn",
        "call bpf_iter_num_new",
        "call bpf_rcu_read_lock#7",
    ]
    assert format_instruction(decode(code)[0], "counts") == "r1 = counts ll"


@given(st.binary(max_size=200))
def test_any_bytes_are_listed(code: bytes) -> None:
    lines = list(disassemble(code))
    assert b"".join(line.raw for line in lines) == code
    position = 0
    for line in lines:
        assert line.slot * 8 == position
        position += len(line.raw)


def disassembled_by_llvm(path: Path) -> list[str]:
    tool = next(filter(None, (shutil.which(f"llvm-objdump-{number}") for number in range(39, 18, -1))), None)
    if tool is None:
        pytest.skip("needs llvm-objdump 19 or newer")
    flags = ["-d", "--mcpu=v4", "--no-print-imm-hex", "--no-show-raw-insn"]
    done = subprocess.run([tool, *flags, str(path)], capture_output=True, text=True, check=True)
    return [match[1].strip() for match in re.finditer(r"^ *\d+:\t(.*)$", done.stdout, re.MULTILINE)]


def as_llvm_writes(line: Line) -> str:
    written = line.text
    if line.raw[0] == 0x18:  # it knows no pseudo loads, and writes decimal numbers
        return f"r{line.raw[1] & 15} = {struct.unpack('<q', line.raw[4:8] + line.raw[12:16])[0]} ll"
    if line.raw[0] in (0x61, 0x69, 0x71):  # it shows that a narrow load clears the upper half
        return "w" + written[1:]
    if line.raw[0] in (0x63, 0x6B, 0x73):
        return re.sub(r"= r(\d+)$", r"= w\1", written)
    return re.sub(r"^call (\+|.*#)(-?\d+)( \(module -?\d+\))?$", r"call \2", written)


def assert_as_llvm(path: Path, code: bytes) -> None:
    ours = [as_llvm_writes(line) for line in disassemble(code)]
    theirs = [re.sub(r" <[^<>]*>$", "", line) for line in disassembled_by_llvm(path)]  # without where a jump goes
    assert ours == theirs


def object_of(code: bytes, tmp_path: Path) -> Path:
    quads = ", ".join(f"{value:#x}" for (value,) in struct.iter_unpack("<Q", code))
    path = tmp_path / "code.o"
    path.write_bytes(compile(f'__asm__(".text\\n.quad {quads}");\n\n', cflags=["-mcpu=v4"]))
    return path


def every_instruction() -> list[Instruction]:
    """One of each opcode with each meaning its other fields can give it, as LLVM 19 knows them."""
    found = []
    for opcode, src, offset, imm in itertools.product(
        range(256),
        (0, 1, 2),
        (0, 1, 8, 16, 32, -4),
        (0, 1, 16, 32, 64, 0x40, 0x50, 0xA0, 0x41, 0x51, 0xA1, 0xE1, 0xF1, -7),
    ):
        insn = Instruction(opcode, 0 if opcode in (0x05, 0x06, 0x0D, 0x85, 0xE5) else 3, src, offset, imm)
        written = format_instruction(insn)
        # LLVM 19 has no indirect goto, and its notation for packet loads leaves the displacement out.
        if not written.startswith((".bytes", "gotox")) and "skb[r" not in written:
            found.append(insn)
    return found


def test_every_opcode_as_llvm_writes_it(tmp_path: Path) -> None:
    program = every_instruction()
    assert len({instruction.opcode for instruction in program}) > 100
    code = encode(program)
    assert_as_llvm(object_of(code, tmp_path), code)


@pytest.mark.parametrize("source", sorted(MACROS.glob("*.bpf.c")), ids=lambda path: str(path.name).partition(".")[0])
def test_compiled_code_as_llvm_writes_it(source: Path, tmp_path: Path) -> None:
    data = compile(source, vmlinux=MACROS / "vmlinux_small.h", cflags=["-mcpu=v4"])
    (offset,) = struct.unpack_from("<Q", data, 40)
    size, count, _ = struct.unpack_from("<HHH", data, 58)
    code = b""
    for index in range(count):
        _, kind, flags, _, start, length = struct.unpack_from("<IIQQQQ", data, offset + size * index)
        if kind == 1 and flags & 4:  # SHT_PROGBITS, SHF_EXECINSTR
            code += data[start : start + length]
    path = tmp_path / "code.o"
    path.write_bytes(data)
    assert_as_llvm(path, code)
