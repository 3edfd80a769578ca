"""Disassembly in the C-like notation of the kernel's verifier and llvm-objdump.

>>> for line in disassemble(bytes.fromhex("61210800 00000000 65010300 05000000 85000000 01000000 95000000 00000000")):
...     print(line)
   0: r1 = *(u32 *)(r2 + 8)
   1: if r1 s> 5 goto +3
   2: call bpf_map_lookup_elem#1
   3: exit

What is not an instruction of the instruction set (an unknown opcode, a register above r10, a reserved field in use) is
shown as its bytes: ``.bytes ff 00 00 00 00 00 00 00``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bpf2py._typing import NamedTuple
from bpf2py.isa import opcodes as op
from bpf2py.isa.helpers import helper_name
from bpf2py.isa.instruction import Instruction

__all__ = ["Line", "disassemble", "format_instruction"]

_SIZES = {op.BPF_B: 8, op.BPF_H: 16, op.BPF_W: 32, op.BPF_DW: 64}
_ARITHMETIC = {
    op.BPF_ADD: "+=",
    op.BPF_SUB: "-=",
    op.BPF_MUL: "*=",
    op.BPF_DIV: "/=",
    op.BPF_OR: "|=",
    op.BPF_AND: "&=",
    op.BPF_LSH: "<<=",
    op.BPF_RSH: ">>=",
    op.BPF_MOD: "%=",
    op.BPF_XOR: "^=",
    op.BPF_MOV: "=",
    op.BPF_ARSH: "s>>=",
}
_COMPARISONS = {
    op.BPF_JEQ: "==",
    op.BPF_JGT: ">",
    op.BPF_JGE: ">=",
    op.BPF_JSET: "&",
    op.BPF_JNE: "!=",
    op.BPF_JSGT: "s>",
    op.BPF_JSGE: "s>=",
    op.BPF_JLT: "<",
    op.BPF_JLE: "<=",
    op.BPF_JSLT: "s<",
    op.BPF_JSLE: "s<=",
}
_ATOMICS = {op.BPF_ADD: ("+=", "add"), op.BPF_OR: ("|=", "or"), op.BPF_AND: ("&=", "and"), op.BPF_XOR: ("^=", "xor")}


class Line(NamedTuple):
    """One instruction of a listing.

    Attributes:
        slot: its index in slots of 8 bytes: what jumps and the verifier's log count.
        raw: its bytes; fewer than 8 for a torn end.
        text: the instruction.
        target: the slot a jump, call or function load goes to; None for all others.
    """

    slot: int
    raw: bytes
    text: str
    target: int | None = None

    def __str__(self) -> str:
        return f"{self.slot:4}: {self.text}"


def disassemble(
    code: bytes | bytearray | memoryview,
    *,
    symbols: Mapping[int, str] | None = None,
    kfuncs: Callable[[int], str | None] | None = None,
) -> Iterator[Line]:
    """The instructions of a program, one line each; any bytes at all are accepted.

    Args:
        code: the program.
        symbols: what a relocation names, by the slot of the instruction it changes: shown instead of a call's or a
            64-bit load's operand.
        kfuncs: the name of a kernel function by the BTF id in a call instruction, or None.
    """
    code = bytes(code)
    named = symbols or {}
    position = 0
    while position < len(code):
        slot = position // op.SLOT_SIZE
        raw = code[position : position + op.SLOT_SIZE]
        if raw[0] == op.LD_IMM64:
            pair = code[position : position + 2 * op.SLOT_SIZE]
            if len(pair) == 2 * op.SLOT_SIZE and pair[8:12] == b"\0\0\0\0":
                raw = pair
        text, distance = None, None
        if len(raw) >= op.SLOT_SIZE:
            text, distance = _format(_instruction(raw), named.get(slot), kfuncs)
        if text is None and len(raw) > op.SLOT_SIZE:
            raw = raw[: op.SLOT_SIZE]
        target = None if distance is None else slot + 1 + distance
        yield Line(slot, raw, text if text is not None else f".bytes {raw.hex(' ')}", target)
        position += len(raw)


def format_instruction(instruction: Instruction, symbol: str | None = None) -> str:
    """The text of one instruction, as `disassemble` shows it.

    >>> format_instruction(Instruction(0xBF, dst=1, src=10))
    'r1 = r10'
    """
    text, _ = _format(instruction, symbol, None)
    return text if text is not None else f".bytes {instruction.encode().hex(' ')}"


def _instruction(raw: bytes) -> Instruction:
    signed = int.from_bytes
    return Instruction(
        raw[0],
        raw[1] & 15,
        raw[1] >> 4,
        signed(raw[2:4], "little", signed=True),
        signed(raw[4:8], "little", signed=True),
        signed(raw[12:16], "little", signed=True) if len(raw) > op.SLOT_SIZE else None,
    )


_Formatted = tuple[str | None, int | None]  # the text, None when it is not an instruction; the jump distance in slots
_NOTHING: _Formatted = (None, None)


def _format(insn: Instruction, symbol: str | None, kfuncs: Callable[[int], str | None] | None) -> _Formatted:
    if insn.dst >= op.MAX_BPF_REG or insn.src >= op.MAX_BPF_REG:
        return _NOTHING
    kind = insn.opcode & 7
    if kind in (op.BPF_ALU, op.BPF_ALU64):
        return _arithmetic(insn, kind == op.BPF_ALU64), None
    if insn.opcode in (op.CALL, op.CALLX):
        return _call(insn, symbol, kfuncs)
    if kind in (op.BPF_JMP, op.BPF_JMP32):
        return _jump(insn, kind == op.BPF_JMP)
    if insn.opcode == op.LD_IMM64:
        return _load_imm64(insn, symbol)
    return _memory(insn, kind), None


def _signed_sum(register: int, offset: int) -> str:
    return f"r{register} {'-' if offset < 0 else '+'} {abs(offset)}"


def _arithmetic(insn: Instruction, wide: bool) -> str | None:
    _, dst, src, offset, imm, _ = insn
    operation = insn.opcode & 0xF0
    by_register = bool(insn.opcode & op.BPF_X)
    name = "r" if wide else "w"
    if operation == op.BPF_NEG:
        return f"{name}{dst} = -{name}{dst}" if not (by_register or src or offset or imm) else None
    if operation == op.BPF_END:
        if imm not in (16, 32, 64) or src or offset or (wide and by_register):
            return None
        order = "bswap" if wide else "be" if by_register else "le"
        return f"r{dst} = {order}{imm} r{dst}"
    if insn.opcode == op.BPF_ALU64 | op.BPF_MOV | op.BPF_X and offset == 1:  # the immediate holds two address spaces
        return f"r{dst} = addr_space_cast(r{src}, {imm >> 16 & 0xFFFF}, {imm & 0xFFFF})"
    symbol = _ARITHMETIC.get(operation)
    if symbol is None or (imm if by_register else src):
        return None
    operand = f"{name}{src}" if by_register else str(imm)
    if offset:
        if operation in (op.BPF_DIV, op.BPF_MOD) and offset == 1:
            symbol = "s" + symbol
        elif operation == op.BPF_MOV and by_register and (offset in (8, 16) or (wide and offset == 32)):
            operand = f"(s{offset}){operand}"
        else:
            return None
    return f"{name}{dst} {symbol} {operand}"


def _jump(insn: Instruction, wide: bool) -> _Formatted:
    _, dst, src, offset, imm, _ = insn
    operation = insn.opcode & 0xF0
    by_register = bool(insn.opcode & op.BPF_X)
    if operation == op.BPF_JA and not by_register:
        if wide:
            return (f"goto {offset:+d}", offset) if not (dst or src or imm) else _NOTHING
        return (f"gotol {imm:+d}", imm) if not (dst or src or offset) else _NOTHING
    if operation == op.BPF_JA:  # an indirect jump through a table, Linux 6.19
        return (f"gotox r{dst}", None) if wide and not (src or offset or imm) else _NOTHING
    if operation == op.BPF_JCOND:
        known = wide and not by_register and src == op.BPF_MAY_GOTO and not (dst or imm)
        return (f"may_goto {offset:+d}", offset) if known else _NOTHING
    if insn.opcode == op.EXIT:
        return ("exit", None) if not (dst or src or offset or imm) else _NOTHING
    symbol = _COMPARISONS.get(operation)
    if symbol is None or (imm if by_register else src):
        return _NOTHING
    name = "r" if wide else "w"
    operand = f"{name}{src}" if by_register else str(imm)
    return f"if {name}{dst} {symbol} {operand} goto {offset:+d}", offset


def _call(insn: Instruction, symbol: str | None, kfuncs: Callable[[int], str | None] | None) -> _Formatted:
    _, dst, src, offset, imm, _ = insn
    if insn.opcode == op.CALLX:
        return (f"callx r{dst}", None) if not (src or offset or imm) else _NOTHING
    if dst or src > op.BPF_PSEUDO_KFUNC_CALL or (offset and src != op.BPF_PSEUDO_KFUNC_CALL):
        return _NOTHING
    if src == op.BPF_PSEUDO_CALL:
        # Before linking, the distance to an unplaced function is -1.
        return (f"call {symbol}", None) if symbol is not None else (f"call {imm:+d}", imm)
    if symbol is not None:
        return f"call {symbol}", None
    if src == op.BPF_PSEUDO_KFUNC_CALL:
        name = kfuncs(imm) if kfuncs is not None else None
        # The offset is the index of the module's BTF in the loader's fd array; 0 is vmlinux.
        return f"call {name or 'kfunc'}#{imm}{f' (module {offset})' if offset else ''}", None
    return f"call {helper_name(imm)}#{imm}", None


def _load_imm64(insn: Instruction, symbol: str | None) -> _Formatted:
    _, dst, src, offset, imm, next_imm = insn
    if next_imm is None or offset:
        return _NOTHING
    low, high = imm & 0xFFFFFFFF, next_imm & 0xFFFFFFFF
    if symbol is not None:
        return f"r{dst} = {symbol} ll", None
    if src == op.BPF_PSEUDO_FUNC:
        return (f"r{dst} = func({imm:+d})", imm) if not high else _NOTHING
    if src in (op.BPF_PSEUDO_MAP_FD, op.BPF_PSEUDO_MAP_IDX) and high:
        return _NOTHING
    texts = {
        0: f"{insn.imm64:#x} ll",
        op.BPF_PSEUDO_MAP_FD: f"map_fd({imm})",
        op.BPF_PSEUDO_MAP_VALUE: f"map_value(fd {imm}) + {high}",
        op.BPF_PSEUDO_BTF_ID: f"ksym(btf_id {low}{f', module fd {high}' if high else ''})",
        op.BPF_PSEUDO_MAP_IDX: f"map_idx({imm})",
        op.BPF_PSEUDO_MAP_IDX_VALUE: f"map_value(idx {imm}) + {high}",
    }
    return (f"r{dst} = {texts[src]}", None) if src in texts else _NOTHING


def _memory(insn: Instruction, kind: int) -> str | None:
    _, dst, src, offset, imm, _ = insn
    bits = _SIZES[insn.opcode & 0x18]
    mode = insn.opcode & 0xE0
    if kind == op.BPF_LD:
        if mode not in (op.BPF_ABS, op.BPF_IND) or bits == 64 or dst or offset:
            return None
        if mode == op.BPF_ABS:
            return f"r0 = *(u{bits} *)skb[{imm}]" if not src else None
        place = f"r{src}" if not imm else _signed_sum(src, imm)
        return f"r0 = *(u{bits} *)skb[{place}]"
    if kind == op.BPF_LDX:
        sign = "u" if mode == op.BPF_MEM else "s" if mode == op.BPF_MEMSX and bits < 64 else ""
        return f"r{dst} = *({sign}{bits} *)({_signed_sum(src, offset)})" if sign and not imm else None
    place = f"({_signed_sum(dst, offset)})"
    if kind == op.BPF_ST:
        return f"*(u{bits} *){place} = {imm}" if mode == op.BPF_MEM and not src else None
    if mode == op.BPF_MEM:
        return f"*(u{bits} *){place} = r{src}" if not imm else None
    return _atomic(insn, bits, place) if mode == op.BPF_ATOMIC else None


def _atomic(insn: Instruction, bits: int, place: str) -> str | None:
    _, dst, src, offset, imm, _ = insn
    if imm == op.BPF_LOAD_ACQ:  # the only one whose address is in src
        return f"{_narrow(bits)}{dst} = load_acquire((u{bits} *)({_signed_sum(src, offset)}))"
    if imm == op.BPF_STORE_REL:
        return f"store_release((u{bits} *){place}, {_narrow(bits)}{src})"
    if bits < 32:
        return None
    register, suffix = (f"r{src}", "_64") if bits == 64 else (f"w{src}", "32_32")
    if imm == op.BPF_XCHG:
        return f"{register} = xchg{suffix}({place[1:-1]}, {register})"
    if imm == op.BPF_CMPXCHG:
        result = f"{register[0]}0"
        return f"{result} = cmpxchg{suffix}({place[1:-1]}, {result}, {register})"
    symbols = _ATOMICS.get(imm & ~op.BPF_FETCH)
    if symbols is None:
        return None
    if imm & op.BPF_FETCH:
        return f"{register} = atomic_fetch_{symbols[1]}((u{bits} *){place}, {register})"
    return f"lock *(u{bits} *){place} {symbols[0]} {register}"


def _narrow(bits: int) -> str:
    return "r" if bits == 64 else "w"
