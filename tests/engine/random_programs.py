"""Random programs that the kernel's verifier accepts: arithmetic, jumps and memory; and running them there."""

from __future__ import annotations

import ctypes
import os
import random
import struct

from bpf2py.isa import opcodes as isa
from bpf2py.isa.instruction import Instruction, encode
from bpf2py.kernel.prog_test_run import run
from bpf2py.kernel.syscall import address_of_bytes, bpf
from bpf2py.uapi.commands import Command
from bpf2py.uapi.program_types import ProgramType

REGISTERS = (0, 2, 3, 4, 5, 7, 8, 9)  # R6 keeps the context
CONTEXT = 8 * len(REGISTERS) + 64
BINARY = (isa.BPF_ADD, isa.BPF_SUB, isa.BPF_MUL, isa.BPF_OR, isa.BPF_AND, isa.BPF_XOR, isa.BPF_MOV)
SHIFTS = (isa.BPF_LSH, isa.BPF_RSH, isa.BPF_ARSH)
JUMPS = (
    isa.BPF_JEQ, isa.BPF_JNE, isa.BPF_JGT, isa.BPF_JGE, isa.BPF_JLT, isa.BPF_JLE,
    isa.BPF_JSGT, isa.BPF_JSGE, isa.BPF_JSLT, isa.BPF_JSLE, isa.BPF_JSET,
)  # fmt: skip
SIZES = {isa.BPF_B: 1, isa.BPF_H: 2, isa.BPF_W: 4, isa.BPF_DW: 8}
NUMBERS = (0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF)
IMMEDIATES = (0, 1, -1, 2, 127, 128, -128, -129, 0x7FFFFFFF, -0x80000000)


def number(random_: random.Random) -> int:
    """64 bits, often at an edge."""
    return (
        random_.choice(NUMBERS)
        if random_.random() < 0.5
        else random_.getrandbits(random_.choice((8, 16, 31, 32, 33, 63, 64)))
    )


def immediate(random_: random.Random) -> int:
    """32 bits, signed, often at an edge."""
    return random_.choice(IMMEDIATES) if random_.random() < 0.5 else random_.randint(-(1 << 31), (1 << 31) - 1)


def _arithmetic(random_: random.Random, v4: bool) -> Instruction:
    dst, src = random_.choice(REGISTERS), random_.choice(REGISTERS)
    kind = random_.choice((isa.BPF_ALU, isa.BPF_ALU64))
    choice = random_.random()
    if choice < 0.5:
        operation = random_.choice(BINARY)
        if random_.random() < 0.5:
            return Instruction(kind | operation | isa.BPF_K, dst, 0, 0, immediate(random_))
        offset = 0
        if operation == isa.BPF_MOV and v4 and random_.random() < 0.5:
            offset = random_.choice((8, 16) if kind == isa.BPF_ALU else (8, 16, 32))
        return Instruction(kind | operation | isa.BPF_X, dst, src, offset, 0)
    if choice < 0.65:
        operation = random_.choice(SHIFTS)
        bits = 64 if kind == isa.BPF_ALU64 else 32
        if random_.random() < 0.5:
            return Instruction(kind | operation | isa.BPF_K, dst, 0, 0, random_.randrange(bits))
        return Instruction(kind | operation | isa.BPF_X, dst, src, 0, 0)
    if choice < 0.85:
        operation = random_.choice((isa.BPF_DIV, isa.BPF_MOD))
        offset = int(v4 and random_.random() < 0.5)
        if random_.random() < 0.5:
            return Instruction(kind | operation | isa.BPF_K, dst, 0, offset, immediate(random_) or 1)
        return Instruction(kind | operation | isa.BPF_X, dst, src, offset, 0)
    if choice < 0.9:
        return Instruction(kind | isa.BPF_NEG, dst, 0, 0, 0)
    if v4 and random_.random() < 0.3:
        return Instruction(isa.BPF_ALU64 | isa.BPF_END, dst, 0, 0, random_.choice((16, 32, 64)))
    return Instruction(
        isa.BPF_ALU | isa.BPF_END | random_.choice((isa.BPF_TO_LE, isa.BPF_TO_BE)),
        dst,
        0,
        0,
        random_.choice((16, 32, 64)),
    )


