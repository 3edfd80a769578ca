"""eBPF to Python source: for processors without an emitter, where no memory may be executable, and for debuggers.

A function of the program becomes a Python function, an instruction a line of it; the instruction stands after it as a comment.
Registers are unsigned 64-bit numbers, addresses offsets in the engine's memory, as for machine code.
"""

from __future__ import annotations

import linecache
import struct
import threading
import weakref
from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

from bpf2py.engine.code.code import (
    MAX_LOOPS,
    MAX_TAIL_CALLS,
    SKB_DATA,
    SKB_DATA_END,
    Code,
    Function,
    Op,
    Target,
    function_address,
    is_jump,
    jump_target,
)  # fmt: skip
from bpf2py.engine.code.control import Fault, Slot
from bpf2py.engine.code.debug import compiled, slot_of
from bpf2py.engine.memory import ENGINE, FUNCTIONS, OPS_STACK, PUBLIC, Memory
from bpf2py.isa import opcodes as isa
from bpf2py.isa.disasm import disassemble

__all__ = ["PythonCode", "source"]

M, S = 0xFFFFFFFFFFFFFFFF, 1 << 63
_SIZE = {isa.BPF_B: 1, isa.BPF_H: 2, isa.BPF_W: 4, isa.BPF_DW: 8}
_BINARY = {isa.BPF_ADD: "+", isa.BPF_SUB: "-", isa.BPF_MUL: "*", isa.BPF_OR: "|", isa.BPF_AND: "&", isa.BPF_XOR: "^"}
_COMPARE = {
    isa.BPF_JEQ: "==", isa.BPF_JNE: "!=", isa.BPF_JGT: ">", isa.BPF_JGE: ">=", isa.BPF_JLT: "<", isa.BPF_JLE: "<=",
    isa.BPF_JSGT: ">", isa.BPF_JSGE: ">=", isa.BPF_JSLT: "<", isa.BPF_JSLE: "<=", isa.BPF_JSET: "&",
}  # fmt: skip
_SIGNED = (isa.BPF_JSGT, isa.BPF_JSGE, isa.BPF_JSLT, isa.BPF_JSLE)


class Leave(Exception):
    """Ends the innermost run; the reason is in the control numbers."""

    def __init__(self, fault: int, address: int = 0) -> None:
        super().__init__(fault, address)
        self.fault = fault
        self.address = address


def _signed(value: int, bits: int) -> int:
    return (value & (1 << bits) - 1 ^ 1 << bits - 1) - (1 << bits - 1)


def divide(a: int, b: int, modulo: bool, signed: bool, bits: int) -> int:
    """BPF's division: by 0 a quotient of 0 and a remainder of the dividend; signed division goes towards 0."""
    mask = (1 << bits) - 1
    a, b = a & mask, b & mask
    if b == 0:
        return a if modulo else 0
    if not signed:
        return a % b if modulo else a // b
    a, b = _signed(a, bits), _signed(b, bits)
    quotient = abs(a) // abs(b)
    if (a < 0) != (b < 0):
        quotient = -quotient
    return (a - quotient * b if modulo else quotient) & mask


def swap(value: int, bits: int, big: bool) -> int:
    """The low 16, 32 or 64 bits, their bytes in the other order where `big`."""
    size = bits // 8
    return int.from_bytes((value & (1 << bits) - 1).to_bytes(size, "little"), "big" if big else "little")


