"""The engine's own functions: maps and helpers written in C, shipped as one eBPF object, made runnable when first asked for."""

from __future__ import annotations

import functools
import os

from bpf2py.engine.code.check import set_frames
from bpf2py.engine.code.code import Code, Target
from bpf2py.isa.opcodes import CALL
from bpf2py.linker.link import Linker
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.program_spec import Function, ProgramSpec

__all__ = ["OBJECT", "library_code", "library_names"]

READ_CLOCK = 0x10001  # as in sources/quick.h
OBJECT = os.path.join(os.path.dirname(os.path.dirname(__file__)), "maps", "maps.bpf.o")


@functools.cache
def _functions() -> tuple[Linker, dict[str, Function]]:
    with open(OBJECT, "rb") as file:
        spec = ObjectSpec.from_bytes(file.read(), "engine")
    return Linker(spec, None), {function.name: function for function in spec.functions.values()}


def library_names() -> list[str]:
    """The functions there are."""
    return sorted(_functions()[1])


@functools.cache
def library_code(name: str) -> Code:
    """A function of the library with all it calls. Raises KeyError."""
    linker, functions = _functions()
    linked = linker.link(ProgramSpec(functions[name]))
    code = Code.decode(name, linked.code, [(offset, function.name) for offset, function in linked.starts])
    code.trusted = True
    set_frames(code)
    for slot, op in enumerate(code.ops):
        if op is not None and op.opcode == CALL and not op.src:
            code.helpers[slot] = (
                Target("inline", "read_clock") if op.imm == READ_CLOCK else Target("python", name, op.imm)
            )
    return code
