"""Formatted output: an f-string as the kernel's format and its arguments."""

from __future__ import annotations

import ast
import re

from bpf2py.lang import references
from bpf2py.lang.scope import Checker, is_place
from bpf2py.lang.tree import AddrOf, Cast, CoreRead, Expr, Print, Str
from bpf2py.lang.types import BOOL, CHAR, LITERAL, S8, U8, U64, Array, Int, Opt, Ptr, Struct, show

__all__ = ["formatted"]

_SPEC = re.compile(r"#?0?\d*[xXdo]?")
_MOST = 12


def formatted(c: Checker, node: ast.AST, where: str) -> Print:
    """Check ``f"..."`` or a plain text."""
    text = ""
    arguments: list[Expr] = []
    if isinstance(node, ast.JoinedStr):
        for part in node.values:
            if isinstance(part, ast.Constant):
                text += _plain(c, part, str(part.value))
            elif isinstance(part, ast.FormattedValue):
                spec, value = _field(c, part)
                text += spec
                arguments.append(value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = _plain(c, node, node.value)
    else:
        c.fail(node, 'this takes a text: f"pid {pid}"')
    if len(arguments) > _MOST:
        c.fail(node, f"the kernel formats at most {_MOST} values at once")
    c.function.helper = c.function.helper or where
    references.under_lock(c, node, "printing")
    return Print(Int(64, True), where, text, arguments)


def _plain(c: Checker, node: ast.AST, text: str) -> str:
    if any(ord(char) > 126 or (ord(char) < 32 and char not in "\n\t") for char in text):
        c.fail(node, "the kernel prints ASCII text only")
    return text.replace("%", "%%")


def _field(c: Checker, part: ast.FormattedValue) -> tuple[str, Expr]:
    value = c.value(part.value)
    spec = ""
    if part.format_spec is not None:
        pieces = part.format_spec.values if isinstance(part.format_spec, ast.JoinedStr) else []
        if any(not isinstance(piece, ast.Constant) for piece in pieces):
            c.fail(part, "the format of a value is constant here")
        spec = "".join(str(piece.value) for piece in pieces if isinstance(piece, ast.Constant))
    if part.conversion not in (-1, 115):
        c.fail(part, "there are no conversions such as !r here")
    kind = value.type
    if isinstance(kind, Ptr | Opt):
        pointer = kind.pointer if isinstance(kind, Opt) else kind
        if (isinstance(pointer.target, Array) and pointer.target.element in (U8, S8, CHAR)) or pointer.target == CHAR:
            return "%s", value
        return "%lx" if spec else "%px", value
    if isinstance(value, Str):
        return "%s", value
    if isinstance(kind, Array) and kind.element in (U8, S8, CHAR):
        if not (is_place(value) or isinstance(value, CoreRead)):
            c.fail(part, "this text has no place in memory")
        return "%s", AddrOf(Ptr(kind.element), value)
    if isinstance(kind, Struct | Array):
        c.fail(part, f"{show(kind)} is not printed at once: print its fields or elements")
    if not _SPEC.fullmatch(spec):
        c.fail(part, f"the kernel has no format {spec!r}: x, X, d and o, with a width, are what it knows")
    if value.type == LITERAL and (value.const or 0) > 0:
        value = c.coerce(value, U64, part)
    value = c.settle(value)
    if value.type == BOOL:
        return "%d", Cast(Int(32, True), value)
    if not isinstance(value.type, Int):
        c.fail(part, f"{show(kind)} is not printed")
    letter = spec[-1] if spec and spec[-1] in "xXo" else "d" if value.type.signed else "u"
    width = spec.rstrip("xXdo")
    if letter in "xX" and value.type.signed:
        c.fail(
            part,
            f"Python prints a negative number with a minus here, the kernel does not: write u{value.type.bits}(...)",
        )
    length = "ll" if value.type.bits == 64 else ""
    return f"%{width}{length}{letter}", value
