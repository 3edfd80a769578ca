"""What stopped a program, as an exception that says where and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.engine.code.control import Fault, Slot
from bpf2py.engine.memory import PUBLIC
from bpf2py.errors import ProgramFault

if TYPE_CHECKING:
    from bpf2py.engine.programs.loaded import LoadedProgram
    from bpf2py.engine.run import Run

__all__ = ["describe"]


def describe(
    run: Run, program: LoadedProgram | None, control: memoryview, fault: int, fuel: int, text: str = ""
) -> ProgramFault:
    """The exception for what the control numbers say.

    Args:
        run: what was stopped.
        program: whose code it was stopped in; None for the library's.
        control: the numbers.
        fault: why.
        fuel: instructions it had for loops.
        text: what a helper says.
    """
    slot, address = control[Slot.PC], control[Slot.ADDRESS]
    kind = {
        Fault.FUEL: "fuel",
        Fault.STACK: "stack",
        Fault.FUNCTION: "function",
        Fault.MAP: "map",
        Fault.PYTHON: "helper",
    }.get(fault, "memory")
    if not text:
        text = {
            Fault.FUEL: f"it went on for more than {fuel} instructions in loops; Engine(fuel=...) allows more",
            Fault.STACK: "its calls and callbacks are nested so deeply that the stack is used up",
            Fault.FUNCTION: "it called something that is not a function",
            Fault.MAP: "it gave a helper something that is not a map",
            Fault.POINTER: f"it gave a helper {_address(address)}",
        }.get(fault, f"it read or wrote {_address(address)}")
    where = ""
    source = None
    if program is None:
        # In the library, on the program's behalf.
        program = run.program
        if kind == "memory":
            text = f"a helper it called was given {_address(address)}"
        slot = 0
    else:
        source = program.source_line(slot)
        where = f"\n  at {source}" if source is not None else ""
        where += f"\n  instruction {slot}: {program.disassembled(slot)}"
    return ProgramFault(
        f"program {run.program.name}: run: the engine stopped it: {text}{where}",
        program=run.program.name,
        kind=kind,
        instruction=slot,
        source_line=source,
        address=address if kind == "memory" else None,
    )


def _address(address: int) -> str:
    if address < 4096:
        return f"address {address:#x}: a null pointer"
    if address < PUBLIC:
        return f"address {address:#x}, which is the engine's own memory"
    return f"address {address:#x}, which is not memory of the engine's"
