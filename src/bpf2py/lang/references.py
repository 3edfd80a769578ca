"""What a function takes and must give back: records of ring buffers, sockets, objects of the kernel, locks.

A name that got such a thing holds it until a call gives it back. Flow.held has its state on each way; two names of one thing share
the state of the first. A function of the module that returns what it took, or gives back what it was passed, is known to do so.
"""

from __future__ import annotations

import ast

from bpf2py.lang.scope import Checker
from bpf2py.lang.tree import (
    AddrOf,
    Call,
    Cast,
    Deref,
    Expr,
    FieldOf,
    Helper,
    Kfunc,
    MapOp,
    Null,
    Var,
    Walrus,
)  # fmt: skip

__all__ = [
    "before_assignment", "calls", "check_end", "given_back", "note", "parameter_taken", "parameters", "passed_on", "returned",
    "round_ends", "under_lock", "used",
]  # fmt: skip

LOCK = "\0lock"  # what Flow.held calls a lock that spin_lock() took
_SOCKETS = ("sk_lookup_tcp", "sk_lookup_udp", "skc_lookup_tcp")
# Helpers and kernel functions whose result is the program's to give back (KF_ACQUIRE), and what usually takes it.
_ACQUIRES: dict[str, str] = {
    "reserve": "submit() or discard()", "ringbuf_reserve": "ringbuf_submit() or ringbuf_discard()",
    **dict.fromkeys(_SOCKETS, "sk_release()"),
    "bpf_task_acquire": "bpf_task_release()", "bpf_task_from_pid": "bpf_task_release()", "bpf_task_from_vpid": "bpf_task_release()",
    "bpf_cgroup_acquire": "bpf_cgroup_release()", "bpf_cgroup_ancestor": "bpf_cgroup_release()",
    "bpf_cgroup_from_id": "bpf_cgroup_release()", "bpf_task_get_cgroup1": "bpf_cgroup_release()",
    "bpf_cpumask_create": "bpf_cpumask_release()", "bpf_cpumask_acquire": "bpf_cpumask_release()",
    "bpf_get_task_exe_file": "bpf_put_file()", "bpf_lookup_user_key": "bpf_key_put()", "bpf_lookup_system_key": "bpf_key_put()",
    "bpf_skb_ct_lookup": "bpf_ct_release()", "bpf_xdp_ct_lookup": "bpf_ct_release()",
    "bpf_crypto_ctx_create": "bpf_crypto_ctx_release()", "bpf_crypto_ctx_acquire": "bpf_crypto_ctx_release()",
    **dict.fromkeys(("bpf_obj_new", "bpf_rbtree_remove", "bpf_list_pop_front", "bpf_list_pop_back", "bpf_refcount_acquire"),
                    "obj_drop()"),
    "kptr_xchg": "obj_drop(), or what releases its kind,",
}  # fmt: skip
_RECORDS = frozenset(("reserve", "ringbuf_reserve"))
# What takes a thing over beside the functions named above.
_TAKES = frozenset(
    ("submit", "discard", "ringbuf_submit", "ringbuf_discard", "sk_release", "kptr_xchg", "bpf_obj_drop", "bpf_rbtree_add",
     "bpf_list_push_front", "bpf_list_push_back", "bpf_percpu_obj_drop",
     *(each.partition("(")[0] for each in _ACQUIRES.values()))
)  # fmt: skip


def _source(c: Checker, value: Expr) -> tuple[str, str] | None:
    """What an expression takes, and what gives it back; None for everything else."""
    if isinstance(value, Walrus | Cast):
        return _source(c, value.value if isinstance(value, Walrus) else value.operand)
    if isinstance(value, Call):
        return value.function.gives
    name = value.op if isinstance(value, MapOp) else value.name if isinstance(value, Helper | Kfunc) else ""
    name = name.removesuffix("_impl")
    return (name, _ACQUIRES[name]) if name in _ACQUIRES else None


def _named(value: Expr) -> str | None:
    """The name of the thing that an expression is, or lies in."""
    while True:
        if isinstance(value, Kfunc) and value.name == "container_of":
            value = value.arguments[0]
        if isinstance(value, Call) and value.function.passes is not None:
            value = value.arguments[value.function.passes]
        if isinstance(value, Cast | AddrOf):
            value = value.operand
        elif isinstance(value, FieldOf):
            value = value.base
        elif isinstance(value, Deref):
            value = value.pointer
        elif isinstance(value, Walrus):
            return value.local.name
        else:
            return value.local.name if isinstance(value, Var) else None


