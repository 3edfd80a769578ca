"""Raw instructions as programs of an engine, past the checks of values: what a random program is tried with."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from bpf2py.engine import Engine
from bpf2py.engine.code.check import CheckError, check_form
from bpf2py.engine.code.code import Code, Op
from bpf2py.engine.code.control import Fault, Slot
from bpf2py.engine.helpers import native_name, target_of
from bpf2py.engine.run import Run
from bpf2py.isa import opcodes as isa
from bpf2py.isa.helpers import HELPERS
from bpf2py.isa.instruction import Instruction, encode

FUEL = 20_000
HELPER_NUMBERS = tuple(number for number, helper in HELPERS.items() if target_of(helper.name) is not None)


class RawProgram:
    """Stands for a loaded program: enough of it to be executed."""

    fd = 0
    type = 31  # SYSCALL
    object_spec = SimpleNamespace(types=None)
    spec = SimpleNamespace(target="")

    def __init__(self, engine: Engine, code: bytes | list[Op | None], starts: tuple[int, ...] = (0,)) -> None:
        """Raises CheckError for code that is not well formed."""
        self.engine = engine
        self.name = "raw"
        if isinstance(code, bytes):
            self.code = Code.decode("raw", code, [(8 * start, f"f{start}") for start in starts])
        check_form(self.code)
        for slot, op in enumerate(self.code.ops):
            if op is None or op.opcode != isa.CALL or op.src == isa.BPF_PSEUDO_CALL:
                continue
            helper = HELPERS.get(op.imm)
            target = target_of(helper.name, engine.code.is_native) if helper is not None and op.src == 0 else None
            if target is None:
                raise CheckError(slot, f"no such helper: {op.imm}")
            self.code.helpers[slot] = target
            for name in {target.name} if target.kind in ("native", "quick") else set():
                engine.expect(name)
        engine.expect("prog_array_function")
        for function in self.code.functions:
            function.number = engine.new_number()
        self.unit = engine.next_unit()
        self.entry = engine.code.add(self.code, self.unit)[0]
        engine.units[self.unit] = self  # type: ignore[assignment]

    def run(self, context: int) -> tuple[int, int]:
        """(result, fault or 0)."""
        engine = self.engine
        try:
            return engine.execute(self, context), 0  # type: ignore[arg-type]
        except Exception as error:
            return 0, engine.memory.control[Slot.FAULT] or _number(error)

    def ran(self, _engine: Engine) -> None:
        """Nothing is counted."""

    def source_line(self, _slot: int) -> None:
        """There is no source."""
        return

    def disassembled(self, _slot: int) -> str:
        """No text, which takes long."""
        return ""

    def close(self) -> None:
        """Forget it."""
        self.engine.code.remove(self.unit, self.code, self.engine.gone())
        self.engine.units.pop(self.unit, None)
        for function in self.code.functions:
            self.engine.free_number(function.number)


def _number(error: Exception) -> int:
    from bpf2py.errors import BpfError

    if not isinstance(error, BpfError):
        raise error
    return Fault.PYTHON


OPCODES = tuple(range(256))
COMMON = tuple(
    [isa.BPF_ALU64 | op | source for op in range(0, 0xE0, 0x10) for source in (0, 8)]
    + [isa.BPF_ALU | op | source for op in range(0, 0xE0, 0x10) for source in (0, 8)]
    + [isa.BPF_LDX | isa.BPF_MEM | size for size in (0, 8, 16, 24)]
    + [isa.BPF_STX | isa.BPF_MEM | size for size in (0, 8, 16, 24)]
    + [isa.BPF_ST | isa.BPF_MEM | size for size in (0, 8, 16, 24)]
    + [isa.BPF_STX | isa.BPF_ATOMIC | size for size in (0, 24)]
    + [isa.BPF_LDX | isa.BPF_MEMSX | size for size in (0, 8, 16)]
    + [isa.CALL, isa.CALLX, isa.CALL, isa.CALL] * 3
    + [
        kind | op | source
        for kind in (5, 6)
        for op in range(0x10, 0xE0, 0x10)
        if op not in (0x80, 0x90)
        for source in (0, 8)
    ]
    + [5, 6, 0xE5]
)
ATOMICS = (0, 1, 0x40, 0x41, 0x50, 0x51, 0xA0, 0xA1, 0xE1, 0xF1, 0x100, 0x110)


def anything(random_: random.Random, addresses: tuple[int, ...]) -> bytes:
    """A random program that is often well formed: any operation on any register, wild jumps, calls and pointers."""
    length = random_.randint(1, 40)
    code: list[Instruction] = []
    for register in range(10):
        value = (
            random_.choice(addresses) + random_.randint(-16, 16) if random_.random() < 0.7 else random_.getrandbits(64)
        )
        code.append(Instruction.load_imm64(register, value & (1 << 64) - 1))
    body = []
    for at in range(length):
        opcode = random_.choice(COMMON) if random_.random() < 0.998 else random_.choice(OPCODES)
        dst = random_.randrange(10)
        src = random_.randrange(11)
        offset = random_.choice((0, 0, -8, -16, 8, random_.randint(-64, 64), random_.randint(-32768, 32767)))
        imm = random_.choice((0, 1, -1, 8, 16, random_.getrandbits(31), -random_.getrandbits(31)))
        kind = opcode & 7
        if kind in (isa.BPF_ALU, isa.BPF_ALU64):
            offset = 0
            imm, src = (0, src) if opcode & isa.BPF_X else (imm, 0)
            if opcode & 0xF0 == isa.BPF_END:
                src, imm = 0, random_.choice((16, 32, 64))
                opcode &= ~8 if kind == isa.BPF_ALU64 else 0xFF
            elif opcode & 0xF0 == isa.BPF_NEG:
                src = imm = 0
                opcode &= ~8
            elif opcode & 0xF0 in (isa.BPF_DIV, isa.BPF_MOD):
                offset = random_.randint(0, 1)
                imm = imm or (0 if opcode & isa.BPF_X else 3)
            elif opcode & 0xF0 == isa.BPF_MOV and opcode & isa.BPF_X:
                offset = random_.choice((0, 8, 16) if kind == isa.BPF_ALU else (0, 8, 16, 32))
            if opcode & 0xF0 in (isa.BPF_LSH, isa.BPF_RSH, isa.BPF_ARSH) and not opcode & isa.BPF_X:
                imm &= 31
        elif kind == isa.BPF_LDX:
            imm = 0
        elif kind == isa.BPF_ST:
            src = 0
        elif kind == isa.BPF_STX:
            imm = random_.choice(ATOMICS) if opcode & 0xE0 == isa.BPF_ATOMIC else 0
        elif opcode == isa.CALL:
            dst = src = offset = 0
            imm = random_.choice(HELPER_NUMBERS)
        elif opcode == isa.CALLX:
            src = offset = imm = 0
        elif opcode == isa.BPF_JMP | isa.BPF_JCOND:
            dst = src = imm = 0
            offset = random_.randint(-at - 1, length - at)
        elif kind in (isa.BPF_JMP, isa.BPF_JMP32):
            offset = random_.randint(-at - 1, length - at)
            imm, src = (0, src) if opcode & isa.BPF_X else (imm, 0)
            if opcode & 0xF0 in (isa.BPF_JA, isa.BPF_EXIT):
                dst = src = imm = 0
            if opcode == isa.BPF_JMP32 | isa.BPF_JA:
                offset, imm = 0, offset
        if opcode == isa.LD_IMM64:
            body.append(Instruction.load_imm64(dst, random_.getrandbits(64)))
            continue
        if src == 10 and random_.random() < 0.5:
            dst = src = 10 if kind == isa.BPF_LDX else dst
            dst = random_.randrange(10)
            src = 10
            offset = -8 * random_.randint(1, 8) if kind == isa.BPF_LDX else offset
        body.append(Instruction(opcode, dst, src, offset, imm))
    code += body
    code += [Instruction(isa.BPF_ALU64 | isa.BPF_MOV, 0, 0, 0, 0), Instruction(isa.EXIT)]
    return encode(code)


def public_addresses(engine: Engine) -> tuple[int, ...]:
    """Addresses programs may be interested in: maps, values, stacks, the private part, nothing at all."""
    from bpf2py import Map, MapType

    maps: list[Any] = [
        Map.create(MapType.HASH, key="u32", value="u64", max_entries=8, backend=engine),
        Map.create(MapType.LRU_HASH, key="u32", value="u64", max_entries=8, backend=engine),
        Map.create(MapType.ARRAY, key="u32", value="u64", max_entries=8, backend=engine),
        Map.create(MapType.PERCPU_HASH, key="u32", value="u64", max_entries=8, backend=engine),
        Map.create(MapType.QUEUE, value="u64", max_entries=8, backend=engine),
        Map.create(MapType.RINGBUF, max_entries=4096, backend=engine),
        Map.create(MapType.LPM_TRIE, key_size=8, value="u64", max_entries=8, flags=1, backend=engine),
        Map.create(MapType.PROG_ARRAY, max_entries=4, backend=engine),
        Map.create(MapType.STACK_TRACE, key_size=4, value_size=64, max_entries=8, backend=engine),
        Map.create(MapType.PERF_EVENT_ARRAY, max_entries=4, backend=engine),
    ]
    for each in maps[:4]:
        for key in range(8):
            each._update(key, key if each.type != MapType.PERCPU_HASH else [key] * engine.possible_cpus)
    handles = [each._handle.duplicate() for each in maps]
    engine.kept = handles  # type: ignore[attr-defined]
    for each in maps:
        each.close()
    headers = [handle.header for handle in handles]
    data = [handle.data_address for handle in handles if handle.data_address]
    return (
        *headers,
        *headers,
        *headers,
        *data,
        0,
        1,
        0x100,
        512 << 20,
        (512 << 20) + 0x2000,
        engine.memory.size,
        0x7FF00000,
        0x7FF00001,
    )


__all__ = ["FUEL", "RawProgram", "Run", "anything", "native_name", "public_addresses"]
