"""What `Processor` asks for."""

from __future__ import annotations

from bpf2py.engine.code.aarch64.emit import emit
from bpf2py.engine.code.aarch64.encode import RET, br, mov_imm
from bpf2py.engine.code.aarch64.runtime import FUNCTION, MEMORY, code_of, runtime

__all__ = ["PROOF", "emit", "features", "runtime", "thunk"]

PROOF = code_of([*mov_imm(0, 42), RET])


def features() -> frozenset[str]:
    """None is needed."""
    return frozenset()


def thunk(operation: int, base: int, function: int, arguments: tuple[int, ...]) -> bytes:
    """See `Processor.thunk`: C's arguments and BPF's are in the same registers."""
    words = [word for register, value in enumerate(arguments) for word in mov_imm(register, value)]
    words += [*mov_imm(FUNCTION, function), *mov_imm(MEMORY, base), *mov_imm(9, operation), br(9)]
    return code_of(words)
