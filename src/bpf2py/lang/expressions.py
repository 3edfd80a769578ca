"""Expressions: names, fields, elements, comparisons, choices."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from bpf2py.lang import arithmetic, map_methods, references
from bpf2py.lang.flow import Flow, merge
from bpf2py.lang.scope import Checker, is_place, range_of
from bpf2py.lang.source import did_you_mean
from bpf2py.lang.tree import (
    AddrOf,
    Compare,
    Cond,
    Const,
    CoreRead,
    Deref,
    Expr,
    FieldOf,
    FuncAddr,
    Function,
    Global,
    GlobalVar,
    Index,
    Local,
    Logic,
    MapAddr,
    MapDecl,
    MapOp,
    MapSlot,
    Not,
    Null,
    Str,
    Var,
    Walrus,
)  # fmt: skip
from bpf2py.lang.types import (
    BOOL,
    CHAR,
    LITERAL,
    NONE,
    S8,
    S64,
    STRING,
    U8,
    U64,
    VOID,
    Array,
    Field,
    FuncType,
    Int,
    MapRef,
    Opt,
    Ptr,
    Struct,
    Type,
    show,
    size_of,
)  # fmt: skip
from bpf2py.uapi.map_types import MapType

__all__ = ["EXPRESSIONS", "attribute_of", "place", "text_of"]


def text_of(c: Checker, node: ast.Constant) -> bytes:
    """The bytes of a text literal. Raises SourceError where a NUL is among them."""
    data = node.value.encode() if isinstance(node.value, str) else node.value
    assert isinstance(data, bytes)
    if b"\0" in data:
        c.fail(node, "text ends at its first NUL: leave it out")
    return data


def _constant(c: Checker, node: ast.Constant) -> Expr:
    value = node.value
    if value is None:
        return Null()
    if isinstance(value, bool):
        return Const(BOOL, int(value), const=int(value))
    if isinstance(value, int):
        if value.bit_length() > 4096:
            c.fail(node, "this literal fits no integer type")
        return arithmetic.literal(value)
    if isinstance(value, str | bytes):
        return Str(STRING, text_of(c, node))
    if isinstance(value, float):
        c.fail(node, "eBPF has no floats: count in a smaller unit, such as nanoseconds or thousandths")
    c.fail(node, f"{value!r} is not a value of this language")


def _name(c: Checker, node: ast.Name) -> Expr:
    name = node.id
    if name in c.globals or (name not in c.locals and name not in c.types):
        found = c.module.lookup(name, node)
        if isinstance(found, GlobalVar):
            if isinstance(found.type, Ptr):
                return Global(found.type, found)
            return Global(found.type, found)
        if isinstance(found, MapDecl):
            if found.single:
                return MapSlot(found.value or VOID, found, arithmetic.literal(0))
            return MapAddr(MapRef(found), found)
        if isinstance(found, Function):
            return FuncAddr(FuncType(found), found)
        if isinstance(found, Expr):
            return found
        known = [*c.locals, *c.module.known_names()]
        c.fail(node, f"there is no {name!r}{did_you_mean(name, known)}{c.module.hint(name)}")
    local = c.locals.get(name)
    if local is None:
        c.fail(node, f"{name!r} has no value yet at this line")
    if name not in c.flow.assigned and not c.flow.dead:
        c.fail(node, f"{name!r} may have no value here: not every way to this line assigns it")
    references.used(c, node, name)
    kind = local.type
    if isinstance(kind, Opt) and name in c.flow.nonnull:
        kind = kind.pointer
    return Var(kind, local, range=local.loop_range)


def _walrus(c: Checker, node: ast.NamedExpr) -> Expr:
    value = c.value(node.value)
    assert isinstance(node.target, ast.Name)
    local = assign_name(c, node.target, value)
    return Walrus(local.type, local, c.coerce(value, local.type, node))


def assign_name(c: Checker, node: ast.Name, value: Expr, fixed: Type | None = None) -> Local:
    """Give a name a value of an expression's type."""
    name = node.id
    if name in c.module.names and name not in c.globals and not isinstance(c.module.names[name], Function | tuple):
        if "." in name:
            c.fail(node, f"{name} is not a variable: what a module defines keeps its meaning")
        c.fail(node, f"{name!r} is a name of the module: write `global {name}` first, or use another name")
    if value.type == LITERAL and value.const is not None and S64.high < value.const <= U64.high:
        value = c.coerce(value, U64, node)
    kind = fixed or value.type
    if kind in (VOID, STRING) or isinstance(kind, FuncType):
        c.fail(
            node,
            "this has no value that a name could hold"
            if kind == VOID
            else f"{show(kind)} is not held by a name: write a byte array, as in char[16]()",
        )
    before = c.locals.get(name)
    if before is not None and isinstance(before.type, Struct | Array):
        c.fail(
            node,
            f"{name!r} is a place in memory, which keeps its name: copy by {name}.field = ..., or use another name",
        )
    kept = references.before_assignment(c, node, name, value)
    local = c.declare(name, kind, node, fixed is not None)
    c.flow.assign(name)
    if isinstance(local.type, Opt) and isinstance(value.type, Ptr):
        c.flow.nonnull.add(name)
    references.note(c, node, name, value, kept)
    return local