def _memory(random_: random.Random, v4: bool) -> list[Instruction]:
    """A store to the stack, a load from it, or an atomic operation on it; the 64 bytes below R10 are initialised."""
    size = random_.choice(tuple(SIZES))
    offset = -SIZES[size] * random_.randint(1, 64 // SIZES[size])
    dst, src = random_.choice(REGISTERS), random_.choice(REGISTERS)
    choice = random_.random()
    if choice < 0.3:
        mode = isa.BPF_MEMSX if v4 and size != isa.BPF_DW and random_.random() < 0.5 else isa.BPF_MEM
        return [Instruction(isa.BPF_LDX | mode | size, dst, 10, offset, 0)]
    if choice < 0.5:
        return [Instruction(isa.BPF_STX | isa.BPF_MEM | size, 10, src, offset, 0)]
    if choice < 0.65:
        return [Instruction(isa.BPF_ST | isa.BPF_MEM | size, 10, 0, offset, immediate(random_))]
    size = random_.choice((isa.BPF_W, isa.BPF_DW))
    offset = -SIZES[size] * random_.randint(1, 64 // SIZES[size])
    operation = random_.choice((isa.BPF_ADD, isa.BPF_OR, isa.BPF_AND, isa.BPF_XOR, isa.BPF_XCHG, isa.BPF_CMPXCHG))
    if operation < isa.BPF_XCHG and random_.random() < 0.6:
        operation |= isa.BPF_FETCH
    atomic = Instruction(isa.BPF_STX | isa.BPF_ATOMIC | size, 10, src, offset, operation)
    if operation == isa.BPF_CMPXCHG and size == isa.BPF_W:
        # Linux 6.18 can miss that R0 must be extended when it prunes a path: say it, as compilers do.
        return [atomic, Instruction(isa.BPF_ALU | isa.BPF_MOV | isa.BPF_X, 0, 0, 0, 0)]
    return [atomic]


def program(random_: random.Random, length: int, v4: bool = True) -> bytes:
    """A program for a context of CONTEXT bytes, in which it leaves its registers and stack."""
    code = [Instruction(isa.BPF_ALU64 | isa.BPF_MOV | isa.BPF_X, 6, 1, 0, 0)]
    code += [Instruction.load_imm64(register, number(random_)) for register in REGISTERS]
    for at in range(8):
        code.append(Instruction(isa.BPF_STX | isa.BPF_MEM | isa.BPF_DW, 10, random_.choice(REGISTERS), -8 * at - 8, 0))
    blocks: list[list[Instruction]] = []
    for _ in range(length):
        choice = random_.random()
        if choice < 0.6:
            blocks.append([_arithmetic(random_, v4)])
        elif choice < 0.8:
            blocks.append(_memory(random_, v4))
        else:
            kind = random_.choice((isa.BPF_JMP, isa.BPF_JMP32))
            source, dst, src = (
                random_.choice((isa.BPF_K, isa.BPF_X)),
                random_.choice(REGISTERS),
                random_.choice(REGISTERS),
            )
            distance = random_.randint(0, 6)
            blocks.append(
                [
                    Instruction(
                        kind | random_.choice(JUMPS) | source,
                        dst,
                        src if source else 0,
                        distance,
                        0 if source else immediate(random_),
                    )
                ]
            )
    for at, block in enumerate(blocks):  # distances are in blocks of one instruction each: keep them inside
        first = block[0]
        if first.opcode & 7 in (isa.BPF_JMP, isa.BPF_JMP32):
            block[0] = first._replace(offset=min(first.offset, len(blocks) - at - 1))
    code += [instruction for block in blocks for instruction in block]
    for at, register in enumerate(REGISTERS):
        code.append(Instruction(isa.BPF_STX | isa.BPF_MEM | isa.BPF_DW, 6, register, 8 * at, 0))
    for at in range(8):
        code.append(Instruction(isa.BPF_LDX | isa.BPF_MEM | isa.BPF_DW, 2, 10, -8 * at - 8, 0))
        code.append(Instruction(isa.BPF_STX | isa.BPF_MEM | isa.BPF_DW, 6, 2, 8 * (len(REGISTERS) + at), 0))
    code += [Instruction(isa.BPF_ALU64 | isa.BPF_MOV | isa.BPF_K, 0, 0, 0, 7), Instruction(isa.EXIT)]
    return encode(code)


def load_in_kernel(code: bytes) -> int:
    """The descriptor of the code as a system call program, or -errno."""
    license_text = b"GPL\0"
    attr = struct.pack(
        "<IIQQIIQII",
        ProgramType.SYSCALL,
        len(code) // 8,
        address_of_bytes(code),
        address_of_bytes(license_text),
        0,
        0,
        0,
        0,
        16,
    )
    return bpf(Command.PROG_LOAD, attr)


def verifier_log(code: bytes) -> str:
    """Why the kernel refuses it."""
    log = ctypes.create_string_buffer(1 << 20)
    license_text = b"GPL\0"
    attr = struct.pack(
        "<IIQQIIQII", ProgramType.SYSCALL, len(code) // 8, address_of_bytes(code), address_of_bytes(license_text), 1, len(log),
        ctypes.addressof(log), 0, 16,
    )  # fmt: skip
    result = bpf(Command.PROG_LOAD, attr)
    if result >= 0:
        os.close(result)
    return log.value.decode()


def run_in_kernel(fd: int) -> bytes:
    """What the program leaves in its context."""
    return run("random program", fd, b"", bytes(CONTEXT)).context
