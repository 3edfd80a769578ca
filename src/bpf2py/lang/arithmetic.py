"""What operators mean: the type of their result, the values it can have, and what is refused."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable

from bpf2py.lang.scope import Checker, fits, range_of
from bpf2py.lang.tree import OPERATORS, Binary, Cast, Compare, Const, Expr, Unary
from bpf2py.lang.types import BOOL, LITERAL, S64, U32, U64, Array, Int, Opt, Ptr, Type, show, size_of

__all__ = ["balance", "binary", "compare", "literal", "unary"]

_REFUSED = {
    ast.Div: "/ gives a float, which eBPF does not have: write // for a quotient",
    ast.Pow: "** is not an instruction: multiply, or shift 1 to the left for a power of 2",
    ast.MatMult: "there are no matrices here",
}
_FOLD: dict[str, Callable[[int, int], int]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "&": operator.and_, "|": operator.or_, "^": operator.xor,
}  # fmt: skip
COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_MOST_BITS = 4096


def literal(value: int, name: str = "") -> Const:
    """An integer that has no width yet."""
    return Const(LITERAL, value, name, const=value)


def unary(c: Checker, op: str, operand: Expr, node: ast.AST) -> Expr:
    """``-x``, ``~x``, ``+x``."""
    kind = operand.type
    if kind == LITERAL and operand.const is not None:
        return literal(-operand.const if op == "-" else ~operand.const if op == "~" else operand.const)
    if kind == BOOL:
        operand = c.coerce(operand, Int(32, True), node)
        kind = operand.type
    if kind == LITERAL or isinstance(kind, Int):
        if op == "+":
            return operand
        known = (
            kind.wrap(-operand.const if op == "-" else ~operand.const)
            if isinstance(kind, Int) and operand.const is not None
            else None
        )
        return Unary(kind, op, operand, const=known)
    c.fail(node, f"{op} does not work on {show(kind)}")


def fold(c: Checker, op: str, a: int, b: int, node: ast.AST) -> int:
    """Two literals; as Python computes it, but for division by zero, which is eBPF's."""
    if op in ("<<", ">>"):
        if not 0 <= b < _MOST_BITS:
            c.fail(node, f"a shift by {b}")
        result = a << b if op == "<<" else a >> b
    elif op == "//":
        result = a // b if b else 0
    elif op == "%":
        result = a % b if b else a
    else:
        result = _FOLD[op](a, b)
    if result.bit_length() > _MOST_BITS:
        c.fail(node, "this constant is far too large")
    return result


def binary(c: Checker, node: ast.AST, operation: ast.operator, left: Expr, right: Expr) -> Expr:
    """An arithmetic operator."""
    refused = _REFUSED.get(type(operation))
    if refused is not None:
        if (
            isinstance(operation, ast.Pow)
            and left.const is not None
            and right.const is not None
            and left.type == LITERAL
        ):
            if not 0 <= right.const <= 128 or abs(left.const) > 1 << 64:
                c.fail(node, "this power is far too large")
            return literal(left.const**right.const)
        c.fail(node, refused)
    op = OPERATORS[type(operation)]
    if left.const is not None and right.const is not None and left.type == right.type == LITERAL:
        return literal(fold(c, op, left.const, right.const, node))
    for side in (left, right):
        if isinstance(side.type, Opt):
            c.fail(node, "this may be None: test it first, as in `if x is None: return 0`")
    if isinstance(left.type, Array):
        left = c.coerce(left, Ptr(left.type.element), node)
    if isinstance(left.type, Ptr) or isinstance(right.type, Ptr):
        return _pointers(c, node, op, left, right)
    if left.type == BOOL and right.type == BOOL and op in ("&", "|", "^"):
        return Binary(BOOL, op, left, right)
    left, right = (c.coerce(side, U32, node) if side.type == BOOL else side for side in (left, right))
    for side in (left, right):
        if side.type != LITERAL and not isinstance(side.type, Int):
            c.fail(node, f"{op} does not work on {show(side.type)}")
    if op in ("<<", ">>"):
        return _shift(c, node, op, left, right)
    left, right, kind = balance(c, node, op, left, right)
    if isinstance(kind, Int) and kind.bits > 64:
        c.fail(node, "there is no arithmetic on u128: it is for fields of structs only")
    known = None
    if left.const is not None and right.const is not None and isinstance(kind, Int):
        known = kind.wrap(fold(c, op, left.const, right.const, node))
    return Binary(kind, op, left, right, const=known, range=_range(op, left, right, kind))