def _unary(c: Checker, node: ast.UnaryOp) -> Expr:
    if isinstance(node.op, ast.Not):
        facts = c.test(node)
        c.flow = _joined(facts.yes, facts.no)
        return facts.expr
    op = {ast.USub: "-", ast.Invert: "~", ast.UAdd: "+"}[type(node.op)]
    return arithmetic.unary(c, op, c.value(node.operand), node)


def _joined(yes: Flow, no: Flow) -> Flow:
    return merge(yes, no)


def _binary(c: Checker, node: ast.BinOp) -> Expr:
    left = c.value(node.left)
    return arithmetic.binary(c, node, node.op, left, c.value(node.right))


def _bool_op(c: Checker, node: ast.BoolOp) -> Expr:
    before = c.flow.copy()
    facts = c.test(node)
    if all(_is_truth(each) for each in facts.expr.operands):  # type: ignore[attr-defined]
        c.flow = _joined(facts.yes, facts.no)
        return facts.expr
    # The value of an operand, as Python has it.
    c.flow = before
    values = []
    for position, item in enumerate(node.values):
        values.append(c.value(item))
        if position == 0:
            after = c.flow.copy()
        if position < len(node.values) - 1:
            step = c.test(item)
            c.flow = step.yes if isinstance(node.op, ast.And) else step.no
    c.flow = after
    kind = values[0].type
    for position, each in enumerate(values[1:], 1):
        if isinstance(kind, Opt) and isinstance(each.type, Ptr | Opt) and isinstance(node.op, ast.Or):
            kind = each.type
            continue
        _, _, kind = _both(c, node, "or", values[position - 1], each)
    op = "and" if isinstance(node.op, ast.And) else "or"
    whole = kind if not isinstance(kind, Ptr) else Opt(kind)
    return Logic(kind, op, [c.coerce(each, whole, node) if each.type != kind else each for each in values])


def _is_truth(found: Expr) -> bool:
    if isinstance(found, Logic):  # a test makes True or False of numbers, too: what they are joined to has their value
        return all(map(_is_truth, found.operands))
    return found.type == BOOL


def _both(c: Checker, node: ast.AST, op: str, left: Expr, right: Expr) -> tuple[Expr, Expr, Type]:
    """Two operands in a common type."""
    a, b = left.type, right.type
    if a == b:
        return left, right, a
    if {type(a), type(b)} <= {Int} or (LITERAL in (a, b) and all(t == LITERAL or isinstance(t, Int) for t in (a, b))):
        return arithmetic.balance(c, node, op, left, right)
    kind = c.join(a, b, "this value", node)
    return c.coerce(left, kind, node), c.coerce(right, kind, node), kind


def _conditional(c: Checker, node: ast.IfExp) -> Expr:
    facts = c.test(node.test)
    c.flow = facts.yes
    then = c.value(node.body)
    yes = c.flow
    c.flow = facts.no
    other = c.value(node.orelse)
    c.flow = _joined(yes, c.flow)
    if isinstance(then, Str) or isinstance(other, Str):
        c.fail(node, "text is not chosen by an expression: write an if statement")
    then, other, kind = _both(c, node, "if/else", then, other)
    if isinstance(kind, Struct | Array):
        kind = Ptr(kind)
        then, other = AddrOf(kind, then), AddrOf(kind, other)
    a, b = range_of(then), range_of(other)
    limits = (min(a[0], b[0]), max(a[1], b[1])) if a is not None and b is not None else None
    return Cond(kind, facts.expr, then, other, range=limits)


