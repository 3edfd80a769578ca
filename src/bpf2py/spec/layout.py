"""What linking several objects into one needs of each: its global symbols and its sections' alignments."""

from __future__ import annotations

from bpf2py._typing import NamedTuple


class GlobalSymbol(NamedTuple):
    """A symbol other objects may refer to.

    Attributes:
        section, section_name: where it is defined (ELF index).
        value, size: bytes in that section.
        weak: gives way to another definition of the name.
        function: whether it is code.
    """

    section: int
    section_name: str
    value: int
    size: int
    weak: bool
    function: bool


class Layout(NamedTuple):
    """The global symbols of an object by name, and the alignment of each of its data sections by name."""

    symbols: dict[str, GlobalSymbol]
    alignments: dict[str, int]
