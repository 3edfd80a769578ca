"""The checker of one function: its names, what is known at the point it has reached, and conversions between types."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from bpf2py.lang.flow import Flow, merge
from bpf2py.lang.module import Module
from bpf2py.lang.tree import (
    AddrOf,
    Cast,
    Const,
    CoreRead,
    Deref,
    Expr,
    FieldOf,
    Function,
    Global,
    Index,
    Local,
    Logic,
    MapSlot,
    Not,
    Null,
    Str,
    Var,
)
from bpf2py.lang.types import (
    BOOL,
    CHAR,
    LITERAL,
    NONE,
    S64,
    VOID,
    Array,
    Int,
    MapRef,
    Opt,
    Ptr,
    Struct,
    Type,
    show,
    size_of,
)

__all__ = ["Checker", "Facts", "fits", "is_place", "range_of"]

Handler = Callable[["Checker", ast.AST], Expr]


class Facts:
    """A test: the expression, and what is known where it holds and where not."""

    __slots__ = ("expr", "no", "yes")

    def __init__(self, expr: Expr, yes: Flow, no: Flow) -> None:
        self.expr = expr
        self.yes = yes
        self.no = no


class Loop:
    """A loop that is being checked."""

    __slots__ = ("breaks", "closure", "held", "locks")

    def __init__(self, held: set[str], closure: bool = False) -> None:
        self.breaks: list[Flow] = []
        self.closure = closure
        self.held = held
        self.locks = 0


class Checker:
    """Checks one function, in rounds: what a later line says of a name's type is known in the next round."""

    expressions: ClassVar[dict[type[ast.AST], Callable[[Checker, Any], Expr]]] = {}

    def __init__(self, module: Module, function: Function) -> None:
        self.module = module
        self.function = function
        self.types: dict[str, Type] = {}
        self.fixed: set[str] = set()
        self.changed = False
        self.last = False
        self.elsewhere: dict[str, bool] = {}  # names of loops: whether they are read outside
        self.begin()

    def begin(self) -> None:
        """Start a round."""
        self.locals: dict[str, Local] = {p.name: p for p in self.function.parameters}
        self.globals = set(self.module.qualified)
        self.flow = Flow(assigned=set(self.locals))
        self.loops: list[Loop] = []
        self.hoisted: dict[
            tuple[str, str], tuple[Local, Expr]
        ] = {}  # fields of a context that are read once, by their names
        self.testing = False  # a name is compared with None only
        self.spinning = 0
        self.held_at: dict[str, ast.AST] = {}
        self.taken: dict[str, tuple[str, str]] = {}  # of what is held: which call gave it, and what gives it back
        self.same: dict[str, str] = {}  # names of what another name holds
        self.locks = 0
        self.changed = False
        self.temporaries = 0
        self.function.locals = []
        self.function.closures = []
        self.closures: list[list[Local]] = []
        self.stack = 0

    # -- errors ------------------------------------------------------------------------------------------------------

    def fail(self, node: ast.AST, message: str) -> NoReturn:
        """Refuse. Raises SourceError."""
        self.module.source.fail(node, message)

    # -- names -------------------------------------------------------------------------------------------------------

    def declare(self, name: str, value: Type, node: ast.AST, fixed: bool = False) -> Local:
        """The variable `name`, which gets a value of this type. Raises SourceError for another type than it has."""
        known = self.types.get(name)
        if fixed:
            if known is not None and name in self.fixed and known != value:
                self.fail(node, f"{name!r} is {show(known)} already; a name has one type")
            self.fixed.add(name)
            kind = value
        elif known is None or name in self.fixed:
            kind = known or value
        else:
            kind = self.join(known, value, name, node)
        if kind != known or _extent(kind) != _extent(known):
            self.types[name] = kind
            self.changed = True
        local = self.locals.get(name)
        if local is None:
            local = Local(name, kind, node=node)
            self.locals[name] = local
            self.function.locals.append(local)
            for own in self.closures:
                own.append(local)
        if not local.parameter:
            local.type = kind
        return local

    def root(self, name: str) -> str:
        """The first name of what a name means."""
        while name in self.same:
            name = self.same[name]
        return name

    def temporary(self, kind: Type, node: ast.AST) -> Local:
        """A variable that the program does not name."""
        self.temporaries += 1
        local = Local(f"tmp{self.temporaries}_", kind, node=node)
        self.function.locals.append(local)
        for own in self.closures:
            own.append(local)
        return local

    def join(self, one: Type, two: Type, name: str, node: ast.AST) -> Type:
        """The type that holds the values of both."""
        if one == two:
            if isinstance(one, Ptr) and isinstance(two, Ptr) and _facts(one) != _facts(two):
                return Ptr(
                    one.target,
                    one.probe or two.probe,
                    one.arena or two.arena,
                    one.extent if one.extent == two.extent else None,
                )
            if isinstance(one, Opt) and isinstance(two, Opt) and one.pointer.extent != two.pointer.extent:
                return Opt(Ptr(one.pointer.target, one.pointer.probe, one.pointer.arena))
            return one
        if LITERAL in (one, two):
            other = two if one == LITERAL else one
            if isinstance(other, Int):
                return other
            if other == BOOL:
                self.fail(node, f"{name!r} is bool elsewhere: write True or False here, or an integer there")
        if isinstance(one, Int) and isinstance(two, Int):
            if one.signed == two.signed:
                return one if one.bits >= two.bits else two
            unsigned, signed = (two, one) if one.signed else (one, two)
            if signed.bits > unsigned.bits:
                return signed
        if NONE in (one, two):
            other = two if one == NONE else one
            if isinstance(other, Ptr):
                return Opt(other)
            if isinstance(other, Opt):
                return other
            if isinstance(other, MapRef):
                return other
        pair = [t.pointer if isinstance(t, Opt) else t for t in (one, two)]
        if isinstance(pair[0], Ptr) and isinstance(pair[1], Ptr):
            if pair[0] == pair[1]:
                return Opt(Ptr(pair[0].target, pair[0].probe or pair[1].probe))
            if VOID in (pair[0].target, pair[1].target):
                kind = pair[0] if pair[1].target == VOID else pair[1]
                return Opt(kind) if Opt in (type(one), type(two)) else kind
        self.fail(
            node,
            f"{name!r} is {show(one)} elsewhere in this function, and {show(two)} here: a name has one type; "
            f"convert the value, as in {show(one) if isinstance(one, Int) else 'u64'}(...), or use another name",
        )

    # -- expressions -------------------------------------------------------------------------------------------------

    def expr(self, node: ast.AST) -> Expr:
        """Check an expression."""
        handler = self.expressions.get(type(node))
        if handler is None:
            self.fail(node, self.module.refusal(node))
        return handler(self, node)

    def value(self, node: ast.AST) -> Expr:
        """Check an expression that must have a value."""
        found = self.expr(node)
        if found.type == VOID:
            self.fail(node, "this call has no result")
        return found

    def test(self, node: ast.AST) -> Facts:
        """Check a condition."""
        if isinstance(node, ast.BoolOp):
            return self._bool_op(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self.test(node.operand)
            known = None if inner.expr.const is None else int(not inner.expr.const)
            return Facts(Not(BOOL, inner.expr, const=known), inner.no, inner.yes)
        self.testing = isinstance(node, ast.Name) or (
            isinstance(node, ast.Compare)
            and isinstance(node.comparators[0], ast.Constant)
            and node.comparators[0].value is None
        )
        found = self.value(node)
        self.testing = False
        yes, no = self.flow.copy(), self.flow.copy()
        name, some = self._none_test(node, found)
        if name is not None:
            first = self.root(name)
            (yes if some else no).is_some(name, first)
            (no if some else yes).is_none(name, first)
        if found.const is not None:
            (no if found.const else yes).dead = True
        return Facts(self.truth(found, node), yes, no)

    def _bool_op(self, node: ast.BoolOp) -> Facts:
        conjunction = isinstance(node.op, ast.And)
        operands: list[Expr] = []
        out: Flow | None = None
        for position, item in enumerate(node.values):
            facts = self.test(item)
            operands.append(facts.expr)
            onward, aside = (facts.yes, facts.no) if conjunction else (facts.no, facts.yes)
            out = aside if out is None else merge(out, aside)
            if position < len(node.values) - 1:
                self.flow = onward
        assert out is not None
        constants = [each.const for each in operands]
        known = None
        if all(c is not None for c in constants):
            known = int(all(constants) if conjunction else any(constants))
        expr = Logic(BOOL, "and" if conjunction else "or", operands, const=known)
        return Facts(expr, *((onward, out) if conjunction else (out, onward)))

    def _none_test(self, node: ast.AST, found: Expr) -> tuple[str | None, bool]:
        """The name that a test compares with None, and whether it is not None where the test holds."""
        some = True
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            left, right = node.left, node.comparators[0]
            if isinstance(right, ast.Constant) and right.value is None:
                subject = left
            elif isinstance(left, ast.Constant) and left.value is None:
                subject = right
            else:
                return None, True
            some = isinstance(node.ops[0], ast.IsNot | ast.NotEq)
            node = subject
        elif not isinstance(found.type, Opt | MapRef | Ptr):
            return None, True
        if isinstance(node, ast.NamedExpr):
            node = node.target
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            hoisted = self.hoisted.get((node.value.id, node.attr))
            return (hoisted[0].name if hoisted is not None else None), some
        return (node.id if isinstance(node, ast.Name) else None), some

    def truth(self, found: Expr, node: ast.AST) -> Expr:
        """An expression as a condition. Raises SourceError for what is neither true nor false."""
        if found.type in (BOOL, LITERAL) or isinstance(found.type, Int | Opt | Ptr):
            return found
        if isinstance(found.type, MapRef) and found.type.inner:
            return found
        if found.type == NONE and isinstance(found, Var):
            return Const(BOOL, 0)  # nothing else was assigned so far
        if found.type == NONE:
            self.fail(node, "None is never true: this condition has no effect")
        self.fail(node, f"{show(found.type)} is neither true nor false: compare it with something")

    # -- conversions -------------------------------------------------------------------------------------------------

    def coerce(self, found: Expr, kind: Type, node: ast.AST, what: str = "") -> Expr:
        """An expression as a value of `kind`. Raises SourceError where the language does not convert by itself."""
        own = found.type
        where = f" for {what}" if what else ""
        if kind == LITERAL and (own == LITERAL or isinstance(own, Int)):
            return found  # the width is known in the next round
        if kind == NONE == own:
            return found
        if isinstance(kind, Int):
            if own == LITERAL:
                if found.const is not None:
                    if not fits(found.const, kind):
                        self.fail(
                            node, f"{found.const} does not fit {show(kind)}{where}{_cast_hint(found.const, kind)}"
                        )
                    return Const(kind, found.const, getattr(found, "name", ""), const=found.const)
                return Cast(kind, found, range=found.range)
            if isinstance(own, Int):
                if own == kind:
                    return found
                limits = range_of(found)
                kept = limits if limits is not None and kind.low <= limits[0] and limits[1] <= kind.high else None
                return Cast(kind, found, const=None if found.const is None else kind.wrap(found.const), range=kept)
            if own == BOOL:
                return Cast(kind, found, const=found.const, range=(0, 1))
            if isinstance(own, Ptr | Opt):
                self.fail(
                    node,
                    f"a pointer is not an integer{where}: write {show(kind)}(...), or .value for what it points to",
                )
        elif kind == BOOL:
            if own == BOOL:
                return found
            if found.const in (0, 1) and own == LITERAL:
                return Const(BOOL, found.const or 0, const=found.const)
            self.fail(node, f"{show(own)} is not bool{where}: write bool(...), or compare it")
        elif isinstance(kind, Opt):
            if own == NONE:
                return Null(kind)
            if isinstance(own, Opt) and _same_target(own.pointer, kind.pointer):
                return found
            return self.coerce(found, kind.pointer, node, what)
        elif isinstance(kind, Ptr):
            return self._pointer(found, kind, node, where)
        elif isinstance(kind, Struct):
            if isinstance(own, Struct) and own is kind:
                return found
            if isinstance(own, Ptr) and own.target is kind:
                return Deref(kind, found)
        elif isinstance(kind, Array):
            if isinstance(own, Array) and own == kind:
                return found
            if isinstance(own, Ptr) and own.target == kind:
                return Deref(kind, found)
            if isinstance(found, Str):
                return found
        elif isinstance(kind, MapRef):
            if isinstance(own, MapRef):
                return found
        elif kind == VOID:
            self.fail(node, "this function returns nothing; give it an annotation such as -> u32")
        if own == NONE:
            self.fail(node, f"None is not {show(kind)}{where}")
        if isinstance(own, Opt):
            self.fail(node, f"this may be None{where}: test it first, as in `if x is None: return 0`")
        self.fail(node, f"{show(own)} is not {show(kind)}{where}")

    def _pointer(self, found: Expr, kind: Ptr, node: ast.AST, where: str) -> Expr:
        own = found.type
        if isinstance(own, Ptr):
            if _same_target(own, kind):
                return found
            if isinstance(own.target, Array) and own.target.element == kind.target:
                return AddrOf(kind, Deref(own.target, found))
            if (
                isinstance(kind.target, Struct)
                and isinstance(own.target, Struct)
                and own.target.name == kind.target.name
            ):
                return found
            if isinstance(own.target, Int) and isinstance(kind.target, Int) and own.target.bits == kind.target.bits:
                return Cast(kind, found)
            self.fail(node, f"{show(own)} is not {show(kind)}{where}: write p.cast({show(kind.target)})")
        if isinstance(own, Array) and is_place(found):
            if own.element == kind.target or kind.target == VOID or size_of(kind.target) == size_of(own.element) == 1:
                return AddrOf(kind, found)
            if own == kind.target:
                return AddrOf(kind, found)
        if isinstance(own, Struct) and is_place(found) and (own is kind.target or kind.target == VOID):
            return AddrOf(kind, found)
        if isinstance(found, Str) and kind.target in (CHAR, VOID):
            return found
        if isinstance(own, Opt):
            self.fail(node, f"this may be None{where}: test it first, as in `if x is None: return 0`")
        if isinstance(own, Int) or own == LITERAL:
            self.fail(node, f"an integer is not a pointer{where}: write {show(kind)}(...), or addr(x) for where x is")
        self.fail(node, f"{show(own)} is not {show(kind)}{where}")

    def settle(self, found: Expr) -> Expr:
        """An integer literal that no other operand gave a width: s64, or u64 where only that holds it."""
        if found.type == LITERAL:
            kind = S64 if found.const is None or fits(found.const, S64) else Int(64, False)
            return Cast(kind, found) if found.const is None else Const(kind, found.const, const=found.const)
        return found


def _facts(kind: Ptr) -> tuple[bool, bool, int | None]:
    return kind.probe, kind.arena, kind.extent


def _extent(kind: Type | None) -> int | None:
    kind = kind.pointer if isinstance(kind, Opt) else kind
    return kind.extent if isinstance(kind, Ptr) else None


def fits(value: int, kind: Int) -> bool:
    """Whether an integer type holds a value."""
    return kind.low <= value <= kind.high


def _cast_hint(value: int, kind: Int) -> str:
    if value < 0 and not kind.signed and value >= -(1 << kind.bits - 1):
        return f": write {show(kind)}({value}) for {kind.wrap(value):#x}"
    for bits in (16, 32, 64):
        if bits > kind.bits and fits(value, Int(bits, kind.signed)):
            return f": {'s' if kind.signed else 'u'}{bits} holds it"
    return ""


def _same_target(own: Ptr, kind: Ptr) -> bool:
    return own.target == kind.target or VOID in (own.target, kind.target)


def is_place(found: Expr) -> bool:
    """Whether an expression names a place in memory."""
    if isinstance(found, FieldOf):
        return found.arrow or is_place(found.base) or isinstance(found.base, Deref)
    if isinstance(found, Index):
        return isinstance(found.base.type, Ptr) or is_place(found.base)
    return isinstance(found, Var | Global | Deref | MapSlot | CoreRead)


def range_of(found: Expr) -> tuple[int, int] | None:
    """The least and the greatest value of an integer, where they are known to be narrower than 32 bits' worth."""
    if found.const is not None:
        return found.const, found.const
    if found.range is not None:
        return found.range
    if found.type == BOOL:
        return 0, 1
    if isinstance(found.type, Int) and found.type.bits <= 32:
        return found.type.low, found.type.high
    return None