_OPS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip


def _compare(c: Checker, node: ast.Compare) -> Expr:
    left = c.value(node.left)
    parts: list[Expr] = []
    for position, (op, right_node) in enumerate(zip(node.ops, node.comparators, strict=True)):
        if isinstance(op, ast.In | ast.NotIn):
            part = _contains(c, node, left, right_node)
            parts.append(Not(BOOL, part) if isinstance(op, ast.NotIn) else part)
            if len(node.ops) > 1:
                c.fail(node, "`in` stands alone here: write it with `and`")
            break
        right = c.value(right_node)
        onward = right
        if position < len(node.ops) - 1 and not isinstance(right, Const | Var):
            right = c.settle(right)
            local = c.temporary(right.type, node)
            onward = Var(right.type, local, range=right.range)
            right = Walrus(right.type, local, right, range=right.range)
        parts.append(_comparison(c, node, op, left, right))
        left = onward
    if len(parts) == 1:
        return parts[0]
    return Logic(BOOL, "and", parts)


def _comparison(c: Checker, node: ast.Compare, op: ast.cmpop, left: Expr, right: Expr) -> Expr:
    if NONE in (left.type, right.type):
        subject = right if isinstance(left, Null) else left
        positive = isinstance(op, ast.Is | ast.Eq)
        if not isinstance(op, ast.Is | ast.IsNot | ast.Eq | ast.NotEq):
            c.fail(node, "None is neither less nor greater than anything")
        if subject.type == NONE and isinstance(subject, Var):
            return Const(BOOL, int(positive), const=None)  # nothing else was assigned so far
        if subject.type == NONE or not isinstance(subject.type, Opt | Ptr | MapRef):
            c.fail(node, f"{show(subject.type)} is never None")
        return Compare(BOOL, "==" if positive else "!=", subject, Null(subject.type))
    if isinstance(op, ast.Is | ast.IsNot):
        c.fail(node, "`is` compares with None only: write == or !=")
    name = _OPS[type(op)]
    sides = (left, right)
    if any(
        isinstance(s, Str)
        or isinstance(s.type, Array)
        or (isinstance(s.type, Ptr) and isinstance(s.type.target, Array))
        for s in sides
    ) and not any(isinstance(s.type, Ptr) and not isinstance(s.type.target, Array | Int) for s in sides):
        return _text_compare(c, node, name, left, right)
    if any(isinstance(side.type, Struct) for side in sides):
        c.fail(node, "structs do not compare: compare their fields")
    return arithmetic.compare(c, node, name, left, right)


def _text_compare(c: Checker, node: ast.AST, op: str, left: Expr, right: Expr) -> Expr:
    if op not in ("==", "!="):
        c.fail(node, f"arrays do not compare by {op}: compare their elements")
    if isinstance(left, Str):
        left, right = right, left
    array = left.type.target if isinstance(left.type, Ptr) else left.type
    if isinstance(right, Str):
        if isinstance(left, Str):
            return Const(
                BOOL,
                int((left.data == right.data) == (op == "==")),
                const=int((left.data == right.data) == (op == "==")),
            )
        size = array.count if isinstance(array, Array) else None
        if (isinstance(array, Array) and array.element in (U8, S8, CHAR)) or array in (U8, S8):
            if size is not None and len(right.data) > size:
                c.fail(
                    node,
                    f"this text has {len(right.data)} bytes, {show(array)} has no room for it: they are never equal",
                )
            if isinstance(left, CoreRead):
                c.fail(
                    node,
                    "memory of the kernel does not compare at once: copy it first: buf = char[16](); read_kernel_str(buf, ...)",
                )
            return MapOp(BOOL, f"text{op}", left, [right])
        c.fail(node, f"{show(left.type)} is not text")
    other = right.type.target if isinstance(right.type, Ptr) else right.type
    if isinstance(array, Array) and isinstance(other, Array) and array == other:
        return MapOp(BOOL, f"bytes{op}", left, [right])
    c.fail(node, f"{show(left.type)} and {show(right.type)} do not compare")


