"""The static check before a program runs: its form.

What is refused here is refused by the kernel's verifier too; the other way round that is not so: the engine finds out while the
program runs what the verifier proves beforehand. Every jump stays in its function, every call leads to one, every register and
operation exists, and no function runs past its end: what the translators rely on. Values are looked at by `check_values`.
"""

from __future__ import annotations

from bpf2py.engine.code.code import Code, Function, Op, function_address, is_function_address, is_jump, jump_target
from bpf2py.isa import opcodes as isa

__all__ = ["MAX_CALL_DEPTH", "MAX_STACK", "CheckError", "check_form", "set_frames"]

MAX_STACK = 512  # MAX_BPF_STACK of include/linux/filter.h
MAX_CALL_DEPTH = 8  # MAX_CALL_FRAMES of include/linux/bpf_verifier.h
MIN_CALLER = 64  # bytes a call takes, so that calls without end use up the stack
_BITS = {isa.BPF_ALU: 32, isa.BPF_ALU64: 64}
_ATOMIC_OPS = {
    isa.BPF_ADD, isa.BPF_OR, isa.BPF_AND, isa.BPF_XOR, isa.BPF_ADD | isa.BPF_FETCH, isa.BPF_OR | isa.BPF_FETCH,
    isa.BPF_AND | isa.BPF_FETCH, isa.BPF_XOR | isa.BPF_FETCH, isa.BPF_XCHG, isa.BPF_CMPXCHG,
}  # fmt: skip
_JUMPS = {
    isa.BPF_JEQ, isa.BPF_JGT, isa.BPF_JGE, isa.BPF_JSET, isa.BPF_JNE, isa.BPF_JSGT, isa.BPF_JSGE, isa.BPF_JLT, isa.BPF_JLE,
    isa.BPF_JSLT, isa.BPF_JSLE,
}  # fmt: skip


class CheckError(Exception):
    """What is wrong, at which slot."""

    def __init__(self, slot: int, text: str) -> None:
        super().__init__(text)
        self.slot = slot
        self.text = text


def check_form(code: Code) -> None:
    """Raise CheckError where the code is not well formed; set every function's `frame`."""
    if not code.ops:
        raise CheckError(0, "the program is empty")
    for slot, op in enumerate(code.ops):
        if op is not None:
            text = _wrong(op)
            if text is not None:
                raise CheckError(slot, text)
    starts = {function.start for function in code.functions}
    for function in code.functions:
        _check_function(code, function, starts)
    _check_calls(code)


def set_frames(code: Code) -> None:
    """Set every function's `frame`, of code that is known to be well formed."""
    for function in code.functions:
        function.frame = _frame(code, function)


def _check_function(code: Code, function: Function, starts: set[int]) -> None:
    ops = code.ops
    if function.end <= function.start:
        raise CheckError(function.start, f"function {function.name} is empty")
    for slot in range(function.start, function.end):
        op = ops[slot]
        if op is None:
            continue
        if is_jump(op):
            target = jump_target(op, slot)
            if not function.start <= target < function.end:
                raise CheckError(slot, f"jump out of range from insn {slot} to {target}")
            if ops[target] is None:
                raise CheckError(slot, f"jump into the middle of a 64-bit load at insn {target}")
        elif is_function_address(op):
            target = function_address(op, slot)
            if target not in starts:
                raise CheckError(slot, f"the address of a function is asked for, and none starts at insn {target}")
        elif op.opcode == isa.CALL and op.src == isa.BPF_PSEUDO_CALL and slot + 1 + op.imm not in starts:
            raise CheckError(slot, f"a call leads to insn {slot + 1 + op.imm}, where no function starts")
    last = ops[function.end - 1]
    if last is None or not _ends(last):
        raise CheckError(function.end - 1, "last insn is not an exit or jmp")
    if code.trusted:
        function.frame = _frame(code, function)
        return
    reached = _reachable(code, function)
    for slot in range(function.start, function.end):
        if ops[slot] is not None and slot not in reached:
            raise CheckError(slot, f"unreachable insn {slot}")
    function.frame = _frame(code, function)


def _frame(code: Code, function: Function) -> int:
    """Bytes of stack the function may use: all of it where the frame pointer is copied."""
    deepest = 0
    for op in code.ops[function.start : function.end]:
        if op is None:
            continue
        kind = op.opcode & 7
        if (kind == isa.BPF_LDX and op.src == 10) or (kind in (isa.BPF_ST, isa.BPF_STX) and op.dst == 10):
            deepest = max(deepest, -op.offset)
        if op.src == 10 and op.opcode & isa.BPF_X and kind in (isa.BPF_ALU, isa.BPF_ALU64):
            return MAX_STACK
        if op.src == 10 and kind == isa.BPF_STX:
            return MAX_STACK
    calls = any(op is not None and op.opcode in (isa.CALL, isa.CALLX) for op in code.ops[function.start : function.end])
    return max((deepest + 15) & -16, MIN_CALLER if calls else 0)


