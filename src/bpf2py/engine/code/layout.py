"""`Layout`: what machine code has to know of its surroundings."""

from __future__ import annotations

__all__ = ["Layout"]


class Layout:
    """What the code has to know of its surroundings.

    Attributes:
        size: of the memory.
        callback: address of the C function that runs Python helpers.
        clock_gettime: address of C's function, 0 where there is none.
        unwind, python_helper, first_call, clock: addresses in the code around programs, see `Processor.runtime`.
        table: displacement of the table of functions from the memory's base.
        ops_stack: top of the stack of the library's own operations.
        features: what the processor has that not all of its kind have, see `Processor.features`.
    """

    __slots__ = (
        "callback", "clock", "clock_gettime", "features", "first_call", "ops_stack", "python_helper", "size", "table", "unwind",
    )  # fmt: skip

    def __init__(self, size: int, table: int, callback: int, ops_stack: int, features: frozenset[str]) -> None:
        self.size = size
        self.table = table
        self.callback = callback
        self.ops_stack = ops_stack
        self.features = features
        self.unwind = 0
        self.python_helper = 0
        self.first_call = 0
        self.clock_gettime = self.clock = 0