def _pointers(c: Checker, node: ast.AST, op: str, left: Expr, right: Expr) -> Expr:
    if isinstance(left.type, Ptr) and isinstance(right.type, Ptr) and op == "-":
        return Binary(S64, op, left, right)
    if isinstance(left.type, Ptr) and op in ("+", "-") and (isinstance(right.type, Int) or right.type == LITERAL):
        own, extent = left.type, None
        if own.extent is not None and right.const is not None:
            extent = own.extent - right.const * size_of(own.target) * (1 if op == "+" else -1)
        return Binary(Ptr(own.target, own.probe, own.arena, extent), op, left, c.settle(right))
    if isinstance(right.type, Ptr) and op == "+" and (isinstance(left.type, Int) or left.type == LITERAL):
        own = right.type
        return Binary(Ptr(own.target, own.probe, own.arena), op, right, c.settle(left))
    c.fail(node, f"{op} does not work on {show(left.type)} and {show(right.type)}: convert pointers by u64(p)")


def _shift(c: Checker, node: ast.AST, op: str, left: Expr, right: Expr) -> Expr:
    kind = left.type
    if kind == LITERAL:
        if left.const is not None:
            kind = U64 if left.const >= 0 else S64
            left = c.coerce(left, kind, node)
        elif right.const is None:
            return Binary(LITERAL, op, left, c.settle(right))
    if right.const is not None:
        bits = kind.bits if isinstance(kind, Int) else 64
        if not 0 <= right.const < bits:
            c.fail(node, f"a shift of {show(kind)} by {right.const}: only 0 to {bits - 1} leave anything of it")
    limits = None
    own = range_of(left)
    if op == ">>" and own is not None and own[0] >= 0 and right.const is not None:
        limits = own[0] >> right.const, own[1] >> right.const
    elif op == ">>" and isinstance(kind, Int) and not kind.signed and right.const:
        limits = 0, kind.high >> right.const
    elif op == "<<" and own is not None and own[0] >= 0 and right.const is not None and isinstance(kind, Int):
        most = own[1] << right.const
        limits = (own[0] << right.const, most) if most <= kind.high else None
    right = c.settle(right)
    known = (
        kind.wrap(fold(c, op, left.const, right.const, node))
        if left.const is not None and right.const is not None and isinstance(kind, Int)
        else None
    )
    return Binary(kind, op, left, right, range=limits, const=known)


def balance(c: Checker, node: ast.AST, op: str, left: Expr, right: Expr) -> tuple[Expr, Expr, Type]:
    """Both operands in the type in which the operator works. Raises SourceError where no type keeps their values."""
    a, b = left.type, right.type
    if a == LITERAL and b == LITERAL:
        return left, right, LITERAL
    if a == LITERAL or b == LITERAL:
        side, other = (left, right) if a == LITERAL else (right, left)
        kind = other.type
        assert isinstance(kind, Int)
        converted = _literal_as(c, node, op, side, kind)
        return (converted, right, kind) if a == LITERAL else (left, converted, kind)
    assert isinstance(a, Int)
    assert isinstance(b, Int)
    if a.signed == b.signed:
        wide: Type = a if a.bits >= b.bits else b
        return c.coerce(left, wide, node), c.coerce(right, wide, node), wide
    unsigned, signed = (right, left) if a.signed else (left, right)
    assert isinstance(unsigned.type, Int)
    assert isinstance(signed.type, Int)
    limits, low = range_of(unsigned), range_of(signed)
    bits = max(unsigned.type.bits, signed.type.bits)
    if limits is not None and limits[1] <= Int(bits, True).high:
        kind = Int(bits, True)
    elif low is not None and low[0] >= 0:
        kind = Int(bits, False)
    elif unsigned.type.bits < 64:
        kind = Int(max(signed.type.bits, unsigned.type.bits * 2), True)
    else:
        c.fail(
            node,
            f"{show(a)} {op} {show(b)}: no integer type holds the values of both, so the result would change: write "
            f"{show(Int(64, True))}(...) around the {show(unsigned.type)}, or u64(...) around the {show(signed.type)}",
        )
    return c.coerce(left, kind, node), c.coerce(right, kind, node), kind