def _contains(c: Checker, node: ast.Compare, left: Expr, right_node: ast.expr) -> Expr:
    if isinstance(right_node, ast.Tuple | ast.List | ast.Set):
        if not right_node.elts:
            c.fail(right_node, "nothing is in here")
        first: Expr = left
        onward = left
        if not isinstance(left, Const | Var):
            left = c.settle(left)
            local = c.temporary(left.type, node)
            first, onward = Walrus(left.type, local, left, range=left.range), Var(left.type, local, range=left.range)
        parts = [
            _comparison(c, node, ast.Eq(), first if position == 0 else onward, c.value(item))
            for position, item in enumerate(right_node.elts)
        ]
        return parts[0] if len(parts) == 1 else Logic(BOOL, "or", parts)
    if isinstance(right_node, ast.Call) and isinstance(right_node.func, ast.Name) and right_node.func.id == "range":
        bounds = [c.value(a) for a in right_node.args]
        if len(bounds) not in (1, 2):
            c.fail(right_node, "only range(stop) and range(start, stop) have members that are quickly found")
        low = bounds[0] if len(bounds) == 2 else arithmetic.literal(0)
        left = c.settle(left)
        local = c.temporary(left.type, node)
        var = Var(left.type, local, range=left.range)
        return Logic(BOOL, "and", [
            arithmetic.compare(c, node, ">=", Walrus(left.type, local, left, range=left.range), low),
            arithmetic.compare(c, node, "<", var, bounds[-1]),
        ])  # fmt: skip
    right = c.value(right_node)
    if isinstance(right.type, MapRef):
        return map_methods.method(c, node, right, "__contains__", [left])
    c.fail(right_node, f"`in` works on maps, tuples of constants and ranges, not on {show(right.type)}")


# -- fields and elements ------------------------------------------------------------------------------------------


def _attribute(c: Checker, node: ast.Attribute) -> Expr:
    if isinstance(node.value, ast.Name) and node.value.id not in c.locals:
        found = c.module.member(node.value.id, node.attr, node)
        if found is not None:
            return found
    return attribute_of(c, c.value(node.value), node.attr, node)


def attribute_of(c: Checker, base: Expr, name: str, node: ast.AST) -> Expr:
    """A field of what an expression is or points to."""
    kind = base.type
    if isinstance(kind, Opt):
        c.fail(node, f"this may be None: test it before using .{name}, as in `if x is None: return 0`")
    if isinstance(base, CoreRead) and isinstance(kind, Struct):
        field = _field(c, kind, name, node)
        return _core(
            c, base.root, [*base.path[:-1], f"{base.path[-1]}.{field.name}"], field.type, [*base.steps, kind], base.core
        )
    if isinstance(kind, Struct):
        field = _field(c, kind, name, node)
        return FieldOf(_pointer_kind(kind, field.type, base), base, field, name, False)
    if isinstance(kind, Ptr):
        target = kind.target
        if isinstance(target, Struct) and (name != "value" or "value" in target.fields):
            field = _field(c, target, name, node)
            if isinstance(base, Var) and _may_be_missing(base, target, field):
                return _hoisted(c, base, field, node)
            if kind.probe:
                if isinstance(base, CoreRead):
                    return _core(c, base.root, [*base.path, field.name], field.type, [*base.steps, target], base.core)
                return _core(c, base, [field.name], field.type, [target], target.kernel)
            _within(c, node, kind, 0, 1)
            return FieldOf(_pointer_kind(target, field.type, base), base, field, name, True)
        if name == "value":
            if target == VOID:
                c.fail(node, "a pointer to nothing in particular has no value: p.cast(u32) says what is there")
            if kind.probe:
                return CoreRead(target, base, [], False, [])
            _within(c, node, kind, 0, size_of(target))
            return Deref(target, base)
        c.fail(node, f"{show(kind)} has no field {name!r}: .value is what it points to")
    if isinstance(kind, MapRef):
        c.fail(node, f"a map's {name!r} is not a value: call its methods")
    c.fail(node, f"{show(kind)} has no fields")