def _same_thing(value: Expr) -> str | None:
    """The name whose thing an expression is, as another type at the most."""
    while isinstance(value, Cast) or (isinstance(value, Kfunc) and value.name == "container_of"):
        value = value.operand if isinstance(value, Cast) else value.arguments[0]
    if isinstance(value, Call) and value.function.passes is not None and value.function.passes < len(value.arguments):
        return _same_thing(value.arguments[value.function.passes])
    return value.local.name if isinstance(value, Var | Walrus) else None


def before_assignment(c: Checker, node: ast.AST, name: str, value: Expr) -> str | None:
    """A name is about to get a value: the state of what it holds where that is the same thing. Raises SourceError for a loss."""
    state = c.flow.held.get(name)
    others = [key for key, first in c.same.items() if first == name]
    if state is None:
        return None
    if _same_thing(value) is not None and c.root(str(_same_thing(value))) == name:
        return state
    if others:  # the first of the other names stands for the thing from now on
        c.flow.held[others[0]] = state
        c.held_at[others[0]], c.taken[others[0]] = c.held_at[name], c.taken[name]
        del c.same[others[0]]
        c.same.update((key, others[0]) for key in others[1:])
    elif state in ("held", "maybe") and not isinstance(value, Null) and not c.flow.dead:
        what = "a record that is neither submitted nor discarded" if _is_record(c, name) else "what is not given back"
        c.fail(node, f"{name!r} holds {what}: it would be lost here")
    return None


def note(c: Checker, node: ast.AST, name: str, value: Expr, kept: str | None) -> None:
    """A name got a value: it holds what the value takes, or is another name of what is held already."""
    c.same.pop(name, None)
    taken = _source(c, value)
    if taken is not None:
        c.flow.held[name] = "maybe"
        c.held_at[name] = node
        c.taken[name] = taken
        return
    if kept is not None:
        c.flow.held[name] = kept
        return
    known = _same_thing(value)
    if known is not None and known != name and c.root(known) in c.flow.held:
        c.same[name] = c.root(known)


def used(c: Checker, node: ast.AST, name: str) -> None:
    """A name is read: what was given back is not there any more. Raises SourceError."""
    first = c.root(name)
    if c.flow.held.get(first) == "done" and not c.flow.dead and not c.testing:
        what = "submitted or discarded" if _is_record(c, first) else "given back"
        c.fail(node, f"{name!r} was {what} already")


def _is_record(c: Checker, name: str) -> bool:
    return c.taken.get(name, ("reserve", ""))[0] in _RECORDS


def given_back(c: Checker, node: ast.AST, function: str, arguments: list[Expr]) -> None:
    """A call that takes over what it is passed."""
    if function.removesuffix("_impl") not in _TAKES:
        return
    for each in arguments:
        name = _named(each)
        first = c.root(name) if name is not None else ""
        if first in c.flow.held:
            _done(c, node, str(name), first)
            if function.startswith(("bpf_rbtree", "bpf_list")):
                c.flow.held[first] = "moved"  # it may be looked at as long as the lock is held
            return


def passed_on(c: Checker, node: ast.AST, value: Expr) -> None:
    """A function of the module that gives back its parameter is passed something."""
    parameter_taken(c, "submit", [value])
    name = _same_thing(value)
    if name is not None and c.root(name) in c.flow.held:
        _done(c, node, name, c.root(name))


def _done(c: Checker, node: ast.AST, name: str, first: str) -> None:
    state = c.flow.held[first]
    if (state == "done" or (state == "mixed" and _is_record(c, first))) and not c.flow.dead:
        what = "submitted or discarded" if _is_record(c, first) else "given back"
        c.fail(node, f"{name!r} was {what} already{' on some of the ways to here' if state == 'mixed' else ''}")
    c.flow.held[first] = "done"