class _Writer:
    """Writes one function."""

    def __init__(self, code: Code, function: Function, comments: dict[int, str]) -> None:
        self.code = code
        self.function = function
        self.comments = comments
        self.lines: list[str] = []
        self.slots: list[int] = []  # of each line
        self.slot = function.start
        self.leaders: list[int] = []

    def line(self, depth: int, text: str, comment: bool = False) -> None:
        note = self.comments.get(self.slot) if comment else None
        self.lines.append(" " * 4 * depth + text + (f"  # {self.slot}: {note}" if note else ""))
        self.slots.append(self.slot)

    def write(self) -> None:
        function = self.function
        targets, loops = self.code.targets(function)
        self.line(0, f"def {name_of(function)}(r1, r2, r3, r4, r5, r10):")
        self.line(1, "r0 = r6 = r7 = r8 = r9 = 0")
        self.line(1, f"if BASE + r10 - {function.frame} < C[{Slot.STACK_LOW}]: raise Leave({Fault.STACK})")
        ops = self.code.ops[function.start : function.end]
        if any(op is not None and is_jump(op) and op.opcode & 0xF0 == isa.BPF_JCOND for op in ops):
            self.line(1, f"loops = {MAX_LOOPS}")
        leaders = self.leaders = sorted({function.start} | targets)
        if not targets:
            self.block(1, function.start, function.end, loops, False)
            return
        self.line(1, f"at = {function.start}")
        self.line(1, "while True:")
        self.tree(2, leaders, loops)

    def tree(self, depth: int, leaders: list[int], loops: dict[int, int]) -> None:
        """Find the block by halves."""
        if len(leaders) > 3:
            middle = len(leaders) // 2
            self.line(depth, f"if at < {leaders[middle]}:")
            self.tree(depth + 1, leaders[:middle], loops)
            self.line(depth, "else:")
            self.tree(depth + 1, leaders[middle:], loops)
            return
        for position, leader in enumerate(leaders):
            following = bisect_right(self.leaders, leader)
            end = self.leaders[following] if following < len(self.leaders) else self.function.end
            self.slot = leader
            self.line(depth, f"if at == {leader}:" if position < len(leaders) - 1 or len(leaders) == 1 else "else:")
            self.block(depth + 1, leader, end, loops, True)

    def block(self, depth: int, start: int, end: int, loops: dict[int, int], within: bool) -> None:
        self.slot = start
        if start in loops:
            self.line(depth, f"if C[{Slot.FUEL}] < {loops[start]}: raise Leave({Fault.FUEL})")
            self.line(depth, f"C[{Slot.FUEL}] -= {loops[start]}")
        ended = False
        for slot in range(start, end):
            op = self.code.ops[slot]
            if op is None:
                continue
            self.slot = slot
            self.instruction(depth, op, slot)
            ended = op.opcode == isa.EXIT
        if not ended:
            self.line(depth, f"at = {end}" if within else "pass")
            if within:
                self.line(depth, "continue")

    def instruction(self, depth: int, op: Op, slot: int) -> None:
        kind = op.opcode & 7
        if kind in (isa.BPF_ALU, isa.BPF_ALU64):
            self.line(depth, _alu(op), True)
        elif kind == isa.BPF_LDX:
            bits = _SIZE[op.opcode & 0x18] * 8
            load = f"ld{bits // 8}(r{op.src} + {op.offset} & M)"
            text = f"sign({load}, {bits}) & M" if op.opcode & 0xE0 == isa.BPF_MEMSX else load
            self.line(depth, f"r{op.dst} = {text}", True)
        elif kind == isa.BPF_ST:
            size = _SIZE[op.opcode & 0x18]
            self.line(depth, f"st{size}(r{op.dst} + {op.offset} & M, {op.imm & (1 << 8 * size) - 1})", True)
        elif kind == isa.BPF_STX:
            if op.opcode & 0xE0 == isa.BPF_ATOMIC:
                self.atomic(depth, op)
            else:
                size = _SIZE[op.opcode & 0x18]
                self.line(depth, f"st{size}(r{op.dst} + {op.offset} & M, r{op.src})", True)
        elif op.opcode == isa.LD_IMM64:
            value = op.imm
            if op.src == isa.BPF_PSEUDO_FUNC:
                callee = self.code.function_at(function_address(op, slot))
                assert callee is not None
                value = FUNCTIONS + callee.number
            self.line(depth, f"r{op.dst} = {value:#x}", True)
        elif op.opcode == isa.CALL or op.opcode == isa.CALLX:
            self.call(depth, op, slot)
        elif op.opcode == isa.EXIT:
            self.line(depth, "return r0", True)
        elif kind == isa.BPF_LD:
            self.legacy_load(depth, op)
        else:
            self.jump(depth, op, slot)

    def atomic(self, depth: int, op: Op) -> None:
        size = _SIZE[op.opcode & 0x18]
        mask = (1 << 8 * size) - 1
        source = f"r{op.src}"
        if op.imm == isa.BPF_LOAD_ACQ:
            self.line(depth, f"r{op.dst} = ld{size}({source} + {op.offset} & M)", True)
            return
        self.line(depth, f"a = r{op.dst} + {op.offset} & M", True)
        if op.imm == isa.BPF_STORE_REL:
            self.line(depth, f"st{size}(a, {source})")
        elif op.imm == isa.BPF_XCHG:
            self.line(depth, f"b = ld{size}(a); st{size}(a, {source}); {source} = b")
        elif op.imm == isa.BPF_CMPXCHG:
            self.line(depth, f"b = ld{size}(a); st{size}(a, {source} if b == r0 & {mask} else b); r0 = b")
        else:
            self.line(depth, f"b = ld{size}(a); st{size}(a, b {_BINARY[op.imm & 0xF0]} {source})")
            if op.imm & isa.BPF_FETCH:
                self.line(depth, f"{source} = b")

    def jump(self, depth: int, op: Op, slot: int) -> None:
        kind = op.opcode & 0xF0
        target = jump_target(op, slot)
        go = f"at = {target}; continue"
        if kind == isa.BPF_JA:
            self.line(depth, go, True)
            return
        if kind == isa.BPF_JCOND:
            self.line(depth, "if not loops:", True)
            self.line(depth + 1, go)
            self.line(depth, "loops -= 1")
            return
        wide = op.opcode & 7 == isa.BPF_JMP
        mask = "" if wide else " & 0xffffffff"
        left = f"(r{op.dst}{mask})" if mask else f"r{op.dst}"
        if op.opcode & isa.BPF_X:
            right = f"(r{op.src}{mask})" if mask else f"r{op.src}"
        else:
            right = f"{op.imm & (M if wide else 0xFFFFFFFF):#x}"
        if kind in _SIGNED:
            top = f"{1 << (63 if wide else 31):#x}"
            left, right = f"({left} ^ {top})", f"({right} ^ {top})"
        self.line(depth, f"if {left} {_COMPARE[kind]} {right}:", True)
        self.line(depth + 1, go)

    def call(self, depth: int, op: Op, slot: int) -> None:
        below = f"r10 - {self.function.frame}"
        arguments = f"r1, r2, r3, r4, r5, {below}"
        if op.opcode == isa.CALLX:
            self.line(depth, f"r0 = indirect(r{op.dst or op.imm & 15})({arguments})", True)
            return
        if op.src == isa.BPF_PSEUDO_CALL:
            callee = self.code.function_at(slot + 1 + op.imm)
            assert callee is not None
            self.line(depth, f"r0 = {name_of(callee)}({arguments})", True)
            return
        target = self.code.helpers[slot]
        self.checks(depth, target)
        if target.name == "get_smp_processor_id":
            self.line(depth, f"r0 = ld4e({ENGINE})", True)
        elif target.name == "tail_call":
            self.line(depth, f"b = prog_array_function(r2, r3 & 0xffffffff, 0, 0, 0, {below})", True)
            self.line(
                depth, f"if 0 <= b - {FUNCTIONS} < C[{Slot.FUNCTIONS}] and C[{Slot.TAIL_CALLS}] < {MAX_TAIL_CALLS}:"
            )
            self.line(depth + 1, f"C[{Slot.TAIL_CALLS}] += 1")
            self.line(depth + 1, "return indirect(b)(r1, 0, 0, 0, 0, r10)")
            self.line(depth, f"r0 = {-2 & M:#x}")
        elif target.array[0]:
            data, stride, entries = target.array
            key = f"ld4(r10 + {target.key})" if target.key else "ld4(r2)"
            own = f" + ld4e({ENGINE}) * {target.slot}" if target.slot else ""
            self.line(depth, f"b = {key}; r0 = {data} + b * {stride}{own} if b < {entries} else 0", True)
        elif target.name == "nothing":
            self.line(depth, "r0 = 0", True)
        elif target.name == "throw" and target.kind == "inline":
            self.line(depth, f"C[{Slot.RESULT}] = r1; raise Leave({Fault.THROW})", True)
        elif target.kind == "native":
            self.line(depth, f"r0 = {target.name}({arguments})", True)
        else:
            self.line(
                depth,
                f"C[{Slot.PC}] = {slot}; C[{Slot.UNIT}] = UNIT; r0 = helper(r1, r2, r3, r4, r5, {target.number})",
                True,
            )

    def checks(self, depth: int, target: Target) -> None:
        for register in target.pointers:
            self.line(depth, f"if not {PUBLIC} <= r{register} <= SIZE: raise Leave({Fault.POINTER}, r{register})")
        if target.map:
            self.line(depth, "check_map(r1)")

    def legacy_load(self, depth: int, op: Op) -> None:
        size = _SIZE[op.opcode & 0x18]
        index = f" + r{op.src}" if op.opcode & 0xE0 == isa.BPF_IND else ""
        self.line(depth, f"a = ({op.imm}{index} & 0xffffffff) + ld4(r6 + {SKB_DATA})", True)
        self.line(depth, f"if a + {size} > ld4(r6 + {SKB_DATA_END}): return 0")
        self.line(depth, f"r0 = swap(ld{size}(a), {size * 8}, True)")


