"""Loops: counted ones, those with a condition, and the kernel's own iterations."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from bpf2py.lang import arithmetic, helper_calls, references
from bpf2py.lang.flow import Flow, merge
from bpf2py.lang.scope import Checker, Loop, range_of
from bpf2py.lang.statements import block
from bpf2py.lang.tree import (
    AddrOf,
    Assign,
    Break,
    Closure,
    Const,
    Continue,
    Deref,
    Each,
    Expr,
    For,
    Index,
    Local,
    Stmt,
    Table,
    Var,
    While,
)  # fmt: skip
from bpf2py.lang.types import LITERAL, S32, S64, U32, U64, Array, Int, MapRef, Ptr, Struct, Type, show

__all__ = ["BOUNDED", "LOOPS"]

BOUNDED = 4096  # rounds that the verifier walks through one by one without running out of patience


def _assigned(nodes: list[ast.stmt]) -> set[str]:
    """Names that the statements assign."""
    found = set()
    for node in nodes:
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store | ast.Del):
                found.add(each.id)
    return found


def _enter(c: Checker, body: list[ast.stmt], closure: bool = False) -> Loop:
    """What the body assigns is not known at its beginning, for another round may come before."""
    loop = Loop(set(c.flow.held), closure)
    loop.locks = c.locks
    c.loops.append(loop)
    for name in _assigned(body):
        c.flow.nonnull.discard(name)
    return loop


def _while(c: Checker, node: ast.While, out: list[Stmt]) -> None:
    if node.orelse:
        c.fail(node.orelse[0], "a loop has no else here: set a flag in the loop and test it")
    loop = _enter(c, node.body)
    facts = c.test(node.test)
    c.flow = facts.yes
    body = block(c, node.body)
    references.round_ends(c, node, loop.held)
    c.loops.pop()
    c.flow = facts.no
    for flow in loop.breaks:
        c.flow = merge(c.flow, flow)
    if facts.expr.const and not loop.breaks and not _returns(node.body):
        c.fail(
            node, "this loop never ends: the kernel loads only programs that do; write for i in range(N), with a break"
        )
    out.append(While(node.lineno, facts.expr, body))


def _returns(nodes: list[ast.stmt]) -> bool:
    return any(isinstance(each, ast.Return) for node in nodes for each in ast.walk(node))


def _for(c: Checker, node: ast.For, out: list[Stmt]) -> None:
    if node.orelse:
        c.fail(node.orelse[0], "a loop has no else here: set a flag in the loop and test it")
    iterated = node.iter
    if isinstance(iterated, ast.Call):
        if isinstance(iterated.func, ast.Name) and iterated.func.id == "range" and "range" not in c.module.names:
            _range(c, node, iterated, out)
            return
        if isinstance(iterated.func, ast.Attribute) and iterated.func.attr in ("items", "keys", "values"):
            base = c.value(iterated.func.value)
            if isinstance(base.type, MapRef):
                _map_items(c, node, iterated.func.attr, base, out)
                return
        if isinstance(iterated.func, ast.Name):
            _kernel_iterator(c, node, iterated, out)
            return
    elif isinstance(iterated, ast.Tuple | ast.List):
        _constants(c, node, iterated, out)
        return
    else:
        found = c.value(iterated)
        if isinstance(found.type, MapRef):
            _map_items(c, node, "keys", found, out)
            return
        kind = found.type.target if isinstance(found.type, Ptr) else found.type
        if isinstance(kind, Array):
            _elements(c, node, found, kind, out)
            return
        c.fail(iterated, f"a loop goes over range(...), a map's items() or an array, not over {show(found.type)}")
    c.fail(iterated, "a loop goes over range(...), a map's items(), an array, or a kernel iterator such as task(...)")


def _target(c: Checker, node: ast.For) -> ast.Name:
    if not isinstance(node.target, ast.Name):
        c.fail(node.target, "this loop gives one value at a time: write one name")
    return node.target


def _range(c: Checker, node: ast.For, call: ast.Call, out: list[Stmt]) -> None:
    target = _target(c, node)
    if call.keywords or not 1 <= len(call.args) <= 3:
        c.fail(call, "range takes one to three integers")
    values = [c.value(each) for each in call.args]
    for each, value in zip(call.args, values, strict=True):
        if value.type != LITERAL and not isinstance(value.type, Int):
            c.fail(each, f"range takes integers, not {show(value.type)}")
    step = values[2].const if len(values) == 3 else 1
    if not step:
        c.fail(call.args[2], "the step of a range is a constant here, and not 0")
    start: Expr = values[0] if len(values) > 1 else arithmetic.literal(0)
    stop = values[1] if len(values) > 1 else values[0]
    first, end = range_of(start), range_of(stop)
    limits = None
    if first is not None and end is not None:
        limits = (first[0], max(end[1] - 1, first[0])) if step > 0 else (min(end[0] + 1, first[1]), first[1])
    kind = _counter(c, node, start, stop, limits)
    count = None
    if start.const is not None and stop.const is not None:
        count = len(range(start.const, stop.const, step))
    elif limits is not None:
        count = -(-(limits[1] - limits[0] + 1) // abs(step))
    bounded = count is not None and count <= BOUNDED
    again = _assigned(node.body)
    name = target.id
    fixed = name in again
    c.fixed_range = None  # type: ignore[attr-defined]
    before = c.flow.copy()
    local = c.declare(name, kind, target)
    kind = local.type
    c.flow.assign(name)
    local.loop_range = limits if not fixed else None  # within the loop
    if not bounded and not c.module.kernel.counts:
        _called_rounds(c, node, local, start, stop, step, before, out)
        return
    start, stop = (c.coerce(each, kind, node) if each.type != kind else each for each in (start, stop))
    if stop.const is None:
        stop = _once(c, node, stop, again, out)
    loop = _enter(c, node.body)
    body = block(c, node.body)
    references.round_ends(c, node, loop.held)
    c.loops.pop()
    local.loop_range = None
    after = before
    if count is not None and count > 0 and start.const is not None and stop.const is not None:
        after = before.copy()
        after.assigned.add(name)
    c.flow = merge(after, c.flow) if not c.flow.dead else after
    for flow in loop.breaks:
        c.flow = merge(c.flow, flow)
    limit = None if stop.const is not None or limits is None else limits[1]
    if name not in c.elsewhere:
        c.elsewhere[name] = _read_elsewhere(c.function.node, name)
    later = c.elsewhere[name]
    out.append(For(node.lineno, local, start, stop, step, body, bounded, fixed or later, limit))


def _called_rounds(
    c: Checker, node: ast.For, local: Local, start: Expr, stop: Expr, step: int, before: Flow, out: list[Stmt]
) -> None:
    """A loop whose rounds the kernel calls (bpf_loop, Linux 5.17), where it does not count by an iterator yet (6.4)."""
    start, stop = (c.coerce(each, local.type, node) for each in (start, stop))
    closure, own = _closure(c, node, "count", stop)
    closure.start, closure.step, closure.locals = start, step, [local, None]
    if local in c.function.locals:
        own.append(local)
    _body(c, node, closure, own, before, out)
    local.loop_range = None


def _once(c: Checker, node: ast.For, stop: Expr, again: set[str], out: list[Stmt]) -> Expr:
    """Python computes the bounds before the first round."""
    if isinstance(stop, Var) and stop.local.name not in again:
        return stop
    local = c.temporary(stop.type, node)
    out.append(Assign(node.lineno, Var(local.type, local), stop))
    return Var(local.type, local, range=stop.range)


def _counter(c: Checker, node: ast.For, start: Expr, stop: Expr, limits: tuple[int, int] | None) -> Type:
    kinds = [each.type for each in (start, stop) if isinstance(each.type, Int)]
    if not kinds:
        low, high = limits or (0, 0)
        if low >= 0:
            return U32 if high <= U32.high else U64
        return S32 if high <= S32.high and low >= S32.low else S64
    _, _, kind = arithmetic.balance(c, node, "range", start, stop)
    return kind


def _read_elsewhere(function: ast.AST, name: str) -> bool:
    """Whether a loop's name is read where its last value would be seen."""
    inside = {id(each) for other in ast.walk(function) if isinstance(other, ast.For) and _is_name(other.target, name)
              for part in other.body for each in ast.walk(part)}  # fmt: skip
    return any(
        isinstance(each, ast.Name) and each.id == name and isinstance(each.ctx, ast.Load) and id(each) not in inside
        for each in ast.walk(function)
    )


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _map_items(c: Checker, node: ast.For, method: str, base: Expr, out: list[Stmt]) -> None:
    assert isinstance(base.type, MapRef)
    found = base.type.map
    if found.key is None or found.value is None:
        c.fail(node.iter, f"the kernel does not walk through a {found.kind_name}")
    if method == "items":
        if not isinstance(node.target, ast.Tuple) or len(node.target.elts) != 2:
            c.fail(node.target, "items() gives a key and a value: for key, value in m.items()")
        targets = list(node.target.elts)
    else:
        targets = [node.target]
    names: list[ast.Name] = []
    for each in targets:
        if not isinstance(each, ast.Name):
            c.fail(each, "a loop's target is a name")
        names.append(each)
    kinds = {"items": [found.key, found.value], "keys": [found.key], "values": [found.value]}[method]
    before = c.flow.copy()
    closure, own = _closure(c, node, "map", base)
    slots: list[Local | None] = [None, None]
    for name, kind in zip(names, kinds, strict=True):
        is_key = kind is kinds[0] and method != "values"
        # A key is a copy, as in Python; a value is where it stands, so that it can be changed.
        shown: Type = kind if is_key and isinstance(kind, Int) else Ptr(kind)
        local = c.declare(name.id, shown, name)
        c.flow.assign(name.id)
        slots[0 if is_key else 1] = local
    closure.locals = slots
    _body(c, node, closure, own, before, out)


