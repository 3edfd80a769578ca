"""Translated programs whose code says that it stands in the program's own file: for pdb, breakpoints, coverage and profilers.

A line of the Python translation gets the number of the line of the source that its instruction comes from, and the instruction's
slot as its column, by which a fault finds it again.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from types import CodeType, TracebackType

from bpf2py.engine.code.code import SourceLine

__all__ = ["compiled", "slot_of"]


def compiled(text: str, slots: Sequence[int], lines: Sequence[SourceLine]) -> tuple[CodeType, str] | None:
    """The code of a translation and the file it says it stands in; None where its source is not Python.

    Args:
        text: the translation.
        slots: the instruction of each of its lines.
        lines: where instructions come from, by slot.
    """
    files = [each.file for each in lines if each.file.endswith(".py")]
    if not files:
        return None
    file = files[0]
    tree = ast.parse(text)
    places = _places(max(slots, default=0) + 1, file, lines)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.expr | ast.arg):
            slot = slots[node.lineno - 1]
            node.lineno = node.end_lineno = places[slot]
            node.col_offset, node.end_col_offset = slot, slot + 1
    return compile(tree, file, "exec"), file


def _places(count: int, file: str, lines: Sequence[SourceLine]) -> list[int]:
    """The source line of every slot; what headers contribute counts for the line before it."""
    own = [each for each in lines if each.file == file]
    result, position, current = [], 0, own[0].line
    for slot in range(count):
        while position < len(own) and own[position].slot <= slot:
            current = own[position].line
            position += 1
        result.append(max(current, 1))
    return result


def slot_of(trace: TracebackType) -> int | None:
    """The instruction that a frame of a placed translation is at."""
    for position, (_, _, column, _) in enumerate(trace.tb_frame.f_code.co_positions()):
        if position == trace.tb_lasti // 2:
            return column
    return None