def _reachable(code: Code, function: Function) -> set[int]:
    reached: set[int] = set()
    pending = [function.start]
    while pending:
        slot = pending.pop()
        while slot not in reached:
            reached.add(slot)
            op = code.ops[slot]
            assert op is not None
            if op.opcode == isa.EXIT:
                break
            if is_jump(op):
                target = jump_target(op, slot)
                if op.opcode & 0xF0 == isa.BPF_JA:
                    slot = target
                    continue
                pending.append(target)
            slot += 2 if op.opcode == isa.LD_IMM64 else 1
            if slot >= function.end:
                raise CheckError(slot - 1, "the function runs past its end")
    return reached


def _check_calls(code: Code) -> None:
    """No recursion, and no chain of calls that is too long; callbacks come on top of that when the program runs."""
    callees = {f.start: sorted({target for _, target in code.calls(f)}) for f in code.functions}
    depths: dict[int, int] = {}
    on_path: set[int] = set()
    stack: list[tuple[int, int]] = []
    for function in code.functions:
        stack.append((function.start, 0))
        on_path.clear()
        while stack:
            start, position = stack.pop()
            if position == 0:
                if start in depths:
                    continue
                on_path.add(start)
            if position < len(callees[start]):
                stack.append((start, position + 1))
                callee = callees[start][position]
                if callee in on_path:
                    raise CheckError(start, "recursive call: BPF functions cannot call themselves")
                stack.append((callee, 0))
                continue
            on_path.discard(start)
            depths[start] = 1 + max((depths[callee] for callee in callees[start]), default=0)
    deepest = depths[code.functions[0].start]
    if deepest > MAX_CALL_DEPTH and not code.trusted:
        raise CheckError(0, f"the call stack of {deepest} frames is too deep, at most {MAX_CALL_DEPTH} are allowed")


def _ends(op: Op) -> bool:
    return op.opcode == isa.EXIT or (is_jump(op) and op.opcode & 0xF0 == isa.BPF_JA)


def _wrong(op: Op) -> str | None:
    """What is wrong with an instruction by itself, or None."""
    if op.dst > 10:
        return f"R{op.dst} is invalid"
    if op.src > 10 and op.opcode != isa.LD_IMM64:
        return f"R{op.src} is invalid"
    return _BY_CLASS[op.opcode & 7](op)


def _alu(op: Op) -> str | None:
    opcode, dst, src, offset, imm = op
    operation, bits = opcode & 0xF0, _BITS[opcode & 7]
    by_register = bool(opcode & isa.BPF_X)
    if operation > isa.BPF_END:
        return f"unknown opcode {opcode:02x}"
    if dst == 10:
        return "frame pointer is read only"
    if operation == isa.BPF_NEG:
        return "BPF_NEG uses reserved fields" if by_register or src or offset or imm else None
    if operation == isa.BPF_END:
        if src or offset or imm not in (16, 32, 64) or (bits == 64 and by_register):
            return "BPF_END uses reserved fields"
        return None
    if operation == isa.BPF_MOV and by_register and bits == 64 and offset == isa.ADDR_SPACE_CAST:
        known = imm in (isa.CAST_KERN, isa.CAST_USER)
        return None if known else "addr_space_cast insn can only convert between address space 1 and 0"
    if by_register and imm:
        return "an operation on two registers has a constant as well"
    if not by_register and src:
        return "an operation with a constant names a source register as well"
    if operation == isa.BPF_MOV:
        allowed: tuple[int, ...] = (0,)
        if by_register:
            allowed = (0, 8, 16) if bits == 32 else (0, 8, 16, 32)
        return None if offset in allowed else "BPF_MOV uses reserved fields"
    if operation in (isa.BPF_DIV, isa.BPF_MOD):
        if offset not in (0, 1):
            return "BPF_DIV or BPF_MOD uses reserved fields"
        return "div by zero" if not by_register and imm == 0 else None
    if offset:
        return "BPF_ALU uses reserved fields"
    if operation in (isa.BPF_LSH, isa.BPF_RSH, isa.BPF_ARSH) and not by_register and not 0 <= imm < bits:
        return f"invalid shift {imm}"
    return None


