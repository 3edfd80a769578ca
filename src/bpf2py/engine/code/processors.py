"""The processors there is an emitter for: a row each, and a folder with what `Processor` asks for."""

from __future__ import annotations

import functools
import os
import sys
from importlib import import_module
from typing import Protocol, cast

from bpf2py.engine.code.code import Code
from bpf2py.engine.code.layout import Layout

__all__ = ["PROCESSORS", "Processor", "processor"]

# The name of the machine as uname(2) gives it, and the module.
PROCESSORS = {
    "aarch64": "bpf2py.engine.code.aarch64.processor",
    "x86_64": "bpf2py.engine.code.x86_64.processor",
}


class Processor(Protocol):
    """What makes code runnable on one kind of processor; none of it depends on the machine it is asked on, but `features`.

    Attributes:
        PROOF: a C function without arguments that returns 42.
    """

    @property
    def PROOF(self) -> bytes: ...

    def features(self) -> frozenset[str]:
        """What this machine's processor has that not all of its kind have."""

    def runtime(self, layout: Layout) -> tuple[bytes, dict[str, int]]:
        """The code around programs: (machine code, offsets of the following parts).

        ``program``: C function (function, base, four arguments): runs a program with the fuel and stack of the control numbers.
        ``operation``: where `thunk` goes: an operation of the library.
        ``unwind``: ends the innermost of both. ``python_helper``: calls back with five arguments and a number.
        ``first_call``: called through the control number of a library function that is not there yet: calls back for it, and
        goes on with it.
        ``clock``, only where the layout has `clock_gettime`: called with the number of one of the system's clocks: nanoseconds.
        ``synchronise``, only where code written into pages that are executable already has to be made known to the processor:
        C function (start, end).
        """

    def emit(
        self, code: Code, layout: Layout, resolve: dict[str, int], library: dict[str, int], unit: int
    ) -> tuple[bytes, dict[int, int]]:
        """(machine code, where each function starts in it by its slot). Raises EncodeError for code that is too large.

        Args:
            code: checked instructions, their functions numbered.
            layout: of the surroundings.
            resolve: addresses of the library's functions by name, and the bounds of the maps' headers.
            library: control numbers that hold addresses of the library's functions, by name.
            unit: a number that says which code a fault was in.
        """

    def thunk(self, operation: int, base: int, function: int, arguments: tuple[int, ...]) -> bytes:
        """A C function that calls a function of the library with its own arguments, of which it sets the first ones.

        Args:
            operation: address of that part of the runtime.
            base: of the memory.
            function: the address of the library's function.
            arguments: numbers for the first ones.
        """


@functools.cache
def processor() -> Processor | None:
    """This machine's, None where there is no emitter for it."""
    # Where Python is a 32-bit program, the machine is named after its kernel all the same.
    if sys.platform != "linux" or sys.maxsize < 1 << 32:
        return None
    module = PROCESSORS.get(os.uname().machine)
    return cast("Processor", import_module(module)) if module is not None else None