def _closure(c: Checker, node: ast.For, kind: str, subject: Expr) -> tuple[Closure, list[Local]]:
    closure = Closure(node.lineno, kind, subject, [], block(c, []))
    own: list[Local] = []
    c.closures.append(own)
    return closure, own


def _body(c: Checker, node: ast.For, closure: Closure, own: list[Local], before: Flow, out: list[Stmt]) -> None:
    outer = {id(each) for each in c.locals.values()} - {id(each) for each in own}
    if c.locks:
        c.fail(node, "this loop calls a function for each element, which is not allowed while a lock is held")
    loop = _enter(c, node.body, True)
    closure.body = block(c, node.body)
    references.round_ends(c, node, loop.held)
    c.loops.pop()
    c.closures.pop()
    closure.returns = c.function.returns
    closure.has_return = _returns(node.body)
    read = {each.id for part in node.body for each in ast.walk(part) if isinstance(each, ast.Name)}
    read |= {
        c.hoisted[each.value.id, each.attr][0].name for part in node.body for each in ast.walk(part)
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and (each.value.id, each.attr) in c.hoisted
    }  # fmt: skip
    later = {each.id for each in ast.walk(c.function.node) if isinstance(each, ast.Name)
             and not any(each is inside for part in node.body for inside in ast.walk(part))}  # fmt: skip
    hoisted = [each for each, _ in c.hoisted.values()]
    outer |= {id(each) for each in hoisted}
    closure.captured = [each for each in (*c.locals.values(), *hoisted)
                        if (id(each) in outer and each.name in read) or (id(each) not in outer and each.name in later
                            and each not in closure.locals)]  # fmt: skip
    captured = {id(each) for each in closure.captured}
    closure.own = [each for each in own if id(each) not in captured]
    for each in closure.captured:
        each.captured = True
    closure.index = len(c.function.closures)
    c.function.closures.append(closure)
    c.flow = before if c.flow.dead else merge(before, c.flow)
    for flow in loop.breaks:
        c.flow = merge(c.flow, flow)
    out.append(closure)