def _alu(op: Op) -> str:
    wide = op.opcode & 7 == isa.BPF_ALU64
    operation = op.opcode & 0xF0
    bits = 64 if wide else 32
    mask = "M" if wide else "0xffffffff"
    dst = f"r{op.dst}"
    right = f"r{op.src}" if op.opcode & isa.BPF_X else str(op.imm)
    if operation == isa.BPF_END:
        return f"{dst} = swap({dst}, {op.imm}, {wide or bool(op.opcode & isa.BPF_X)})"
    if operation == isa.BPF_NEG:
        return f"{dst} = -{dst} & {mask}"
    if operation == isa.BPF_MOV:
        if op.opcode & isa.BPF_X and op.offset in (8, 16, 32):
            return f"{dst} = sign({right}, {op.offset}) & {mask}"
        if op.opcode & isa.BPF_X and op.offset == isa.ADDR_SPACE_CAST:
            low = f"{right} & 0xffffffff"
            return f"{dst} = ({low}) and ({low}) + BASE" if op.imm == isa.CAST_USER else f"{dst} = {low}"
        return f"{dst} = {right} & {mask}"
    if operation in (isa.BPF_DIV, isa.BPF_MOD):
        return f"{dst} = divide({dst}, {right}, {operation == isa.BPF_MOD}, {op.offset == 1}, {bits})"
    if operation in _BINARY:
        return f"{dst} = ({dst} {_BINARY[operation]} {right}) & {mask}"
    count = f"({right} & {bits - 1})"
    if operation == isa.BPF_LSH:
        return f"{dst} = ({dst} << {count}) & {mask}"
    if operation == isa.BPF_RSH:
        return f"{dst} = ({dst} & {mask}) >> {count}"
    return f"{dst} = (sign({dst}, {bits}) >> {count}) & {mask}"


