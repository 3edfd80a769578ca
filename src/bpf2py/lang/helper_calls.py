"""Calls of helpers and kernel functions: arguments by the tables that say what each takes."""

from __future__ import annotations

import ast
import re

from bpf2py.isa.helpers import Helper as HelperFact
from bpf2py.lang import references
from bpf2py.lang.names import Names
from bpf2py.lang.scope import Checker, is_place
from bpf2py.lang.source import did_you_mean
from bpf2py.lang.tree import (
    AddrOf,
    Cast,
    Const,
    CoreRead,
    Expr,
    FuncAddr,
    Helper,
    Kfunc,
    MapAddr,
    Null,
    SizeOf,
    Str,
    StructLit,
    Var,
)  # fmt: skip
from bpf2py.lang.types import (
    BOOL,
    CHAR,
    LITERAL,
    NONE,
    S16,
    S32,
    S64,
    U8,
    U16,
    U32,
    U64,
    VOID,
    Array,
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

__all__ = ["argument", "c_type", "helper_call", "kfunc_call"]

_C_INTEGERS: dict[str, Type] = {
    "__u8": U8, "__u16": U16, "__u32": U32, "__u64": U64, "__s16": S16, "__s32": S32, "__s64": S64, "int": S32, "long": S64,
    "unsigned int": U32, "unsigned long": U64, "__be16": U16, "__be32": U32, "__be64": U64, "__wsum": U32, "char": CHAR,
    "void": VOID, "size_t": U64, "bool": BOOL, "unsigned": U32,
}  # fmt: skip
# Parameters that are addresses of memory nobody vouches for: an integer is as good as a pointer.
_ADDRESSES = frozenset(("unsafe_ptr", "user_ptr", "unsafe_ptr__ign", "uptr"))
_OPTIONAL = frozenset(
    "map_lookup_elem get_local_storage sk_lookup_tcp sk_lookup_udp skc_lookup_tcp sk_fullsock tcp_sock get_listener_sock "
    "sk_storage_get inode_storage_get task_storage_get cgrp_storage_get ringbuf_reserve skc_to_tcp6_sock skc_to_tcp_sock "
    "skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock skc_to_unix_sock skc_to_mptcp_sock sock_from_file "
    "per_cpu_ptr kptr_xchg map_lookup_percpu_elem dynptr_data".split()
)


def c_type(names: Names, text: str) -> Type:
    """A C type of the helper table."""
    text = text.replace("const ", "").strip()
    if text.endswith("*"):
        target = c_type(names, text[:-1])
        return Ptr(target)
    bare = re.sub(r"^(struct|union|enum) ", "", text)
    if text in _C_INTEGERS:
        return _C_INTEGERS[text]
    found = names.kernel.named(bare)
    if found is not None:
        return found
    return Struct(bare, {}, kernel=True)


def _is_size(name: str, kind: Type) -> bool:
    return isinstance(kind, Int) and bool(re.search(r"size|len|sz", name))


def helper_call(c: Checker, node: ast.Call, helper: HelperFact, given: tuple[int, Expr] | None = None) -> Expr:
    """A helper by its name in the table; `given` is an argument that a method's object is.

    Lengths of buffers and flags may be left out: they are the buffer's size, and 0.
    """
    parameters = [(p.name, c_type(c.module, p.type)) for p in helper.parameters if p.type != "..."]
    variadic = len(parameters) != len(helper.parameters)
    returns = c_type(c.module, helper.returns)
    if isinstance(returns, Ptr):
        returns = Ptr(returns.target)
        if isinstance(returns.target, Struct):
            c.module.use_kernel_type(returns.target)
        if helper.name in _OPTIONAL:
            returns = Opt(returns)
    arguments = _arguments(c, node, f"{helper.name}()", parameters, given, variadic)
    references.calls(c, node, helper.name)
    references.parameter_taken(c, helper.name, arguments)
    references.given_back(c, node, helper.name, arguments)
    limits = (0, 1 << 31) if helper.name in ("get_smp_processor_id",) else None
    call = Helper(returns, helper.name, arguments, range=limits)
    if helper.name in ("map_lookup_elem", "sk_storage_get", "task_storage_get", "inode_storage_get", "cgrp_storage_get",
                       "map_lookup_percpu_elem", "get_local_storage") and isinstance(arguments[0], MapAddr):  # fmt: skip
        found = arguments[0].map
        if found.inner is not None:
            call.type = MapRef(found.inner, True)
        elif found.value is not None:
            call.type = Opt(Ptr(found.value)) if helper.name != "get_local_storage" else Ptr(found.value)
    if helper.name == "kptr_xchg":
        target = arguments[0].type
        if isinstance(target, Ptr) and isinstance(target.target, Ptr | Opt):
            inner = target.target.pointer if isinstance(target.target, Opt) else target.target
            call.type = Opt(Ptr(inner.target))
    return call


def _arguments(
    c: Checker,
    node: ast.Call,
    what: str,
    parameters: list[tuple[str, Type]],
    given: tuple[int, Expr] | None,
    variadic: bool,
) -> list[Expr]:
    names = [name for name, _ in parameters]
    keywords = {}
    for keyword in node.keywords:
        if keyword.arg not in names:
            c.fail(
                keyword,
                f"{what} has no parameter {keyword.arg!r}{did_you_mean(str(keyword.arg), names)}; "
                f"it takes {', '.join(names) or 'nothing'}",
            )
        keywords[keyword.arg] = keyword.value
    open_positions = [
        i for i, name in enumerate(names) if name not in keywords and not (given is not None and given[0] == i)
    ]
    sizes = {i for i in open_positions if i > 0 and _is_size(*parameters[i]) and isinstance(parameters[i - 1][1], Ptr)}
    flags = {i for i in open_positions if names[i] == "flags"}
    contexts = flags | {
        i for i in open_positions if names[i] in ("callback_ctx", "ctx") and names[i - 1] == "callback_fn"
    }
    missing = len(open_positions) - len(node.args)
    left_out: set[int] = set()
    if missing < 0 and not variadic:
        c.fail(node, f"{what} takes {len(open_positions)} arguments ({', '.join(names)}), not {len(node.args)}")
    if missing > 0:
        for candidate in (flags, sizes, sizes | flags, contexts):
            if len(candidate) == missing:
                left_out = candidate
                break
        else:
            c.fail(node, f"{what} takes {len(open_positions)} arguments ({', '.join(names)}), not {len(node.args)}")
    result: list[Expr] = []
    nodes = iter(node.args)
    for position, (name, kind) in enumerate(parameters):
        if given is not None and given[0] == position:
            result.append(given[1])
        elif name in keywords:
            result.append(argument(c, keywords[name], c.value(keywords[name]), kind, name))
        elif position in left_out and position in sizes:
            result.append(_size(c, node, result[-1], what))
        elif position in left_out:
            result.append(Const(U64, 0, const=0) if not isinstance(kind, Ptr) else Null(kind))
        else:
            each = next(nodes)
            result.append(argument(c, each, c.value(each), kind, name))
    for each in nodes:
        result.append(c.settle(c.value(each)))
    return result


def _size(c: Checker, node: ast.AST, buffer: Expr, what: str) -> Expr:
    if isinstance(buffer, Str):
        return Const(U32, len(buffer.data) + 1, const=len(buffer.data) + 1)
    inner: Expr = buffer
    while isinstance(inner, Cast):
        inner = inner.operand
    kind: Type = VOID
    if isinstance(inner, AddrOf):
        kind = inner.operand.type
    elif isinstance(inner.type, Ptr):
        kind = inner.type.target
    size = size_of(kind)
    if not size or (isinstance(inner.type, Ptr) and not isinstance(inner, AddrOf) and isinstance(kind, Int)):
        c.fail(node, f"{what} does not know the size of this memory: give the length, too")
    return Const(U32, size, const=size) if not isinstance(kind, Struct) else SizeOf(U32, kind, const=size)


def argument(c: Checker, node: ast.AST, value: Expr, kind: Type, name: str) -> Expr:
    """A value as the parameter of a helper or kernel function."""
    own = value.type
    if isinstance(kind, Int) or kind == BOOL:
        if isinstance(own, Ptr | Opt) and kind == U64:
            return Cast(U64, value)
        if isinstance(kind, Int) and value.const is not None and own == LITERAL and value.const < 0 and not kind.signed:
            wrapped = kind.wrap(value.const)
            return Const(kind, wrapped, getattr(value, "name", ""), const=wrapped)
        if kind == BOOL:
            return c.truth(value, node)
        return c.coerce(value, kind, node, repr(name))
    if isinstance(kind, Struct):
        return value
    if not isinstance(kind, Ptr):
        return value
    if isinstance(value, FuncAddr):
        value.function.callback = True
        c.function.calls.add(value.function.name)
        return value
    if isinstance(own, MapRef):
        return value
    if own == NONE:
        return Null(kind)
    if isinstance(value, Str):
        return value
    if isinstance(own, Opt):
        c.fail(node, f"{name!r} may be None here: test it first, as in `if x is None: return 0`")
    if isinstance(own, Ptr):
        _matches(c, node, own, kind, name)
        return value
    if isinstance(value, CoreRead) and isinstance(own, Array | Struct):
        return AddrOf(Ptr(own, True), value)
    if isinstance(own, FuncType):
        return value
    if (isinstance(own, Int) or own == LITERAL) and (name in _ADDRESSES or name.endswith("__ign")):
        return Cast(Ptr(VOID), c.settle(value))
    if name == "key" and isinstance(own, Int) and isinstance(value, Var):
        return AddrOf(Ptr(own), Cast(own, value))
    if is_place(value):
        pointer = Ptr(own)
        _matches(c, node, pointer, kind, name)
        return AddrOf(pointer, value)
    if isinstance(value, StructLit):
        return AddrOf(Ptr(own), value)
    if isinstance(own, Int) or own in (LITERAL, BOOL):
        target = kind.target if isinstance(kind.target, Int) else None
        settled = c.coerce(value, target, node) if target is not None else c.settle(value)
        return AddrOf(Ptr(settled.type), settled)
    c.fail(node, f"{show(own)} is not a pointer, which {name!r} must be")


def _matches(c: Checker, node: ast.AST, own: Ptr, kind: Ptr, name: str) -> None:
    """Refuse what is certainly the wrong struct; the verifier knows more than C's types do."""
    a, b = own.target, kind.target
    if isinstance(a, Struct) and isinstance(b, Struct) and a.name and b.name and a.name != b.name:
        if a.kernel and b.kernel and _unrelated(a.name, b.name):
            c.fail(
                node, f"{name!r} must point to {b.name}, this is {show(own)}: write p.cast({b.name}) if you know better"
            )


def _unrelated(one: str, other: str) -> bool:
    sockets = ("sock", "sk_", "tcp", "udp", "request", "inet")
    return (
        not (any(s in one for s in sockets) and any(s in other for s in sockets))
        and not one.startswith("bpf_")
        and not other.startswith("bpf_")
    )


_NULLABLE = re.compile(
    r"_(acquire|from_id|from_pid|new_impl|slice|slice_rdwr|lookup|get|refcount_acquire_impl|pop_front|pop_back|pop_front_impl|pop_back_impl|first|remove|ancestor|from_vpid|alloc|create)$|^bpf_iter_\w+_next$"
)


def kfunc_call(
    c: Checker, node: ast.Call, name: str, prototype: tuple[list[tuple[str, Type]], Type], first: Expr | None = None
) -> Expr:
    """A kernel function by the prototype that the kernel's BTF has of it."""
    parameters, returns = prototype
    hidden = [p for p in parameters if p[0].endswith("__prog") or p[0] in ("meta__ign", "aux__ign")]
    if name.endswith("_impl") and any(p[0] == "meta__ign" for p in hidden):
        hidden += [p for p in parameters if p[0] == "off"]
    shown = [p for p in parameters if p not in hidden]
    given = (0, first) if first is not None else None
    if any(isinstance(kind, Struct) for _, kind in shown):
        c.fail(node, f"{name} takes a struct by value, which programs cannot pass")
    arguments = _arguments(c, node, f"{name}()", shown, given, False)
    arguments += [Const(U64, 0, const=0) if p[0] == "off" else Null(Ptr(VOID)) for p in hidden]
    for _, kind in parameters:
        if isinstance(kind, Ptr) and isinstance(kind.target, Struct) and kind.target.name:
            c.module.use_kernel_type(kind.target)
    if isinstance(returns, Ptr):
        if isinstance(returns.target, Struct):
            c.module.use_kernel_type(returns.target)
        pointer = Ptr(returns.target, arena=name == "bpf_arena_alloc_pages")
        returns = Opt(pointer) if _NULLABLE.search(name) or pointer.arena else pointer
    references.parameter_taken(c, name, arguments)
    references.given_back(c, node, name, arguments)
    c.module.program.kernel_names.add(name)
    return Kfunc(returns, name, arguments)