def _frame_access(register: int, offset: int, size: int) -> str | None:
    if register == 10 and (offset < -MAX_STACK or offset + size > 0):
        return f"invalid access to the stack: off={offset} size={size}; R10-{MAX_STACK} to R10-1 may be used"
    return None


_SIZES = {isa.BPF_B: 1, isa.BPF_H: 2, isa.BPF_W: 4, isa.BPF_DW: 8}


def _ldx(op: Op) -> str | None:
    mode, size = op.opcode & 0xE0, _SIZES[op.opcode & 0x18]
    if mode not in (isa.BPF_MEM, isa.BPF_MEMSX) or (mode == isa.BPF_MEMSX and size == 8):
        return f"unknown opcode {op.opcode:02x}"
    if op.imm:
        return "BPF_LDX uses reserved fields"
    if op.dst == 10:
        return "frame pointer is read only"
    return _frame_access(op.src, op.offset, size)


def _st(op: Op) -> str | None:
    if op.opcode & 0xE0 != isa.BPF_MEM:
        return f"unknown opcode {op.opcode:02x}"
    if op.src:
        return "BPF_ST uses reserved fields"
    return _frame_access(op.dst, op.offset, _SIZES[op.opcode & 0x18])


def _stx(op: Op) -> str | None:
    mode, size = op.opcode & 0xE0, _SIZES[op.opcode & 0x18]
    if mode == isa.BPF_MEM:
        return "BPF_STX uses reserved fields" if op.imm else _frame_access(op.dst, op.offset, size)
    if mode != isa.BPF_ATOMIC:
        return f"unknown opcode {op.opcode:02x}"
    if op.imm == isa.BPF_LOAD_ACQ:
        return "frame pointer is read only" if op.dst == 10 else _frame_access(op.src, op.offset, size)
    if op.imm == isa.BPF_STORE_REL:
        return _frame_access(op.dst, op.offset, size)
    if op.imm not in _ATOMIC_OPS:
        return f"BPF_ATOMIC uses invalid atomic opcode {op.imm & 0xFFFFFFFF:02x}"
    if size < 4:
        return "invalid atomic operand size"
    if op.src == 10 and op.imm & isa.BPF_FETCH and op.imm != isa.BPF_CMPXCHG:
        return "frame pointer is read only"
    return _frame_access(op.dst, op.offset, size)


def _jmp(op: Op) -> str | None:
    operation, by_register = op.opcode & 0xF0, bool(op.opcode & isa.BPF_X)
    narrow = op.opcode & 7 == isa.BPF_JMP32
    if operation in _JUMPS:
        if by_register and op.imm:
            return "BPF_JMP uses reserved fields"
        return "BPF_JMP uses reserved fields" if not by_register and op.src else None
    if operation == isa.BPF_JA and not by_register:
        wrong = op.src or op.dst or (op.offset if narrow else op.imm)
        return "BPF_JA uses reserved fields" if wrong else None
    if narrow:
        return f"unknown opcode {op.opcode:02x}"
    if op.opcode == isa.EXIT:
        return "BPF_EXIT uses reserved fields" if op.src or op.dst or op.imm or op.offset else None
    if op.opcode == isa.BPF_JMP | isa.BPF_JCOND:
        return "invalid may_goto" if op.src != isa.BPF_MAY_GOTO or op.dst or op.imm else None
    if op.opcode == isa.CALL:
        return None if op.src <= isa.BPF_PSEUDO_KFUNC_CALL and not op.dst else "BPF_CALL uses reserved fields"
    if op.opcode == isa.CALLX:
        register = op.dst or op.imm & 15
        return f"R{register} is not the address of a function" if register > 9 or op.imm & ~15 else None
    return f"unknown opcode {op.opcode:02x}"


def _ld(op: Op) -> str | None:
    if op.opcode == isa.LD_IMM64:
        if op.offset:
            return "BPF_LD_IMM64 uses reserved fields"
        if op.dst == 10:
            return "frame pointer is read only"
        return None if op.src <= isa.BPF_PSEUDO_MAP_IDX_VALUE else "unrecognized bpf_ld_imm64 insn"
    mode = op.opcode & 0xE0
    if mode not in (isa.BPF_ABS, isa.BPF_IND) or op.opcode & 0x18 == isa.BPF_DW:
        return f"unknown opcode {op.opcode:02x}"
    if op.dst or op.offset or (mode == isa.BPF_ABS and op.src) or op.src == 10:
        return "BPF_LD_[ABS|IND] uses reserved fields"
    return None


_BY_CLASS = (_ld, _ldx, _st, _stx, _alu, _jmp, _jmp, _alu)