def name_of(function: Function) -> str:
    """The Python name of a function of the program."""
    return f"{_plain(function.name)}_{function.start}"


def _plain(name: str) -> str:
    """A name from an object, which may be any text, as an identifier."""
    text = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
    return f"_{text}" if not text or text[0].isdigit() else text


def source(code: Code, comments: dict[int, str] | None = None) -> tuple[str, list[int]]:
    """(Python source of a program, the slot each of its lines comes from)."""
    lines: list[str] = []
    slots: list[int] = []
    for function in code.functions:
        writer = _Writer(code, function, comments or {})
        writer.write()
        lines += [*writer.lines, ""]
        slots += [*writer.slots, function.end]
    return "\n".join(lines), slots


class PythonCode:
    """What makes code runnable by turning it into Python, for one engine: the same interface as `NativeCode`."""

    fuel, helper_cost = 1 << 26, 1 << 6
    is_native = has_clock = False
    wants_lines = True

    def __init__(
        self, memory: Memory, callback: Callable[[int, int, int, int, int, int], int], lock: threading.RLock
    ) -> None:
        self.memory = memory
        self.callback = callback
        self._lock = lock  # another thread's run may be in the middle of a change to a map
        self.resolve: dict[str, Any] = {}
        self.functions: list[Any] = []
        self._lines: dict[str, tuple[int, list[int]]] = {}
        weakref.finalize(self, _forget_sources, self._lines).atexit = False

    def expect(self, name: str) -> bool:
        """Calls are by name, and the function must be there before: false."""
        return False

    def provided(self, name: str, function: object) -> None:
        """Say what a function of the library is."""
        self.resolve[name] = function

    def _names(self, code: Code) -> dict[str, Any]:
        memory, control = self.memory, self.memory.control
        low = 0 if code.trusted else PUBLIC
        names: dict[str, Any] = {}
        for size, form in ((1, "B"), (2, "<H"), (4, "<I"), (8, "<Q")):
            load, store = _accessors(memory, size, form, low, code.probe_reads)
            names[f"ld{size}"], names[f"st{size}"] = load, store
        names["ld4e"] = _accessors(memory, 4, "<I", 0, False)[0]

        def helper(a: int, b: int, c: int, d: int, e: int, number: int) -> int:
            result = self.callback(a, b, c, d, e, number) & M
            if control[Slot.FAULT]:
                raise Leave(control[Slot.FAULT])
            return result

        def indirect(value: int) -> Any:
            number = value - FUNCTIONS
            if not 0 <= number < control[Slot.FUNCTIONS]:
                raise Leave(Fault.FUNCTION, value & M)
            return self.functions[number]

        def check_map(value: int) -> None:
            first, end = self.resolve["maps"], self.resolve["maps_end"]
            if not first <= value < end or value & 255 or not memory.u32[value >> 2]:
                raise Leave(Fault.MAP, value)

        return {
            **names, "BASE": memory.base, "C": control, "M": M, "SIZE": memory.size, "Leave": Leave, "divide": divide,
            "swap": swap, "sign": _signed, "helper": helper, "indirect": indirect, "check_map": check_map,
        }  # fmt: skip

    def add(self, code: Code, unit: int) -> dict[int, Any]:
        """Make code runnable; see `NativeCode.add`."""
        text, slots = source(code, _comments(code) if not code.trusted else None)
        file = _file(code, unit)
        names = {**self.resolve, **self._names(code), "UNIT": unit}
        placed = compiled(text, slots, code.lines) if code.lines else None
        exec(compile(text, file, "exec") if placed is None else placed[0], names)
        if placed is None:
            linecache.cache[file] = (len(text), None, text.splitlines(True), file)
        self._lines[file] = (unit, slots)
        found = {function.start: names[name_of(function)] for function in code.functions}
        for function in code.functions:
            if function.number >= 0:
                while len(self.functions) <= function.number:
                    self.functions.append(_gone)
                self.functions[function.number] = found[function.start]
        self.memory.control[Slot.FUNCTIONS] = len(self.functions)
        return found

    def remove(self, unit: int, code: Code, instead: object) -> None:
        """Forget code."""
        for function in code.functions:
            if 0 <= function.number < len(self.functions):
                self.functions[function.number] = instead or _gone
        file = _file(code, unit)
        self._lines.pop(file, None)
        linecache.cache.pop(file, None)

    def numbered(self, number: int) -> Any:
        """The function with a number, to be run. Raises IndexError."""
        if number < 0:
            raise IndexError(number)
        return self.functions[number]

    def machine_code(self, unit: int) -> bytes:
        """There is none."""
        return b""

    def run(self, function: Callable[..., int], a: int, b: int = 0, c: int = 0, d: int = 0) -> int:
        """Run a function as a program; control[FAULT] says how it ended."""
        try:
            top = self.memory.control[Slot.STACK_TOP] - self.memory.base
            result: int = function(a & M, b & M, c & M, d & M, 0, top)
            return result
        except Leave as leave:
            self._note(leave)
        except RecursionError:
            self._note(Leave(Fault.STACK))
        return -14 & M

    def _note(self, leave: Leave) -> None:
        control = self.memory.control
        control[Slot.FAULT] = leave.fault
        control[Slot.ADDRESS] = leave.address & M
        trace: TracebackType | None = leave.__traceback__
        while trace is not None:
            found = self._lines.get(trace.tb_frame.f_code.co_filename)
            if found is not None:
                control[Slot.UNIT] = found[0]
                control[Slot.PC] = found[1][trace.tb_lineno - 1]
            elif "UNIT" in trace.tb_frame.f_globals and (slot := slot_of(trace)) is not None:
                control[Slot.UNIT] = trace.tb_frame.f_globals["UNIT"]
                control[Slot.PC] = slot
            trace = trace.tb_next

    def operation(self, function: Callable[..., int]) -> Callable[..., int]:
        """A library function as a Python callable of up to five numbers."""
        stack, control = OPS_STACK, self.memory.control

        def call(a: int = 0, b: int = 0, c: int = 0, d: int = 0, e: int = 0) -> int:
            with self._lock:
                low, fuel = control[Slot.STACK_LOW], control[Slot.FUEL]
                control[Slot.STACK_LOW], control[Slot.FUEL] = 0, 1 << 40
                try:
                    return _signed(function(a & M, b & M, c & M, d & M, e & M, stack), 64)
                except Leave as leave:
                    self._note(leave)
                    return -14
                finally:
                    control[Slot.STACK_LOW], control[Slot.FUEL] = low, fuel

        return call

    def bound(self, function: Callable[..., int], *arguments: int) -> Callable[[], int]:
        """A library function with its arguments."""
        return partial(self.operation(function), *arguments)