def _constants(c: Checker, node: ast.For, given: ast.Tuple | ast.List, out: list[Stmt]) -> None:
    """``for x in (1, 2, 4)``."""
    values = []
    for each in given.elts:
        value = c.value(each)
        if value.const is None or not (value.type == LITERAL or isinstance(value.type, Int)):
            c.fail(each, "a loop over values goes over integer constants")
        values.append(value.const)
    if not values:
        c.fail(given, "nothing is in here")
    low, high = min(values), max(values)
    kind = next((k for k in ((U32, U64) if low >= 0 else (S32, S64)) if k.low <= low and high <= k.high), None)
    if kind is None:
        c.fail(given, "no integer type holds all of these")
    _elements(c, node, Table(Array(kind, len(values)), values), Array(kind, len(values)), out, (low, high))


def _elements(
    c: Checker, node: ast.For, found: Expr, kind: Array, out: list[Stmt], limits: tuple[int, int] | None = None
) -> None:
    """``for x in array``: by a counter of our own."""
    target = _target(c, node)
    if not kind.count:
        c.fail(node.iter, "this array has no length that is known here")
    counter = c.temporary(U32, node)
    base = found
    if isinstance(found.type, Ptr):
        base = Deref(kind, found)
    element: Expr = Index(kind.element, base, Var(U32, counter, range=(0, kind.count - 1)))
    if isinstance(kind.element, Struct | Array):
        element = AddrOf(Ptr(kind.element), element)
    before = c.flow.copy()
    local = c.declare(target.id, element.type, target)
    local.loop_range = limits if target.id not in _assigned(node.body) else None
    c.flow.assign(target.id)
    loop = _enter(c, node.body)
    body = block(c, node.body)
    references.round_ends(c, node, loop.held)
    c.loops.pop()
    local.loop_range = None
    body.statements.insert(0, Assign(node.lineno, Var(local.type, local), c.coerce(element, local.type, node)))
    before.assigned.add(target.id)
    c.flow = before if c.flow.dead else merge(before, c.flow)
    for flow in loop.breaks:
        c.flow = merge(c.flow, flow)
    zero, count = (Const(U32, value, const=value) for value in (0, kind.count))
    out.append(For(node.lineno, counter, zero, count, 1, body, kind.count <= BOUNDED))


