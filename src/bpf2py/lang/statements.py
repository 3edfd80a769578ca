"""Statements: assignments, choices, the end of a function. Loops have a file of their own."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from bpf2py.lang import arithmetic, map_methods, references
from bpf2py.lang.expressions import assign_name, attribute_of
from bpf2py.lang.flow import Flow, merge
from bpf2py.lang.scope import Checker, is_place
from bpf2py.lang.source import did_you_mean
from bpf2py.lang.tree import (
    OPERATORS,
    AddrOf,
    Assign,
    Atomic,
    Block,
    Compare,
    Const,
    Copy,
    CoreRead,
    Deref,
    Expr,
    ExprStmt,
    FieldOf,
    Global,
    GlobalVar,
    Helper,
    If,
    Index,
    Kfunc,
    Local,
    Lock,
    Logic,
    MapAddr,
    MapDecl,
    MapOp,
    MapSlot,
    Null,
    Print,
    Return,
    Stmt,
    Str,
    StructLit,
    Var,
    Walrus,
)  # fmt: skip
from bpf2py.lang.types import (
    BOOL,
    CHAR,
    LITERAL,
    NONE,
    S8,
    STRING,
    U8,
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
)  # fmt: skip
from bpf2py.uapi.map_types import MapType

__all__ = ["STACK", "STATEMENTS", "block", "statement"]

STATEMENTS: dict[type[ast.AST], Callable[[Checker, Any, list[Stmt]], None]] = {}
STACK = 512


def block(c: Checker, nodes: Sequence[ast.stmt]) -> Block:
    """Check statements in order."""
    out: list[Stmt] = []
    for node in nodes:
        if c.flow.dead and not isinstance(node, ast.Pass):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue
            # CPython would not run it either; its errors are errors all the same.
            lost: list[Stmt] = []
            before = c.flow
            c.flow = Flow(assigned=set(c.locals), nonnull=set(), held={})
            statement(c, node, lost)
            c.flow = before
            continue
        statement(c, node, out)
    return Block(out)


def statement(c: Checker, node: ast.stmt, out: list[Stmt]) -> None:
    """Check one statement."""
    handler = STATEMENTS.get(type(node))
    if handler is None:
        c.fail(node, c.module.refusal(node))
    handler(c, node, out)


def _assign(c: Checker, node: ast.Assign, out: list[Stmt]) -> None:
    if len(node.targets) > 1:
        _chain(c, node, out)
        return
    target = node.targets[0]
    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple) and len(target.elts) == len(node.value.elts):
        _several(c, node, target, node.value, out)
        return
    if isinstance(target, ast.Tuple | ast.List | ast.Starred):
        c.fail(target, "values are not unpacked: write a statement for each name")
    _store(c, node, target, node.value, out)


def _chain(c: Checker, node: ast.Assign, out: list[Stmt]) -> None:
    """``a = b = value``: the value once, then the targets from left to right."""
    value = c.value(node.value)
    if isinstance(value.type, Struct | Array) or value.type == STRING:
        c.fail(node.targets[1], "one target is assigned at a time here: write a statement for each")
    if not isinstance(value, Const | Null):
        value = c.settle(value)
        local = c.temporary(value.type, node)
        out.append(Assign(node.lineno, Var(local.type, local), value))
        value = Var(value.type, local, range=value.range)
    for target in node.targets:
        if isinstance(target, ast.Tuple | ast.List | ast.Starred):
            c.fail(target, "values are not unpacked: write a statement for each name")
        _put(c, node, target, value, node.value, out)


def _several(c: Checker, node: ast.Assign, targets: ast.Tuple, values: ast.Tuple, out: list[Stmt]) -> None:
    """``a, b = x, y``: all values first, as Python computes them."""
    held: list[Expr] = []
    for value_node in values.elts:
        value = c.value(value_node)
        if isinstance(value, Const | Str):
            held.append(value)
            continue
        if isinstance(value.type, Struct | Array) or value.type in (STRING, NONE):
            c.fail(value_node, "write a statement for each name here")
        local = c.temporary(value.type, node)
        out.append(Assign(node.lineno, Var(local.type, local), value))
        held.append(Var(value.type, local, range=value.range))
    for target, value in zip(targets.elts, held, strict=True):
        _put(c, node, target, value, node.value, out)


def _store(c: Checker, node: ast.stmt, target: ast.expr, value_node: ast.expr, out: list[Stmt]) -> None:
    value = c.value(value_node)
    _put(c, node, target, value, value_node, out)


def _put(c: Checker, node: ast.stmt, target: ast.expr, value: Expr, value_node: ast.expr, out: list[Stmt]) -> None:
    line = node.lineno
    if isinstance(target, ast.Name) and target.id not in c.globals:
        known = c.locals.get(target.id)
        if isinstance(value, StructLit):
            if isinstance(known, Local) and known.type != value.type:
                c.fail(target, f"{target.id!r} is {show(known.type)} already; a name has one type")
            if known is None:
                local = c.declare(target.id, value.type, target)
                c.flow.assign(target.id)
            else:
                local = known
                c.flow.assign(target.id)
            _spend(c, value.type, target)
            out.append(Assign(line, Var(local.type, local), value))
            return
        if isinstance(value, CoreRead) and isinstance(value.type, Struct | Array) and isinstance(known, Local):
            if known.type == value.type:
                _copy(c, node, Var(known.type, known), value, out, value_node)
                return
        if isinstance(value.type, Struct | Array) and is_place(value):
            if isinstance(value, CoreRead):
                c.fail(
                    value_node,
                    f"{show(value.type)} in the kernel's memory has no name of its own: read its fields or elements one by one, "
                    "or copy it with read_kernel(copy, ...)",
                )
            # A name for a place: as in Python, both names mean one thing.
            value = AddrOf(Ptr(value.type), value)
        if isinstance(value, Str):
            if known is not None and isinstance(known.type, Array):
                _copy(c, node, Var(known.type, known), value, out)
                return
            c.fail(
                value_node,
                'text is not held by a name: make room for it first, as in name = char[16](), then name = "text"',
            )
        local = assign_name(c, target, value)
        out.append(Assign(line, Var(local.type, local), c.coerce(value, local.type, value_node)))
        return
    place = _target(c, target)
    if isinstance(place, MapOp):  # m[k] = v
        _map_store(c, node, place, value, value_node, out)
        return
    if isinstance(place.type, Array):
        _copy(c, node, place, value, out, value_node)
        return
    if isinstance(place.type, Struct) and isinstance(value, CoreRead):
        _copy(c, node, place, value, out, value_node)
        return
    out.append(Assign(line, place, c.coerce(value, place.type, value_node, "this place")))


def _target(c: Checker, node: ast.expr) -> Expr:
    """A place to assign to."""
    if isinstance(node, ast.Name):
        found = c.module.lookup(node.id, node)
        place = c.expr(ast.copy_location(ast.Name(node.id, ast.Load()), node)) if found is not None else None
        if isinstance(place, Global) and place.variable.const:
            c.fail(node, f"{node.id!r} is constant: it is set before the program is loaded")
        if isinstance(place, Global | MapSlot):
            return place
        c.fail(node, f"{node.id!r} is not a variable")
    if isinstance(node, ast.Attribute):
        found = attribute_of(c, c.value(node.value), node.attr, node)
    elif isinstance(node, ast.Subscript):
        base = c.value(node.value)
        if isinstance(base.type, MapRef):
            if base.type.map.kind in (MapType.ARRAY, MapType.PERCPU_ARRAY):
                index = c.value(node.slice)
                entries = base.type.map.max_entries
                if index.const is not None and entries is not None and not 0 <= index.const < entries:
                    c.fail(node.slice, f"{base.type.map.name} has {entries} elements, so there is no [{index.const}]")
                if index.const is not None and isinstance(base, MapAddr) and base.pointer is None:
                    return MapSlot(base.type.map.value or VOID, base.type.map, index)
                return MapOp(VOID, "element", base, [index])
            return MapOp(VOID, "element", base, [c.value(node.slice)])
        found = c.expr(node)
    elif isinstance(node, ast.Starred):
        c.fail(node, "values are not unpacked: write a statement for each name")
    else:
        c.fail(node, "this is not a place that a value can be assigned to")
    if isinstance(found, CoreRead):
        c.fail(node, "this memory is the kernel's and may only be read")
    if not is_place(found):
        c.fail(node, "this is a copy, so the assignment would be lost: get a pointer first, as in p = m.get(key)")
    root = found
    while isinstance(root, FieldOf | Index) and not (isinstance(root, FieldOf) and root.arrow):
        root = root.base
    if isinstance(root, Global) and root.variable.const:
        c.fail(node, f"{root.variable.name!r} is constant: it is set before the program is loaded")
    return found


def _copy(
    c: Checker, node: ast.stmt, place: Expr, value: Expr, out: list[Stmt], value_node: ast.AST | None = None
) -> None:
    """Text or memory into an array or struct."""
    kind = place.type
    at = value_node or node
    if isinstance(value, Str):
        if not isinstance(kind, Array) or kind.element not in (U8, S8, CHAR):
            c.fail(at, f"text does not fit {show(kind)}: only char[N] and u8[N] hold it")
        if len(value.data) > kind.count:
            c.fail(at, f"this text has {len(value.data)} bytes, {show(kind)} has room for {kind.count}")
    elif isinstance(value, StructLit):
        c.coerce(value, kind, at)
    else:
        own = value.type.target if isinstance(value.type, Ptr) and isinstance(value.type.target, Array) else value.type
        if isinstance(own, Ptr) or not (isinstance(own, Array) or own is kind) or size_of(own) > size_of(kind):
            same = isinstance(own, Int) and own.bits // 8 == size_of(kind)
            hint = (
                f": write addr(...).cast({show(own)}).value = ..., with the place within the brackets" if same else ""
            )
            c.fail(at, f"{show(value.type)} is not {show(kind)}{hint}")
    out.append(Copy(node.lineno, place, value))


def _map_store(c: Checker, node: ast.stmt, element: MapOp, value: Expr, value_node: ast.AST, out: list[Stmt]) -> None:
    call = map_methods.method(c, node, element.map, "__setitem__", [element.arguments[0], value])
    out.append(ExprStmt(node.lineno, call))


def _annotated(c: Checker, node: ast.AnnAssign, out: list[Stmt]) -> None:
    if not isinstance(node.target, ast.Name):
        c.fail(node.target, "only names have annotations here")
    kind = c.module.annotation(node.annotation)
    name = node.target.id
    if name in c.globals:
        c.fail(node.target, f"{name!r} is declared global: its type stands in the module")
    if isinstance(kind, Struct | Array):
        if node.value is None:
            c.fail(node, f"make room for it: {name} = {show(kind)}()")
        value = c.value(node.value)
        if not isinstance(value, StructLit) or value.type != kind:
            if isinstance(kind, Array) and isinstance(value, Str):
                local = c.declare(name, kind, node.target, True)
                c.flow.assign(name)
                _spend(c, kind, node)
                _copy(c, node, Var(kind, local), value, out, node.value)
                return
            c.fail(node.value, f"write {show(kind)}(...): a new {show(kind)}")
        local = c.declare(name, kind, node.target, True)
        c.flow.assign(name)
        _spend(c, kind, node)
        out.append(Assign(node.lineno, Var(kind, local), value))
        return
    if node.value is None:
        c.declare(name, kind, node.target, True)
        return
    value = c.value(node.value)
    if isinstance(kind, Opt) and isinstance(value.type, Ptr | Opt):
        c.coerce(value, kind, node.value, repr(name))
    converted = c.coerce(value, kind, node.value, repr(name))
    local = assign_name(c, node.target, value, kind)
    out.append(Assign(node.lineno, Var(kind, local), converted))


def _spend(c: Checker, kind: Type, node: ast.AST) -> None:
    c.stack += size_of(kind) + -size_of(kind) % 8
    c.function.stack = c.stack
    if c.stack > STACK:
        c.fail(
            node,
            f"the variables of {c.function.name} take {c.stack} bytes, and the stack has {STACK}: keep large ones in a map, "
            "as in scratch = PerCpuArray[u32, Big](max_entries=1)",
        )


_ATOMIC = {"+": "add", "-": "sub", "|": "or", "&": "and", "^": "xor"}


def _augmented(c: Checker, node: ast.AugAssign, out: list[Stmt]) -> None:
    line = node.lineno
    target = node.target
    if isinstance(target, ast.Name) and target.id not in c.globals and (target.id in c.locals or target.id in c.types):
        current = c.expr(ast.copy_location(ast.Name(target.id, ast.Load()), target))
        value = c.value(node.value)
        result = _step(c, node, current, value)
        local = assign_name(c, target, result)
        out.append(Assign(line, Var(local.type, local), c.coerce(result, local.type, node)))
        return
    place = _target(c, target)
    value = c.value(node.value)
    if isinstance(place, MapOp):
        operation = OPERATORS.get(type(node.op))
        if operation is None:
            arithmetic.binary(c, node, node.op, arithmetic.literal(1), value)
        found: MapDecl = place.map.type.map  # type: ignore[attr-defined]
        if not isinstance(found.value, Int):
            c.fail(
                node,
                f"{found.name}[...] {operation}= works on maps of integers; these are {show(found.value or VOID)}: use get()",
            )
        if (
            value.type == LITERAL
            and value.const is not None
            and value.const < 0
            and operation in ("+", "-")
            and not found.value.signed
        ):
            value = Const(found.value, found.value.wrap(value.const), const=found.value.wrap(value.const))
        _step(c, node, Var(found.value, Local("", found.value)), value)
        key = c.coerce(place.arguments[0], found.key or VOID, node, "the key")
        out.append(
            ExprStmt(line, MapOp(VOID, f"update{operation}", place.map, [key, c.coerce(value, found.value, node)]))
        )
        return
    result = _step(c, node, place, value)
    op = OPERATORS[type(node.op)]
    if (
        isinstance(place.type, Int)
        and op in ("+", "-", "&", "|", "^", "*")
        and isinstance(value.type, Int | type(LITERAL))
    ):
        out.append(Assign(line, place, c.coerce(value, place.type, node), op))
        return
    if isinstance(place, MapSlot) or _has_calls(place):
        if op in ("//", "%", "<<", ">>") or isinstance(place.type, Ptr):
            local = c.temporary(Ptr(place.type), node)
            if isinstance(place, MapSlot):
                out.append(Assign(line, place, value, op))
                return
            out.append(Assign(line, Var(local.type, local), AddrOf(Ptr(place.type), place)))
            place = Deref(place.type, Var(local.type, local))
            result = _step(c, node, place, value)
    out.append(Assign(line, place, c.coerce(result, place.type, node)))


def _step(c: Checker, node: ast.AugAssign, place: Expr, value: Expr) -> Expr:
    """``place op value``; into a place of a width, a value of the other signedness adds the same bits."""
    kind = place.type
    if isinstance(kind, Int) and isinstance(value.type, Int) and kind.signed != value.type.signed:
        if (
            isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.BitAnd | ast.BitOr | ast.BitXor)
            and kind.bits >= value.type.bits
        ):
            value = c.coerce(value, kind, node)
    if isinstance(kind, Int) and isinstance(value.type, Int) and value.type.bits > kind.bits:
        if isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.BitAnd | ast.BitOr | ast.BitXor):
            value = c.coerce(value, kind, node)
    return arithmetic.binary(c, node, node.op, place, value)


def _has_calls(found: Expr) -> bool:
    if isinstance(found, FieldOf):
        return _has_calls(found.base)
    if isinstance(found, Index):
        return _has_calls(found.base) or _has_calls(found.index)
    if isinstance(found, Deref):
        return _has_calls(found.pointer)
    return not isinstance(found, Var | Global | Const)


_EFFECTS = (Helper, Kfunc, MapOp, Atomic, Print, Walrus)


def _expression(c: Checker, node: ast.Expr, out: list[Stmt]) -> None:
    if isinstance(node.value, ast.Constant):
        if isinstance(node.value.value, str) or node.value.value is Ellipsis:
            return
        c.fail(node, "this statement does nothing")
    value = c.expr(node.value)
    if isinstance(value, Compare | Const | Var | Global | Str | Null | MapAddr):
        c.fail(node, "this statement does nothing" + (": did you mean =?" if isinstance(value, Compare) else ""))
    out.append(ExprStmt(node.lineno, value))


def _if(c: Checker, node: ast.If, out: list[Stmt]) -> None:
    facts = c.test(node.test)
    c.flow = facts.yes
    then = block(c, node.body)
    yes = c.flow
    c.flow = facts.no
    other = block(c, node.orelse)
    c.flow = merge(yes, c.flow)
    out.append(If(node.lineno, facts.expr, then, other))


def _return(c: Checker, node: ast.Return, out: list[Stmt]) -> None:
    kind = c.function.returns
    value: Expr | None = None
    if node.value is not None and not (
        isinstance(node.value, ast.Constant) and node.value.value is None and kind == VOID
    ):
        found = c.value(node.value)
        if kind == VOID:
            c.fail(node.value, f"{c.function.name} returns nothing: give it an annotation such as -> u32")
        value = c.coerce(found, kind, node.value, "what is returned")
        references.returned(c, found)
        _vouched(c, value)
    elif kind != VOID:
        if isinstance(kind, Opt):
            value = Null(kind)
        else:
            c.fail(node, f"{c.function.name} returns {show(kind)}: write return 0, or another value")
    if c.locks:
        pass
    if any(loop.closure for loop in c.loops):
        c.closure_return = True  # type: ignore[attr-defined]
    references.check_end(c, node)
    c.flow.dead = True
    out.append(Return(node.lineno, value))


def _vouched(c: Checker, value: Expr) -> None:
    """A function returns a pointer: what the verifier vouches for stays so where it is called."""
    pointer = value.type.pointer if isinstance(value.type, Opt) else value.type
    if isinstance(pointer, Ptr) and not isinstance(value, Null):
        c.module.given.setdefault((c.function.name, "return"), set()).add((pointer.probe, pointer.arena))


def _pass(c: Checker, node: ast.Pass, out: list[Stmt]) -> None:
    return


def _global(c: Checker, node: ast.Global, out: list[Stmt]) -> None:
    for name in node.names:
        c.module.refuse_copy(name, node)
        found = c.module.names.get(name)
        if not isinstance(found, GlobalVar) and not (isinstance(found, MapDecl) and found.single):
            variables = [n for n, v in c.module.names.items() if isinstance(v, GlobalVar)]
            c.fail(
                node, f"the module has no variable {name!r}{did_you_mean(name, variables)}: write {name}: u64 = 0 above"
            )
        if name in c.locals:
            c.fail(node, f"{name!r} is used before it is declared global")
        c.globals.add(name)


def _delete(c: Checker, node: ast.Delete, out: list[Stmt]) -> None:
    for target in node.targets:
        if not isinstance(target, ast.Subscript):
            c.fail(target, "only elements of maps are deleted: del m[key]")
        base = c.value(target.value)
        if not isinstance(base.type, MapRef):
            c.fail(target, "only elements of maps are deleted: del m[key]")
        call = map_methods.method(c, target, base, "delete", [c.value(target.slice)])
        out.append(ExprStmt(node.lineno, call))


def _with(c: Checker, node: ast.With, out: list[Stmt]) -> None:
    if len(node.items) != 1 or node.items[0].optional_vars is not None:
        c.fail(node, "`with` holds one lock, and gives no name to it: with v.lock:")
    item = node.items[0].context_expr
    found = c.expr(item)
    pairs = {
        "bpf_spin_lock": ("spin_lock", "spin_unlock"),
        "bpf_res_spin_lock": ("bpf_res_spin_lock", "bpf_res_spin_unlock"),
    }
    enter: Expr
    spins = 0
    if isinstance(found, Kfunc | Helper) and found.name in ("bpf_rcu_read_lock", "bpf_preempt_disable"):
        enter = found
        leave: Expr = Kfunc(
            VOID, {"bpf_rcu_read_lock": "bpf_rcu_read_unlock"}.get(found.name, "bpf_preempt_enable"), []
        )
    elif isinstance(found.type, Struct) and found.type.name == "bpf_spin_lock" and is_place(found):
        address = AddrOf(Ptr(found.type), found)
        enter, leave = (Helper(VOID, name, [address]) for name in pairs[found.type.name])
        spins = 1
    else:
        c.fail(item, "`with` holds a spin lock (a field of type bpf_spin_lock), or bpf_rcu_read_lock()")
    c.locks += 1
    c.spinning += spins
    body = block(c, node.body)
    c.locks -= 1
    c.spinning -= spins
    out.append(Lock(node.lineno, enter, leave, body))


def _match(c: Checker, node: ast.Match, out: list[Stmt]) -> None:
    subject = c.settle(c.value(node.subject))
    if not isinstance(subject.type, Int) and subject.type != BOOL:
        c.fail(node.subject, f"match works on integers and enums, not on {show(subject.type)}")
    if isinstance(subject, Var):
        var: Expr = subject
    else:
        local = c.temporary(subject.type, node)
        out.append(Assign(node.lineno, Var(local.type, local), subject))
        var = Var(local.type, local, range=subject.range)
    here = out
    end: Flow | None = None
    for case in node.cases:
        test = _pattern(c, case.pattern, var)
        if test is None and case.guard is None:
            branch = block(c, case.body)
            here.extend(branch.statements)
            end = c.flow if end is None else merge(end, c.flow)
            c.flow = end
            if case is not node.cases[-1]:
                c.fail(case.pattern, "the cases after this one are never reached")
            return
        if case.guard is not None:
            facts = c.test(case.guard)
            test = facts.expr if test is None else Logic(BOOL, "and", [test, facts.expr])
            yes, no = facts.yes, merge(facts.no, c.flow)
        else:
            yes, no = c.flow.copy(), c.flow.copy()
        assert test is not None
        c.flow = yes
        then = block(c, case.body)
        end = c.flow if end is None else merge(end, c.flow)
        c.flow = no
        other: list[Stmt] = []
        here.append(If(case.pattern.lineno, test, then, Block(other)))
        here = other
    assert end is not None
    c.flow = merge(end, c.flow)


def _pattern(c: Checker, pattern: ast.pattern, var: Expr) -> Expr | None:
    if isinstance(pattern, ast.MatchValue):
        return arithmetic.compare(c, pattern, "==", var, c.value(pattern.value))
    if isinstance(pattern, ast.MatchSingleton) and isinstance(pattern.value, bool):
        return arithmetic.compare(c, pattern, "==", var, Const(BOOL, int(pattern.value), const=int(pattern.value)))
    if isinstance(pattern, ast.MatchOr):
        parts = [_pattern(c, each, var) for each in pattern.patterns]
        if any(part is None for part in parts):
            return None
        return Logic(BOOL, "or", [part for part in parts if part is not None])
    if isinstance(pattern, ast.MatchAs) and pattern.pattern is None and pattern.name is None:
        return None
    if isinstance(pattern, ast.MatchAs) and pattern.pattern is None:
        c.fail(
            pattern,
            f"this would bind the name {pattern.name!r}: a constant is written with a dot (Enum.NAME) or as a number",
        )
    c.fail(pattern, "a case is an integer, an enum's member, several of them with |, or _")


def _assert(c: Checker, node: ast.Assert, out: list[Stmt]) -> None:
    c.fail(node, "assert has nobody to tell in the kernel: write if not ...: return 0")


STATEMENTS.update({
    ast.Assign: _assign, ast.AnnAssign: _annotated, ast.AugAssign: _augmented, ast.Expr: _expression, ast.If: _if,
    ast.Return: _return, ast.Pass: _pass, ast.Global: _global, ast.Delete: _delete, ast.With: _with, ast.Match: _match,
    ast.Assert: _assert,
})  # fmt: skip
