"""What `Processor` asks for."""

from __future__ import annotations

from bpf2py.engine.code.x86_64.emit import emit
from bpf2py.engine.code.x86_64.encode import RAX, mov_imm
from bpf2py.engine.code.x86_64.runtime import runtime

__all__ = ["PROOF", "emit", "features", "runtime", "thunk"]

PROOF = b"\xb8\x2a\0\0\0\xc3"  # mov eax, 42; ret
_ARGUMENTS = (7, 6, 2, 1, 8)  # rdi rsi rdx rcx r8


def features() -> frozenset[str]:
    """``bmi2``: the processor has shlx and its like."""
    try:
        with open("/proc/cpuinfo", "rb") as file:
            return frozenset({"bmi2"} if b" bmi2" in file.read(8192) else ())
    except OSError:
        return frozenset()


def thunk(operation: int, base: int, function: int, arguments: tuple[int, ...]) -> bytes:
    """See `Processor.thunk`: C's arguments and BPF's are in the same registers."""
    code = b"".join(mov_imm(register, value) for register, value in zip(_ARGUMENTS, arguments, strict=False))
    code += mov_imm(RAX, function)
    code += b"\x49\xba" + base.to_bytes(8, "little")  # mov r10, base
    return code + b"\x49\xbb" + operation.to_bytes(8, "little") + b"\x41\xff\xe3"  # mov r11, ...; jmp r11