def _within(c: Checker, node: ast.AST, kind: Ptr, offset: int, size: int) -> None:
    """Refuse an access beyond the memory that is known to be there, as the verifier would."""
    if kind.extent is not None and offset + size > kind.extent:
        there = f"{max(kind.extent, 0)} bytes are" if kind.extent != 1 else "1 byte is"
        c.fail(
            node,
            f"this reaches beyond what is known to be there ({there} left from this pointer on): ask for a larger value, record or "
            "piece of the packet, as in ctx.packet(T, offset)",
        )


def _may_be_missing(base: Var, owner: Struct, field: Field) -> bool:
    """What an iterator gives is None when it is called for the last time; the map that it walks through is always there."""
    if not base.local.parameter or not owner.kernel or not owner.name.startswith("bpf_iter__"):
        return False
    walked = field.name == "map" and owner.name != "bpf_iter__bpf_map"
    return isinstance(field.type, Ptr) and field.name != "meta" and not walked


def _hoisted(c: Checker, base: Var, field: Field, node: ast.AST) -> Expr:
    """A field of an iterator's context: read once, for the verifier knows what was tested by the value and not by its place."""
    key = base.local.name, field.name
    assert isinstance(field.type, Ptr)
    if key not in c.hoisted:
        local = Local(f"{field.name}_of_{base.local.name}", Opt(Ptr(field.type.target)), node=node)
        c.hoisted[key] = local, FieldOf(Ptr(field.type.target), base, field, field.name, True)
        c.function.locals.append(local)
    local = c.hoisted[key][0]
    return Var(Ptr(field.type.target) if local.name in c.flow.nonnull else local.type, local)


def _field(c: Checker, kind: Struct, name: str, node: ast.AST) -> Field:
    found = kind.fields.get(name)
    if found is None:
        where = f"the kernel's {kind.name}" if kind.kernel else kind.name
        c.fail(node, f"{where} has no field {name!r}{did_you_mean(name, kind.fields)}")
    if kind.kernel:
        c.module.use_kernel_type(kind)
        inner = found.type
        while isinstance(inner, Ptr | Array):
            inner = inner.target if isinstance(inner, Ptr) else inner.element
        if isinstance(inner, Struct):
            c.module.use_kernel_type(inner)
    return found


def _pointer_kind(owner: Struct, kind: Type, base: Expr) -> Type:
    """A pointer read from memory: the verifier follows those of the kernel's own structs only."""
    if isinstance(kind, Ptr):
        if isinstance(base.type, Ptr) and base.type.arena:
            return Ptr(kind.target, arena=True)
        target = kind.target
        untrusted = (
            owner.name.startswith("trace_event_raw") if owner.kernel else isinstance(target, Struct) and target.kernel
        )
        return Ptr(target, kind.probe or untrusted)
    return kind


def _core(c: Checker, root: Expr, path: list[str | Expr], kind: Type, steps: list[Type], core: bool) -> Expr:
    if isinstance(kind, Ptr):
        kind = Ptr(kind.target, True)
    elif isinstance(kind, Opt):
        kind = Ptr(kind.pointer.target, True)
    return CoreRead(kind, root, path, core, steps)


