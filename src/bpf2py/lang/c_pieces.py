"""Pieces of C that expressions are printed with: text, and the functions for operations that C does otherwise than Python."""

from __future__ import annotations

from bpf2py.lang.tree import Binary, Cast, Compare, Const, Expr, Logic, Not, SizeOf, Unary
from bpf2py.lang.types import Int

__all__ = ["Functions", "division_function", "is_pure", "shift_function", "text_literal"]


def text_literal(data: bytes) -> str:
    """Bytes as a C string literal."""
    out = ""
    for byte in data:
        char = chr(byte)
        if char in '"\\?':
            out += "\\" + char
        elif 32 <= byte < 127:
            out += char
        else:
            out += {"\n": "\\n", "\t": "\\t"}.get(char, f"\\{byte:03o}")
    return f'"{out}"'


def is_pure(expr: Expr) -> bool:
    """Whether an expression does nothing but have a value."""
    if isinstance(expr, Const):
        return True
    if isinstance(expr, Binary | Compare):
        return is_pure(expr.left) and is_pure(expr.right)
    if isinstance(expr, Unary | Cast | Not):
        return is_pure(expr.operand)
    if isinstance(expr, Logic):
        return all(map(is_pure, expr.operands))
    return isinstance(expr, SizeOf)


def shift_function(function: str, name: str, kind: Int, op: str) -> str:
    """A shift whose count may be the width or more: nothing of the number is left then."""
    over = "x < 0 ? -1 : 0" if kind.signed and op == ">>" else "0"
    return (
        f"static __always_inline {name} {function}({name} x, u64 n)\n{{\n"
        f"\treturn n < {kind.bits} ? x {op} n : {over};\n}}\n"
    )


def division_function(function: str, name: str, kind: Int, op: str) -> str:
    """A quotient or remainder as Python rounds it; by zero as eBPF does."""
    head = f"static __always_inline {name} {function}({name} a, {name} b)\n{{\n"
    if not kind.signed:
        return f"{head}\treturn b ? a {op} b : {'0' if op == '/' else 'a'};\n}}\n"
    unsigned = "u64" if kind.bits == 64 else "u32"
    body = (
        f"\t{unsigned} x = a < 0 ? -({unsigned})a : a, y = b < 0 ? -({unsigned})b : b;\n\n"
        f"\tif (!b)\n\t\treturn {'0' if op == '/' else 'a'};\n"
    )
    if op == "/":
        body += "\tif ((a < 0) != (b < 0))\n\t\treturn -(x / y + (x % y != 0));\n\treturn x / y;\n"
    else:
        body += "\tx %= y;\n\tif (x && (a < 0) != (b < 0))\n\t\tx = y - x;\n\treturn b < 0 ? -x : x;\n"
    return f"{head}{body}}}\n"


class Functions(dict[str, str]):
    """Functions by name; `lines` says where in the program each was first used, `now` where the printer is."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}
        self.now = 0

    def __setitem__(self, name: str, text: str) -> None:
        self.lines.setdefault(name, self.now)
        super().__setitem__(name, text)
