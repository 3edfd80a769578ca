"""Argument specs of USDT probes: ``SIZE@OPERAND``, where the operand is written as the CPU's assembler writes it.

A negative size means a signed argument. Register offsets are those of struct pt_regs (arch/*/include/asm/ptrace.h).
"""

from __future__ import annotations

import re
from enum import IntEnum

from bpf2py._typing import NamedTuple
from bpf2py.errors import AttachError, NotSupported


class Where(IntEnum):
    """Where an argument is; the numbers are those of include/bpf/usdt.bpf.h."""

    CONSTANT = 0
    REGISTER = 1
    MEMORY = 2
    INDEXED = 3


class Arg(NamedTuple):
    """An argument.

    Attributes:
        size: bytes: 1, 2, 4 or 8.
        signed: whether it is to be sign-extended.
        where: what the rest means.
        value: the constant, or what is added to the register(s).
        register, index_register: offsets in struct pt_regs.
        scale: the index is shifted left by so many bits.
    """

    size: int
    signed: bool
    where: Where
    value: int = 0
    register: int = 0
    index_register: int = 0
    scale: int = 0


def _x86_registers() -> dict[str, int]:
    # Registers with names by width: of 64, 32, 16 and 8 bits.
    old = {"a": 80, "b": 40, "c": 88, "d": 96}
    found: dict[str, int] = {}
    for letter, offset in old.items():
        found |= dict.fromkeys((f"r{letter}x", f"e{letter}x", f"{letter}x", f"{letter}l"), offset)
        found[f"{letter}h"] = offset + 1  # the second byte of the register
    for name, offset in {"si": 104, "di": 112, "bp": 32, "sp": 152}.items():
        found |= dict.fromkeys((f"r{name}", f"e{name}", name, f"{name}l"), offset)
    for number, offset in zip(range(8, 16), (72, 64, 56, 48, 24, 16, 8, 0), strict=True):
        found |= dict.fromkeys((f"r{number}", f"r{number}d", f"r{number}w", f"r{number}b"), offset)
    return found


def _arm_registers() -> dict[str, int]:
    found = {"sp": 248, "wsp": 248}
    for number in range(31):
        found[f"x{number}"] = found[f"w{number}"] = 8 * number
    return found | {"fp": 8 * 29, "lr": 8 * 30}


_NUMBER = r"[+-]?(?:0x[0-9a-fA-F]+|\d+)"
_SIZE = re.compile(r"\s*(-?[1248])@")
_X86 = re.compile(
    rf"""\$(?P<constant>{_NUMBER})
    | %(?P<register>\w+)
    | (?P<offset>{_NUMBER})?\(%(?P<base>\w+)(?:,%(?P<index>\w+)(?:,(?P<scale>[1248]))?)?\)""",
    re.VERBOSE,
)
_ARM = re.compile(
    rf"""(?P<constant>{_NUMBER})
    | \[\s*(?P<base>\w+)\s*(?:,\s*(?:\#?(?P<offset>{_NUMBER})|(?P<index>x\d+)(?:\s*,\s*lsl\s*\#?(?P<scale>[0-4]))?)\s*)?\]
    | (?P<register>[a-z]\w*)""",
    re.VERBOSE,
)


def parse_args(what: str, text: str, machine: str) -> tuple[Arg, ...]:
    """The arguments of a probe.

    Args:
        what: starts error messages.
        text: as in the note, such as ``-4@%edi 8@16(%rsp) -4@$5``; aarch64: ``8@[sp, 16] 4@x0``.
        machine: ``"x86_64"`` or ``"aarch64"``.

    Raises:
        AttachError: an operand of a form that cannot be read by a probe (floating point registers, symbols).
        NotSupported: another CPU.
    """
    if machine == "x86_64":
        pattern, registers = _X86, _x86_registers()
    elif machine == "aarch64":
        pattern, registers = _ARM, _arm_registers()
    else:
        raise NotSupported(
            f"{what}: USDT arguments are known for x86_64 and aarch64, this file is for {machine}", feature="usdt"
        )
    found: list[Arg] = []
    at = 0
    while text[at:].strip():
        size = _SIZE.match(text, at)
        operand = pattern.match(text, size.end()) if size is not None else None
        if size is None or operand is None or text[operand.end() : operand.end() + 1].strip():
            raise AttachError(f"{what}: argument {len(found)} is {text[at:].strip()!r}, which is of no known form")
        try:
            found.append(_arg(what, int(size[1]), operand, registers))
        except ValueError as error:
            raise AttachError(f"{what}: argument {operand[0][:100]!r} has a wrong number: {error}") from None
        at = operand.end()
    return tuple(found)


def _arg(what: str, size: int, operand: re.Match[str], registers: dict[str, int]) -> Arg:
    parts = operand.groupdict()

    def register(name: str) -> int:
        if name not in registers:
            raise AttachError(f"{what}: argument {operand[0]!r}: register {name} cannot be read by a probe")
        return registers[name]

    width, signed = abs(size), size < 0
    if parts["constant"] is not None:
        return Arg(width, signed, Where.CONSTANT, int(parts["constant"], 0))
    if parts["register"] is not None:
        if parts["register"] in ("xzr", "wzr"):
            return Arg(width, signed, Where.CONSTANT, 0)
        return Arg(width, signed, Where.REGISTER, 0, register(parts["register"]))
    offset, base = int(parts["offset"] or "0", 0), register(parts["base"])
    if parts["index"] is None:
        return Arg(width, signed, Where.MEMORY, offset, base)
    # x86 writes the factor, arm the shift.
    scale = parts["scale"] or "0"
    shift = int(scale) if operand[0].startswith("[") else max(int(scale), 1).bit_length() - 1
    return Arg(width, signed, Where.INDEXED, offset, base, register(parts["index"]), shift)
