"""The control numbers: what translated programs share with the engine."""

from __future__ import annotations

__all__ = ["FIRST_CALL", "Fault", "Slot"]

# In the number of a callback that is not a helper's: the rest is the control number of a library function to be provided.
FIRST_CALL = 1 << 30


class Slot:
    """Indexes of the numbers in `Memory.control`."""

    SAVED_SP, FAULT, PC, ADDRESS, FUEL, FUNCTIONS, STACK_LOW, TAIL_CALLS, STACK_TOP, UNIT, RESULT = range(11)
    LIBRARY = 16  # the first of those that hold addresses of the library's functions


class Fault:
    """Why a program was left, in control[FAULT]."""

    MEMORY, FUEL, PYTHON, STACK, FUNCTION, MAP, THROW, POINTER = range(1, 9)
