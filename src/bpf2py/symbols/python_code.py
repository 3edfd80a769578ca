"""Code objects as a program copied them: names, and the line of an instruction.

Source of facts: CPython's Objects/locations.md (InternalDocs/code_objects.md in newer versions), and the PyASCIIObject and
PyCompactUnicodeObject structures of Include/cpython/unicodeobject.h.
"""

from __future__ import annotations

from bpf2py.symbols.python_offsets import Offsets

__all__ = ["line_of", "text_of"]

_NO_LOCATION, _LONG, _NO_COLUMNS, _ONE_LINE = 15, 14, 13, 10  # kinds of entries; shorter forms are on the line before


def line_of(linetable: bytes, firstlineno: int, instruction: int) -> int | None:
    """The line of an instruction, counted in code units; None where it has none, or the table was cut before it."""
    line, unit, at = firstlineno, 0, 0
    while at < len(linetable):
        first = linetable[at]
        at += 1
        if not first & 0x80:
            return None  # not the beginning of an entry: the table is damaged
        kind, length = first >> 3 & 15, (first & 7) + 1
        here: int | None = line
        if kind == _NO_LOCATION:
            here = None
        elif kind in (_LONG, _NO_COLUMNS):
            value = shift = 0
            while at < len(linetable):
                byte = linetable[at]
                at += 1
                value |= (byte & 63) << shift
                shift += 6
                if not byte & 64:
                    break
            line += -(value >> 1) if value & 1 else value >> 1
            here = line
        elif kind >= _ONE_LINE:
            line += kind - _ONE_LINE
            here = line
        if unit <= instruction < unit + length:
            return here
        unit += length
        while at < len(linetable) and not linetable[at] & 0x80:  # columns and end lines
            at += 1
    return None


def text_of(data: bytes, offsets: Offsets) -> str:
    """The text of a string object whose first bytes these are; what was cut ends with ``...``."""
    length = int.from_bytes(data[offsets.unicode_length : offsets.unicode_length + 8], "little")
    state = int.from_bytes(data[offsets.unicode_state : offsets.unicode_state + 4], "little")
    for shift in (2, 16):  # the state of being interned takes two bits, in some versions two bytes
        width, compact, is_ascii = state >> shift & 7, state >> shift + 3 & 1, state >> shift + 4 & 1
        if width in (1, 2, 4) and compact:
            break
    else:
        return ""
    start = offsets.unicode_data if is_ascii else offsets.unicode_wide
    raw = data[start : start + length * width]
    text = raw[: len(raw) // width * width].decode({1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[width], "replace")
    return text if len(text) >= length else f"{text}..."