def returned(c: Checker, value: Expr) -> None:
    """A function returns what it took: those who call it hold it then."""
    taken = _source(c, value)
    name = _same_thing(value)
    own = [each.name for each in c.function.parameters]
    if name is not None and c.root(name) in own:
        c.function.passes = own.index(c.root(name))
    first = c.root(name) if name is not None else ""
    if first in c.flow.held and c.flow.held[first] in ("held", "maybe", "null"):
        taken = c.taken.get(first)
        local = c.locals.get(first)
        if local is not None and local.parameter:
            return
        c.flow.held[first] = "moved"
    if taken is not None:
        c.function.gives = taken


def parameters(c: Checker) -> None:
    """What a function is passed and gives back is held from its beginning."""
    for each in c.function.parameters:
        if each.name in c.function.takes:
            c.flow.held[each.name] = "maybe"
            c.taken[each.name] = ("reserve", _ACQUIRES["reserve"])
            c.held_at[each.name] = c.function.node


def parameter_taken(c: Checker, function: str, arguments: list[Expr]) -> None:
    """A parameter is passed to what takes it over: the function gives back what it is passed."""
    if function.removesuffix("_impl") not in _TAKES:
        return
    for each in arguments:
        name = _named(each)
        if name is None:
            continue
        local = c.locals.get(c.root(name))
        if (
            local is not None
            and local.parameter
            and c.function.kind != "program"
            and local.name not in c.function.takes
        ):
            c.function.takes.add(local.name)
            c.changed = True


def calls(c: Checker, node: ast.AST, helper: str) -> None:
    """A helper is called. Raises SourceError where a spin lock is held, which the kernel allows no helper."""
    if helper == "spin_lock":
        c.flow.held[LOCK] = "held"
        c.held_at[LOCK] = node
    elif helper == "spin_unlock":
        c.flow.held.pop(LOCK, None)
    elif helper != "kptr_xchg":
        c.function.helper = c.function.helper or helper
        under_lock(c, node, f"{helper}()")


def under_lock(c: Checker, node: ast.AST, what: str) -> None:
    """Refuse what calls a helper where a spin lock is held."""
    if (c.spinning or c.flow.held.get(LOCK) == "held") and not c.flow.dead:
        c.fail(
            node,
            f"{what} is a call of the kernel's, which is not allowed while a spin lock is held: move it before or after",
        )


def _say(c: Checker, node: ast.AST, name: str, state: str, where: str) -> None:
    made = c.held_at.get(name)
    line = c.module.source.of(getattr(made, "lineno", 0))[1]
    if name == LOCK:
        c.fail(node, f"the lock that line {line} takes is held on the way that ends here: spin_unlock() it first")
    if _is_record(c, name):
        at = f" (reserved in line {line})" if line and made is not c.function.node else ""
        if state == "mixed":
            c.fail(node, f"{name!r}{at} is submitted or discarded on some ways that end {where}, but not on all")
        c.fail(node, f"{name!r}{at} is neither submitted nor discarded on the way that ends {where}")
    what, back = c.taken[name]
    at = f" ({what}() in line {line})"
    c.fail(node, f"{name!r}{at} is not given back on the way that ends {where}: {back} does it")


def check_end(c: Checker, node: ast.AST, where: str = "here") -> None:
    """A function ends at this point: nothing may be held any more. Raises SourceError."""
    if c.flow.dead:
        return
    for name, state in c.flow.held.items():
        if name == LOCK and (state != "held" or c.function.kind != "program"):
            continue
        if state in ("held", "maybe") or (state == "mixed" and _is_record(c, name)):
            _say(c, node, name, state, where)


def round_ends(c: Checker, node: ast.AST, before: set[str]) -> None:
    """A round of a loop ends: what was taken in it must not be left over. Raises SourceError."""
    for name, state in c.flow.held.items():
        if name not in before and state in ("held", "maybe", "mixed") and not c.flow.dead:
            if name == LOCK or (state == "mixed" and not _is_record(c, name)):
                if state == "mixed":
                    continue
                c.fail(node, "a lock is taken in this loop, and not released in the same round")
            if _is_record(c, name):
                c.fail(node, f"{name!r} is reserved in this loop, and not submitted or discarded in the same round")
            what, back = c.taken[name]
            c.fail(node, f"{name!r} ({what}()) is not given back in the same round of this loop: {back} does it")