def _kernel_iterator(c: Checker, node: ast.For, call: ast.Call, out: list[Stmt]) -> None:
    """``for task in bpf_iter_task(...)``: the kernel's open-coded iterators (Linux 6.4 and later)."""
    assert isinstance(call.func, ast.Name)
    kind = call.func.id.removeprefix("bpf_iter_")
    begin = c.module.kernel.function(f"bpf_iter_{kind}_new")
    step = c.module.kernel.function(f"bpf_iter_{kind}_next")
    if begin is None or step is None:
        known = "bits, cgroup, css, css_task, num, task, task_vma"
        c.fail(
            call.func,
            f"the kernel has no iterator {kind!r} (among others: {known}); a loop goes over range(...) or a map's items()",
        )
    target = _target(c, node)
    arguments: list[Expr] = []
    wanted = begin[0][1:]
    if len(call.args) > len(wanted):
        c.fail(call, f"bpf_iter_{kind} takes {len(wanted)} arguments")
    for position, (name, expected) in enumerate(wanted):
        if position < len(call.args):
            arguments.append(
                helper_calls.argument(c, call.args[position], c.value(call.args[position]), expected, name)
            )
        else:
            arguments.append(Const(U32, 0, const=0))
    result = step[1]
    assert isinstance(result, Ptr)
    c.module.use_kernel_type(result.target)
    named = c.module.kernel.named(f"bpf_iter_{kind}")
    if named is not None:
        c.module.use_kernel_type(named)
    before = c.flow.copy()
    local = c.declare(target.id, Ptr(result.target), target)
    c.flow.assign(target.id)
    loop = _enter(c, node.body)
    body = block(c, node.body)
    references.round_ends(c, node, loop.held)
    c.loops.pop()
    c.flow = before if c.flow.dead else merge(before, c.flow)
    for flow in loop.breaks:
        c.flow = merge(c.flow, flow)
    out.append(Each(node.lineno, local, kind, arguments, body))


def _break(c: Checker, node: ast.Break, out: list[Stmt]) -> None:
    loop = c.loops[-1]
    references.round_ends(c, node, loop.held)
    if c.locks > loop.locks:
        c.fail(node, "this leaves the loop while a lock is held: end the `with` first")
    loop.breaks.append(c.flow.copy())
    c.flow.dead = True
    out.append(Break(node.lineno))


def _continue(c: Checker, node: ast.Continue, out: list[Stmt]) -> None:
    loop = c.loops[-1]
    references.round_ends(c, node, loop.held)
    if c.locks > loop.locks:
        c.fail(node, "this ends the round while a lock is held: end the `with` first")
    c.flow.dead = True
    out.append(Continue(node.lineno))


LOOPS: dict[type[ast.AST], Callable[[Checker, Any, list[Stmt]], None]] = {
    ast.While: _while,
    ast.For: _for,
    ast.Break: _break,
    ast.Continue: _continue,
}