def _literal_as(c: Checker, node: ast.AST, op: str, side: Expr, kind: Int) -> Expr:
    value = side.const
    if value is None:
        return Cast(kind, side)
    if op in ("&", "|", "^") and not kind.signed and -(1 << kind.bits - 1) <= value < 0:
        return Const(kind, kind.wrap(value), const=kind.wrap(value))  # x & ~7: the same bits
    if not fits(value, kind):
        widest = (
            "s64"
            if value < 0
            else next(
                (
                    f"{'s' if kind.signed else 'u'}{n}"
                    for n in (16, 32, 64)
                    if n > kind.bits and fits(value, Int(n, kind.signed))
                ),
                "",
            )
        )
        hint = f": write {widest}(...) around the other operand" if widest else ""
        c.fail(node, f"{value} does not fit {show(kind)}, the type of the other operand of {op}{hint}")
    return c.coerce(side, kind, node)


def _range(op: str, left: Expr, right: Expr, kind: Type) -> tuple[int, int] | None:
    if not isinstance(kind, Int):
        return None
    a, b = range_of(left), range_of(right)
    if op == "&":
        highs = [r[1] for r in (a, b) if r is not None and r[0] >= 0]
        return (0, min(highs)) if highs else None
    if op == "%" and b is not None and b[0] > 0:
        return 0, b[1] - 1
    if a is None or b is None:
        return None
    if op == "//" and b[0] > 0 and a[0] >= 0:
        return a[0] // b[1], a[1] // b[0]
    if op not in ("+", "-", "*"):
        return None
    ends = [_FOLD[op](x, y) for x in a for y in b]
    low, high = min(ends), max(ends)
    return (low, high) if kind.low <= low and high <= kind.high else None


def compare(c: Checker, node: ast.AST, op: str, left: Expr, right: Expr) -> Expr:
    """A comparison of integers or pointers."""
    if left.const is not None and right.const is not None and left.type == right.type == LITERAL:
        return Compare(BOOL, op, left, right, const=int(COMPARISONS[op](left.const, right.const)))
    if left.type == BOOL and right.type == BOOL:
        return Compare(BOOL, op, left, right)
    left, right = (c.coerce(side, U32, node) if side.type == BOOL else side for side in (left, right))
    pointers = [side for side in (left, right) if isinstance(side.type, Ptr | Opt)]
    if len(pointers) == 2:
        return Compare(BOOL, op, left, right)
    if pointers:
        other = right if pointers[0] is left else left
        if isinstance(other.type, Array):
            return Compare(BOOL, op, left, right)
        c.fail(node, f"a pointer and {show(other.type)} do not compare: write u64(p), or p.value for what it points to")
    for side in (left, right):
        if side.type != LITERAL and not isinstance(side.type, Int):
            c.fail(node, f"{show(side.type)} does not compare by {op}")
    left, right, _ = balance(c, node, op, left, right)
    known = None
    if left.const is not None and right.const is not None:
        known = int(COMPARISONS[op](left.const, right.const))
    return Compare(BOOL, op, left, right, const=known)
