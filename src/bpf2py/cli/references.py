"""Programs and links as they are written on the command line: ids, names and pins."""

from __future__ import annotations

from bpf2py.errors import BpfError
from bpf2py.kernel import inspect
from bpf2py.programs import Link, Program


def open_program(reference: str) -> Program:
    """The program meant by an id, a pin path or a name. Raises BpfError."""
    if "/" in reference:
        return Program.from_pin(reference, backend="kernel")
    found = [info.id for info in inspect.programs() if reference in (str(info.id), info.name)]
    if not found:
        raise BpfError(f"there is no program {reference!r}; `bpf2py prog list` shows the ones there are")
    if len(found) > 1:
        raise BpfError(f"several programs are named {reference!r}: ids {', '.join(map(str, found))}")
    return Program.from_id(found[0], backend="kernel")


def open_link(reference: str) -> Link:
    """The link meant by an id or a pin path. Raises BpfError."""
    if "/" in reference:
        return Link.from_pin(reference, backend="kernel")
    if not reference.isdecimal():
        raise BpfError(
            f"{reference!r} is not the id or the pin path of a link; `bpf2py link list` shows the ones there are"
        )
    return Link.from_id(int(reference), backend="kernel")