def _subscript(c: Checker, node: ast.Subscript) -> Expr:
    base = c.value(node.value)
    if isinstance(node.slice, ast.Slice | ast.Tuple):
        c.fail(node.slice, "there are no slices: pass an array with a length, or p + n for the bytes from n on")
    if isinstance(base.type, MapRef):
        return _map_element(c, node, base)
    index = c.value(node.slice)
    kind = base.type
    if isinstance(kind, Opt):
        c.fail(node, "this may be None: test it first, as in `if x is None: return 0`")
    if index.type == BOOL or not (isinstance(index.type, Int) or index.type == LITERAL):
        c.fail(node.slice, f"an index is an integer, not {show(index.type)}")
    if isinstance(kind, Ptr) and isinstance(kind.target, Array):
        if index.const is not None and not kind.probe:
            step = size_of(kind.target.element)
            _within(c, node, kind, index.const * step, step)
        base = CoreRead(kind.target, base, [], False) if kind.probe else Deref(kind.target, base)
        kind = base.type
    if isinstance(kind, Array):
        _in_bounds(c, node, index, kind)
        if isinstance(base, CoreRead):
            index_text = f"[{index.const}]" if index.const is not None else None
            if index_text is None or not base.path:
                pointer = Ptr(kind.element, True)
                address = Cast(c, pointer, base)
                return CoreRead(kind.element if not isinstance(kind.element, Ptr) else Ptr(kind.element.target, True),
                                arithmetic.binary(c, node, ast.Add(), address, index), [], False)  # fmt: skip
            return _core(
                c, base.root, [*base.path[:-1], f"{base.path[-1]}{index_text}"], kind.element, base.steps, base.core
            )
        element = kind.element
        return Index(element, base, c.settle(index))
    if isinstance(kind, Ptr):
        if kind.target == VOID:
            c.fail(node, "a pointer to nothing in particular has no elements: p.cast(u8) says what is there")
        if kind.probe:
            target = Ptr(kind.target.target, True) if isinstance(kind.target, Ptr) else kind.target
            moved = base if index.const == 0 else arithmetic.binary(c, node, ast.Add(), base, index)
            return CoreRead(target, moved, [], False)
        if index.const is not None:
            _within(c, node, kind, index.const * size_of(kind.target), size_of(kind.target))
        return Index(kind.target, base, c.settle(index))
    c.fail(node, f"{show(kind)} has no elements")


def Cast(c: Checker, kind: Ptr, base: Expr) -> Expr:
    """The address of an array in memory nobody vouches for, as a pointer to its elements."""
    return AddrOf(kind, base)


def _in_bounds(c: Checker, node: ast.Subscript, index: Expr, kind: Array) -> None:
    if index.const is not None and kind.count and not 0 <= index.const < kind.count:
        hint = f": the last one is [{kind.count - 1}]" if index.const < 0 or index.const >= kind.count else ""
        c.fail(node.slice, f"{show(kind)} has no element {index.const}{hint}")
    limits = range_of(index)
    if index.const is None and limits is not None and kind.count and limits[0] >= kind.count:
        c.fail(node.slice, f"{show(kind)} has {kind.count} elements; this index is at least {limits[0]}")


def _map_element(c: Checker, node: ast.Subscript, base: Expr) -> Expr:
    assert isinstance(base.type, MapRef)
    found: MapDecl = base.type.map
    index = c.value(node.slice)
    if found.kind in (MapType.ARRAY, MapType.PERCPU_ARRAY) and isinstance(base, MapAddr) and base.pointer is None:
        limits = range_of(index)
        if found.max_entries is not None and limits is not None and limits[0] >= 0 and limits[1] < found.max_entries:
            if found.value is None:
                c.fail(node, "this map's values have no type")
            return MapSlot(found.value, found, index)
        if index.const is not None:
            c.fail(node.slice, f"{found.name} has {found.max_entries} elements, so there is no [{index.const}]")
        c.fail(
            node,
            f"this index may be {found.max_entries} or more: write p = {found.name}.get(i) and test p, or i % {found.max_entries}",
        )
    c.fail(node, f"the key may not be there: write p = {found.name or 'map'}.get(key) and test p for None")


def place(c: Checker, node: ast.AST, found: Expr) -> Expr:
    """An expression as a place in memory. Raises SourceError for a value."""
    if not is_place(found):
        c.fail(node, "this value has no place in memory: give it a name first")
    return found


def _tuple(c: Checker, node: ast.AST) -> Expr:
    c.fail(node, "a tuple is not a value here: define a class X(Struct) with a field for each part")


EXPRESSIONS: dict[type[ast.AST], Callable[[Checker, Any], Expr]] = {
    ast.Constant: _constant, ast.Name: _name, ast.NamedExpr: _walrus, ast.UnaryOp: _unary, ast.BinOp: _binary,
    ast.BoolOp: _bool_op, ast.IfExp: _conditional, ast.Compare: _compare, ast.Attribute: _attribute,
    ast.Subscript: _subscript, ast.Tuple: _tuple,
}  # fmt: skip