def _file(code: Code, unit: int) -> str:
    return f"<bpf {_plain(code.name)} {unit}>"


def _forget_sources(lines: dict[str, Any]) -> None:
    for file in lines:
        linecache.cache.pop(file, None)


def _gone(*_: int) -> int:
    return 0


def _comments(code: Code) -> dict[int, str]:
    raw = bytearray()
    for op in code.ops:
        if op is not None and op.opcode == isa.LD_IMM64:
            raw += struct.pack("<BBhIIi", op.opcode, op.dst | op.src << 4, 0, op.imm & 0xFFFFFFFF, 0, 0)[:12]
            raw += struct.pack("<I", op.imm >> 32)
        elif op is not None:
            raw += struct.pack("<BBhi", op.opcode, op.dst | op.src << 4, op.offset, op.imm)
    try:
        lines = [str(line) for line in disassemble(bytes(raw))]
    except Exception:  # a comment is not worth a failure
        return {}
    starts = [slot for slot, op in enumerate(code.ops) if op is not None]
    return dict(zip(starts, lines, strict=False))


def _accessors(
    memory: Memory, size: int, form: str, low: int, quiet: bool
) -> tuple[Callable[[int], int], Callable[[int, int], None]]:
    unpack = struct.Struct(form).unpack_from
    pack = struct.Struct(form).pack_into
    view, high, mask = memory.view, memory.size - size, (1 << 8 * size) - 1

    def load(address: int) -> int:
        if address < low or address > high:
            if quiet:
                return 0
            raise Leave(Fault.MEMORY, address)
        value: int = unpack(view, address)[0]
        return value

    def store(address: int, value: int) -> None:
        if address < low or address > high:
            raise Leave(Fault.MEMORY, address)
        pack(view, address, value & mask)

    return load, store
