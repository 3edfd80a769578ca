"""What programs do with maps: each method, the maps that have it, and the type of its result."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence

from bpf2py.lang import references
from bpf2py.lang.helper_calls import argument
from bpf2py.lang.scope import Checker, is_place
from bpf2py.lang.source import did_you_mean
from bpf2py.lang.tree import (
    AddrOf,
    Const,
    CoreRead,
    Deref,
    Expr,
    FuncAddr,
    MapAddr,
    MapDecl,
    MapOp,
    Null,
    Str,
    StructLit,
    Var,
)  # fmt: skip
from bpf2py.lang.types import (
    BOOL,
    CHAR,
    LITERAL,
    S8,
    S64,
    U8,
    U32,
    U64,
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
from bpf2py.uapi.map_types import MapType as M

__all__ = ["call_method", "method"]

_KEYED = frozenset((M.HASH, M.ARRAY, M.PERCPU_HASH, M.PERCPU_ARRAY, M.LRU_HASH, M.LRU_PERCPU_HASH, M.LPM_TRIE))
_OF_MAPS = frozenset((M.ARRAY_OF_MAPS, M.HASH_OF_MAPS))
_QUEUES = frozenset((M.QUEUE, M.STACK, M.BLOOM_FILTER))
_STORAGE = {M.SK_STORAGE: "sk", M.INODE_STORAGE: "inode", M.TASK_STORAGE: "task", M.CGRP_STORAGE: "cgrp"}
_REDIRECT = frozenset((M.DEVMAP, M.DEVMAP_HASH, M.CPUMAP, M.XSKMAP))
_LOOKUP = _KEYED | _OF_MAPS | frozenset((M.XSKMAP, M.SOCKMAP, M.SOCKHASH, M.DEVMAP, M.DEVMAP_HASH, M.CPUMAP))
_FOUND = _LOOKUP | frozenset(_STORAGE) | frozenset((M.CGROUP_STORAGE, M.PERCPU_CGROUP_STORAGE))
_ARRAYS = frozenset((M.ARRAY, M.PERCPU_ARRAY))


class Given:
    """The arguments of a method: values with their nodes, by position and by name."""

    def __init__(
        self,
        c: Checker,
        node: ast.AST,
        values: Sequence[tuple[ast.AST, Expr]],
        named: Mapping[str, tuple[ast.AST, Expr]],
    ) -> None:
        self.c = c
        self.node = node
        self.values = values
        self.named = dict(named)

    def take(self, name: str, position: int) -> tuple[ast.AST, Expr] | None:
        """An argument, or None where it was not given."""
        if position < len(self.values):
            return self.values[position]
        return self.named.pop(name, None)

    def need(self, name: str, position: int) -> tuple[ast.AST, Expr]:
        """An argument. Raises SourceError where it is missing."""
        found = self.take(name, position)
        if found is None:
            self.c.fail(self.node, f"{name!r} is missing")
        return found

    def flags(self, position: int, default: int = 0) -> Expr:
        """The flags."""
        found = self.take("flags", position)
        if found is None:
            return Const(U64, default, const=default)
        if found[1].const is not None and found[1].type == LITERAL and found[1].const < 0:
            self.c.fail(found[0], "flags are not negative")
        return self.c.coerce(found[1], U64, found[0], "flags")


Method = Callable[[Checker, ast.AST, Expr, MapDecl, Given], Expr]


def key_of(c: Checker, node: ast.AST, value: Expr, found: MapDecl) -> Expr:
    """A value as the key of a map."""
    return stored(c, node, value, found.key or VOID, f"the key of {found.name or 'the map'}")


def stored(c: Checker, node: ast.AST, value: Expr, kind: Type, what: str) -> Expr:
    """A value as the key or value of a map: itself, or the place where it lies."""
    if isinstance(kind, Array) and isinstance(value, Str):
        if kind.element not in (U8, S8, CHAR) or len(value.data) > kind.count:
            c.fail(node, f"this text is not {show(kind)}")
        return Str(kind, value.data)
    if isinstance(kind, Struct | Array):
        own = value.type
        if own == kind and (is_place(value) or isinstance(value, StructLit)) and not isinstance(value, CoreRead):
            return value
        if isinstance(own, Ptr) and own.target == kind:
            return Deref(kind, value)
        c.fail(node, f"{what} is {show(kind)}, this is {show(own)}")
    if isinstance(kind, Ptr | Opt):
        return c.coerce(value, kind, node, what)
    return c.coerce(value, kind, node, what)


def _value_of(c: Checker, node: ast.AST, value: Expr, found: MapDecl) -> Expr:
    if found.value is None:
        c.fail(node, f"{found.name} has no values of a type")
    return stored(c, node, value, found.value, f"the value of {found.name or 'the map'}")


def _get(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
    if found.kind in _STORAGE:
        return _storage_get(c, node, base, found, given)
    if found.kind in (M.CGROUP_STORAGE, M.PERCPU_CGROUP_STORAGE):
        return MapOp(Ptr(found.value or VOID), "local", base, [])
    at, key = given.need("key", 0)
    checked = key_of(c, at, key, found)
    cpu = given.take("cpu", 1)
    if found.inner is not None:
        return MapOp(MapRef(found.inner, True), "get", base, [checked])
    if cpu is not None:
        if not found.per_cpu:
            c.fail(cpu[0], f"{found.name} has one value for all CPUs")
        return MapOp(Opt(Ptr(found.value or VOID)), "get_cpu", base, [checked, c.coerce(cpu[1], U32, cpu[0])])
    kind: Type = found.value or VOID
    if found.kind in (M.SOCKMAP, M.SOCKHASH):
        kind = c.module.kernel.named("bpf_sock") or VOID
        c.module.use_kernel_type(kind)
    return MapOp(Opt(Ptr(kind)), "get", base, [checked])


def _storage_get(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
    at, owner = given.need("owner", 0)
    pointer = argument(c, at, owner, Ptr(VOID), "owner")
    create = given.take("create", 1)
    flag = 0
    if create is not None:
        if create[1].const is None:
            c.fail(create[0], "create is True or False")
        flag = int(bool(create[1].const))
    value = given.take("value", 2)
    initial: Expr = Null(Ptr(VOID))
    if value is not None:
        initial = stored(c, value[0], value[1], found.value or VOID, "the first value")
        initial = AddrOf(Ptr(initial.type), initial)
    return MapOp(Opt(Ptr(found.value or VOID)), f"{_STORAGE[found.kind]}_storage_get", base,
                 [pointer, initial, Const(U64, flag, const=flag)])  # fmt: skip


def _put(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
    at, key = given.need("key", 0)
    value_at, value = given.need("value", 1)
    flags = given.flags(2)
    if found.kind in (M.SOCKMAP, M.SOCKHASH):
        return MapOp(S64, "sock_update", base, [value, key_of(c, at, key, found), flags])
    return MapOp(S64, "put", base, [key_of(c, at, key, found), _value_of(c, value_at, value, found), flags])


def _set(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
    result = _put(c, node, base, found, given)
    result.type = VOID
    return result


def _setdefault(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
    at, key = given.need("key", 0)
    value = given.take("value", 1)
    initial: Expr = StructLit(found.value or VOID, []) if value is None else _value_of(c, value[0], value[1], found)
    if value is None and isinstance(found.value, Int):
        initial = Const(found.value, 0, const=0)
    return MapOp(Opt(Ptr(found.value or VOID)), "setdefault", base, [key_of(c, at, key, found), initial])


def _delete(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
    if found.kind in _STORAGE:
        at, owner = given.need("owner", 0)
        return MapOp(S64, f"{_STORAGE[found.kind]}_storage_delete", base, [argument(c, at, owner, Ptr(VOID), "owner")])
    if found.kind in _ARRAYS:
        c.fail(node, f"elements of an array are not deleted: assign {found.name}[i] = 0")
    at, key = given.need("key", 0)
    return MapOp(S64, "delete", base, [key_of(c, at, key, found)])


def _contains(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
    at, key = given.need("key", 0)
    if found.kind == M.BLOOM_FILTER:
        return MapOp(BOOL, "bloom_contains", base, [_value_of(c, at, key, found)])
    return MapOp(BOOL, "contains", base, [key_of(c, at, key, found)])


def _push(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
    at, value = given.need("value", 0)
    return MapOp(S64, "push", base, [_value_of(c, at, value, found), given.flags(1)])


def _into(op: str) -> Method:
    def check(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
        at, place = given.need("out", 0)
        if is_place(place) and place.type == found.value:
            pointer: Expr = AddrOf(Ptr(place.type), place)
        else:
            pointer = c.coerce(place, Ptr(found.value or VOID), at, "where the value goes")
        return MapOp(S64, op, base, [pointer])

    return check


def _reserve(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
    size = given.take("size", 0)
    if size is not None:
        if size[1].const is None or size[1].const <= 0:
            c.fail(size[0], "the size of a record is a constant; output() takes records of any size")
        return MapOp(Opt(Ptr(found.value or U8)), "reserve", base, [c.coerce(size[1], U64, size[0])])
    if found.value is None:
        c.fail(node, "this ring buffer's records have no type: write RingBuf[Event](size=...)")
    return MapOp(Opt(Ptr(found.value)), "reserve", base, [Const(U64, size_of(found.value), const=size_of(found.value))])


def _finish(op: str) -> Method:
    def check(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
        at, record = given.need("record", 0)
        if isinstance(record.type, Opt):
            c.fail(at, "this record may be None: test it first, as in `if event is None: return 0`")
        if not isinstance(record.type, Ptr):
            c.fail(at, f"{op}() takes what reserve() gave, not {show(record.type)}")
        references.parameter_taken(c, op, [record])
        references.given_back(c, at, op, [record])
        return MapOp(VOID, op, base, [record, given.flags(1)])

    return check


def _output(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
    if found.kind == M.RINGBUF:
        at, data = given.need("data", 0)
        pointer, size = _memory(c, at, data, given.take("size", 1))
        return MapOp(S64, "ring_output", base, [pointer, size, given.flags(2)])
    at, context = given.need("ctx", 0)
    data_at, data = given.need("data", 1)
    flags = given.flags(2, 0xFFFFFFFF)
    if isinstance(flags, Const) and flags.value == 0xFFFFFFFF:
        flags.name = "BPF_F_CURRENT_CPU"
    pointer, size = _memory(c, data_at, data, given.take("size", 3))
    return MapOp(S64, "perf_output", base, [argument(c, at, context, Ptr(VOID), "ctx"), flags, pointer, size])


def _memory(c: Checker, node: ast.AST, data: Expr, size: tuple[ast.AST, Expr] | None) -> tuple[Expr, Expr]:
    """A pointer to data and its length."""
    pointer = argument(c, node, data, Ptr(VOID), "data")
    if size is not None:
        return pointer, c.coerce(size[1], U64, size[0])
    kind = (
        pointer.operand.type
        if isinstance(pointer, AddrOf)
        else pointer.type.target
        if isinstance(pointer.type, Ptr)
        else VOID
    )
    if isinstance(pointer, Str):
        return pointer, Const(U64, len(pointer.data) + 1, const=len(pointer.data) + 1)
    length = size_of(kind)
    if not length:
        c.fail(node, "the size of this memory is not known: give size=, too")
    return pointer, Const(U64, length, const=length)


def _query(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
    return MapOp(U64, "query", base, [given.flags(0)])


def _tail_call(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
    at, context = given.need("ctx", 0)
    index_at, index = given.need("index", 1)
    return MapOp(VOID, "tail_call", base, [argument(c, at, context, Ptr(VOID), "ctx"), c.coerce(index, U32, index_at)])


def _redirect(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
    if found.kind in _REDIRECT:
        at, key = given.need("key", 0)
        return MapOp(S64, "redirect", base, [c.coerce(key, U64, at), given.flags(1)])
    at, context = given.need("ctx", 0)
    key_at, key = given.need("key", 1)
    flags = given.flags(2)
    message = c.function.definition is not None and c.function.definition.name == "sk_msg"
    op = f"{'msg' if message else 'sk'}_redirect_{'hash' if found.kind == M.SOCKHASH else 'map'}"
    checked = key_of(c, key_at, key, found) if found.kind == M.SOCKHASH else c.coerce(key, U32, key_at)
    return MapOp(S64, op, base, [argument(c, at, context, Ptr(VOID), "ctx"), checked, flags])


def _stackid(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
    at, context = given.need("ctx", 0)
    return MapOp(S64, "stackid", base, [argument(c, at, context, Ptr(VOID), "ctx"), given.flags(1)])


def _for_each(op: str) -> Method:
    def check(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
        at, callback = given.need("callback", 0)
        if not isinstance(callback, FuncAddr):
            c.fail(at, "the callback is a function of this module")
        callback.function.callback = True
        c.function.calls.add(callback.function.name)
        context = given.take("ctx", 1)
        pointer: Expr = Null(Ptr(VOID)) if context is None else argument(c, context[0], context[1], Ptr(VOID), "ctx")
        return MapOp(S64, op, base, [callback, pointer, given.flags(2)])

    return check


def _dynptr(c: Checker, node: ast.AST, base: Expr, found: MapDecl, given: Given) -> Expr:
    at, size = given.need("size", 0)
    out_at, out = given.need("out", 1)
    return MapOp(
        S64,
        "reserve_dynptr",
        base,
        [c.coerce(size, U32, at), given.flags(2), argument(c, out_at, out, Ptr(VOID), "out")],
    )


_METHODS: dict[str, tuple[frozenset[M], Method, tuple[str, ...]]] = {
    "get": (_FOUND, _get, ("key", "owner", "create", "value", "cpu")),
    "put": (_KEYED | {M.SOCKMAP, M.SOCKHASH}, _put, ("key", "value", "flags")),
    "__setitem__": (_KEYED, _set, ()),
    "setdefault": (_KEYED - _ARRAYS - {M.LPM_TRIE}, _setdefault, ("key", "value")),
    "delete": (_KEYED | frozenset(_STORAGE) | {M.SOCKMAP, M.SOCKHASH, M.HASH_OF_MAPS}, _delete, ("key", "owner")),
    "__contains__": (_KEYED | {M.BLOOM_FILTER}, _contains, ()),
    "push": (_QUEUES, _push, ("value", "flags")),
    "pop": (_QUEUES - {M.BLOOM_FILTER}, _into("pop"), ("out",)),
    "peek": (_QUEUES - {M.BLOOM_FILTER}, _into("peek"), ("out",)),
    "reserve": (frozenset((M.RINGBUF,)), _reserve, ("size",)),
    "submit": (frozenset((M.RINGBUF,)), _finish("submit"), ("record", "flags")),
    "discard": (frozenset((M.RINGBUF,)), _finish("discard"), ("record", "flags")),
    "output": (frozenset((M.RINGBUF, M.PERF_EVENT_ARRAY)), _output, ("data", "ctx", "size", "flags")),
    "query": (frozenset((M.RINGBUF,)), _query, ("flags",)),
    "reserve_dynptr": (frozenset((M.RINGBUF,)), _dynptr, ("size", "out", "flags")),
    "tail_call": (frozenset((M.PROG_ARRAY,)), _tail_call, ("ctx", "index")),
    "redirect": (_REDIRECT | {M.SOCKMAP, M.SOCKHASH}, _redirect, ("key", "ctx", "flags")),
    "stackid": (frozenset((M.STACK_TRACE,)), _stackid, ("ctx", "flags")),
    "for_each": (_KEYED - {M.LPM_TRIE}, _for_each("for_each"), ("callback", "ctx", "flags")),
    "drain": (frozenset((M.USER_RINGBUF,)), _for_each("drain"), ("callback", "ctx", "flags")),
}  # fmt: skip


def method(c: Checker, node: ast.AST, base: Expr, name: str, values: list[Expr]) -> Expr:
    """An operation that the language writes as an operator: ``m[k] = v``, ``k in m``, ``del m[k]``."""
    return _check(c, node, base, name, Given(c, node, [(node, value) for value in values], {}))


def call_method(c: Checker, node: ast.Call, base: Expr, name: str) -> Expr:
    """``m.name(...)``."""
    if name.startswith("__"):
        c.fail(node.func, "this is not called by its name")
    if name not in _METHODS:
        _unknown(c, node.func, base, name)
    values = [(each, c.value(each)) for each in node.args]
    named = {}
    for keyword in node.keywords:
        if keyword.arg not in _METHODS[name][2]:
            c.fail(
                keyword, f"{name}() has no parameter {keyword.arg!r}{did_you_mean(str(keyword.arg), _METHODS[name][2])}"
            )
        named[str(keyword.arg)] = (keyword.value, c.value(keyword.value))
    most = len(_METHODS[name][2])
    if len(values) > most:
        c.fail(values[most][0], f"{name}() takes at most {most} arguments")
    return _check(c, node, base, name, Given(c, node, values, named))


_SHOWN = {"__setitem__": "m[k] = v", "__contains__": "`in`", "delete": "del"}


def _check(c: Checker, node: ast.AST, base: Expr, name: str, given: Given) -> Expr:
    assert isinstance(base.type, MapRef)
    found: MapDecl = base.type.map
    if base.type.inner and isinstance(base, MapOp):
        c.fail(node, "this inner map may not be there: write inner = outer.get(key), and test inner for None")
    if base.type.inner and isinstance(base, Var):
        if base.local.name not in c.flow.nonnull and not base.local.parameter:
            c.fail(
                node, f"{base.local.name!r} may be None: test it first, as in `if {base.local.name} is None: return 0`"
            )
        base = MapAddr(base.type, found, base)
    kinds, check, _ = _METHODS[name]
    if found.kind not in kinds:
        _unknown(c, node, base, name)
    result = check(c, node, base, found, given)
    if isinstance(result, MapOp):
        own = result.type.pointer if isinstance(result.type, Opt) else None
        if own is not None and size_of(own.target) and name in ("get", "setdefault", "reserve"):
            extent = result.arguments[0].const if name == "reserve" else size_of(own.target)
            result.type = Opt(Ptr(own.target, own.probe, own.arena, extent))
        c.function.helper = c.function.helper or result.op
        references.under_lock(c, node, _SHOWN.get(name, f"{name}()"))
    if given.named:
        first = next(iter(given.named))
        c.fail(given.named[first][0], f"{first!r} is not for {found.kind_name}.{name}()")
    return result


def _unknown(c: Checker, node: ast.AST, base: Expr, name: str) -> None:
    assert isinstance(base.type, MapRef)
    found: MapDecl = base.type.map
    known = [each for each, (kinds, _, _) in _METHODS.items() if found.kind in kinds and not each.startswith("__")]
    shown = _SHOWN.get(name, f"{name}()")
    c.fail(
        node,
        f"{found.kind_name} has no {shown}{did_you_mean(name, known)}; "
        f"it has {', '.join(known) or 'no methods: pass it to a helper'}",
    )
