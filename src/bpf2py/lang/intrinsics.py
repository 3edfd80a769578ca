"""What the language offers by itself: reading memory, CO-RE questions, atomics, output, packets."""

from __future__ import annotations

import ast
from collections.abc import Callable

from bpf2py.isa.helpers import HELPERS_BY_NAME
from bpf2py.lang import arithmetic, references
from bpf2py.lang.formats import formatted
from bpf2py.lang.helper_calls import argument, helper_call
from bpf2py.lang.scope import Checker, is_place, range_of
from bpf2py.lang.source import did_you_mean
from bpf2py.lang.tree import (
    AddrOf,
    Atomic,
    Binary,
    Cast,
    Compare,
    Cond,
    Const,
    CoreQuery,
    CoreRead,
    Expr,
    FieldOf,
    Helper,
    Kfunc,
    MapAddr,
    MapDecl,
    MapOp,
    SizeOf,
    Str,
    Unary,
    Var,
    Walrus,
)  # fmt: skip
from bpf2py.lang.types import (
    BOOL,
    CHAR,
    LITERAL,
    S32,
    STRING,
    U16,
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

__all__ = ["INTRINSICS", "map_of_timer", "packet"]

Intrinsic = Callable[[Checker, ast.Call], Expr]


def _count(c: Checker, node: ast.Call, least: int, most: int | None = None) -> None:
    most = least if most is None else most
    if node.keywords:
        c.fail(node.keywords[0], "these arguments have no names")
    if not least <= len(node.args) <= most:
        name = node.func.id if isinstance(node.func, ast.Name) else "this"
        c.fail(
            node, f"{name}() takes {least if least == most else f'{least} to {most}'} arguments, not {len(node.args)}"
        )


def _part(helper: str, shift: bool) -> Intrinsic:
    def check(c: Checker, node: ast.Call) -> Expr:
        _count(c, node, 0)
        whole: Expr = Helper(U64, helper, [])
        if shift:
            whole = Binary(U64, ">>", whole, Const(U64, 32, const=32))
        return Cast(U32, whole)

    return check


def _as_helper(name: str) -> Intrinsic:
    def check(c: Checker, node: ast.Call) -> Expr:
        return helper_call(c, node, HELPERS_BY_NAME[name])

    return check


def _sizeof(c: Checker, node: ast.Call) -> Expr:
    _count(c, node, 1)
    kind = _type_or_value(c, node.args[0])
    size = size_of(kind)
    if not size:
        c.fail(node.args[0], f"{show(kind)} has no size")
    return Const(LITERAL, size, const=size)


def _type_or_value(c: Checker, node: ast.expr) -> Type:
    """The type that an argument names, or that of the value it is."""
    root = node
    while isinstance(root, ast.Attribute | ast.Subscript | ast.Call):
        root = root.func if isinstance(root, ast.Call) else root.value
    if isinstance(root, ast.Name) and root.id in c.locals:
        return c.value(node).type
    if isinstance(node, ast.Name | ast.Subscript | ast.Constant):
        try:
            return c.module.annotation(node)
        except SyntaxError:
            if isinstance(node, ast.Constant):
                raise
    return c.value(node).type


def _len(c: Checker, node: ast.Call) -> Expr:
    _count(c, node, 1)
    value = c.value(node.args[0])
    kind = value.type.target if isinstance(value.type, Ptr) else value.type
    if isinstance(value, Str):
        return Const(LITERAL, len(value.data), const=len(value.data))
    if not isinstance(kind, Array):
        c.fail(node.args[0], f"{show(value.type)} has no length that is known here")
    return Const(LITERAL, kind.count, const=kind.count)


def _ord(c: Checker, node: ast.Call) -> Expr:
    _count(c, node, 1)
    value = c.value(node.args[0])
    if not isinstance(value, Str) or len(value.data) != 1:
        c.fail(node.args[0], "ord() takes one ASCII character")
    return Const(LITERAL, value.data[0], const=value.data[0])


def _least(op: str) -> Intrinsic:
    def check(c: Checker, node: ast.Call) -> Expr:
        if node.keywords or len(node.args) < 2:
            c.fail(node, "min() and max() take two integers or more")
        result = c.value(node.args[0])
        for each in node.args[1:]:
            other = c.value(each)
            if not all(isinstance(v.type, Int) or v.type == LITERAL for v in (result, other)):
                c.fail(each, "min() and max() take integers")
            if result.const is not None and other.const is not None and result.type == other.type == LITERAL:
                result = result if (result.const < other.const) == (op == "<") else other
                continue
            a, b, kind = arithmetic.balance(c, node, "min", result, other)
            a, b = _named(c, node, a), _named(c, node, b)
            limits, x, y = None, range_of(a), range_of(b)
            ends = [r for r in (x, y) if r is not None]
            if x is not None and y is not None:
                pick = min if op == "<" else max
                limits = pick(x[0], y[0]), pick(x[1], y[1])
            elif op == "<" and ends and isinstance(kind, Int) and not kind.signed:
                limits = 0, ends[0][1]
            result = Cond(kind, Compare(BOOL, op, a, b), _again(a), _again(b), range=limits)
        return result

    return check


def _named(c: Checker, node: ast.AST, value: Expr) -> Expr:
    """A value that is used twice is computed once."""
    if isinstance(value, Const | Var):
        return value
    local = c.temporary(value.type, node)
    return Walrus(value.type, local, value, range=value.range)


def _again(value: Expr) -> Expr:
    return Var(value.type, value.local, range=value.range) if isinstance(value, Walrus) else value


def _abs(c: Checker, node: ast.Call) -> Expr:
    _count(c, node, 1)
    value = c.settle(c.value(node.args[0]))
    if not isinstance(value.type, Int):
        c.fail(node.args[0], f"abs() takes an integer, not {show(value.type)}")
    if not value.type.signed:
        return value
    once = _named(c, node, value)
    again = _again(once)
    return Cond(
        value.type, Compare(BOOL, "<", once, Const(value.type, 0, const=0)), Unary(value.type, "-", again), again
    )


def _addr(c: Checker, node: ast.Call) -> Expr:
    _count(c, node, 1)
    value = c.value(node.args[0])
    if isinstance(value, CoreRead):
        return AddrOf(Ptr(value.type, True), value)
    if not is_place(value):
        c.fail(node.args[0], "this value has no place in memory: give it a name first")
    kind = value.type.pointer if isinstance(value.type, Opt) else value.type
    return AddrOf(Ptr(kind), value)


def _question(question: str) -> Intrinsic:
    def check(c: Checker, node: ast.Call) -> Expr:
        _count(c, node, 1)
        given = node.args[0]
        result: Type = BOOL if question == "exists" else U32
        value = c.value(given)
        if isinstance(value, CoreRead) and value.steps and isinstance(value.steps[0], Struct):
            path = ".".join(str(each) for each in value.path)
            if len(value.path) > 1:
                owner = value.steps[-1]
                return CoreQuery(result, question, owner, [str(value.path[-1]).split(".")[-1]])
            return CoreQuery(result, question, value.steps[0], path.split("."))
        if isinstance(value, FieldOf):
            owner = value.base.type.target if isinstance(value.base.type, Ptr) else value.base.type
            return CoreQuery(result, question, owner, [value.name])
        c.fail(given, f"{question}() asks for a field of a kernel struct, as in task.real_parent")

    return check


def _exists(c: Checker, node: ast.Call) -> Expr:
    """A field that this machine's kernel lacks is not a mistake here: that is what is asked."""
    _count(c, node, 1)
    given = node.args[0]
    if isinstance(given, ast.Attribute) and not (isinstance(given.value, ast.Name) and given.value.id not in c.locals):
        base = c.value(given.value)
        kind = base.type.target if isinstance(base.type, Ptr) else base.type
        if isinstance(kind, Struct) and kind.kernel and given.attr not in kind.fields:
            return CoreQuery(BOOL, "never", kind, [given.attr])
    if isinstance(given, ast.Name) and c.module.kernel.function(c.module.imported.get(given.id, given.id)) is not None:
        name = c.module.imported.get(given.id, given.id)
        c.module.program.kernel_names.add(name)
        return CoreQuery(BOOL, "ksym", None, [], name)
    return _question("exists")(c, node)


def _type_question(question: str) -> Intrinsic:
    def check(c: Checker, node: ast.Call) -> Expr:
        _count(c, node, 1)
        given = node.args[0]
        name = given.id if isinstance(given, ast.Name) else given.value if isinstance(given, ast.Constant) else None
        if not isinstance(name, str):
            c.fail(given, f"{question}() takes the name of a kernel type")
        name = c.module.imported.get(name, name)
        kind = c.module.kernel.named(name)
        if kind is None:
            if question == "type_exists":
                return CoreQuery(BOOL, "never", None, [], name)
            c.fail(given, f"the kernel has no type {name!r}")
        c.module.use_kernel_type(kind)
        return CoreQuery(BOOL if question == "type_exists" else U32, question, kind, [], name)

    return check


def _enum_value(c: Checker, node: ast.Call) -> Expr:
    _count(c, node, 2)
    kind_node, value_node = node.args
    kind = (
        kind_node.id
        if isinstance(kind_node, ast.Name)
        else kind_node.value
        if isinstance(kind_node, ast.Constant)
        else None
    )
    name = (
        value_node.id
        if isinstance(value_node, ast.Name)
        else value_node.value
        if isinstance(value_node, ast.Constant)
        else None
    )
    if not isinstance(kind, str) or not isinstance(name, str):
        c.fail(node, "enum_value(ENUM, NAME) takes the names of a kernel enum and of one of its enumerators")
    if c.module.kernel.constant(name) is None:
        c.fail(value_node, f"no enum of the kernel has {name!r}")
    return CoreQuery(U64, "enum_value", c.module.kernel.named(kind), [], name)


_ATOMICS = {
    "atomic_add": ("add", False), "atomic_sub": ("sub", False), "atomic_or": ("or", False), "atomic_and": ("and", False),
    "atomic_xor": ("xor", False), "fetch_add": ("add", True), "fetch_sub": ("sub", True), "fetch_or": ("or", True),
    "fetch_and": ("and", True), "fetch_xor": ("xor", True), "exchange": ("xchg", True), "compare_exchange": ("cmpxchg", True),
}  # fmt: skip


def _atomic(op: str, fetch: bool) -> Intrinsic:
    def check(c: Checker, node: ast.Call) -> Expr:
        _count(c, node, 3 if op == "cmpxchg" else 2)
        value = c.value(node.args[0])
        if isinstance(value.type, Opt):
            c.fail(node.args[0], "this may be None: test it first, as in `if x is None: return 0`")
        if isinstance(value.type, Ptr):
            pointer, kind = value, value.type.target
        elif is_place(value):
            pointer, kind = AddrOf(Ptr(value.type), value), value.type
        else:
            c.fail(
                node.args[0],
                "an atomic operation works on a place in memory: a variable of the module, a field, or a pointer",
            )
        if not isinstance(kind, Int) or kind.bits not in (32, 64):
            c.fail(node.args[0], f"the processor's atomic operations work on 32 and 64 bits, not on {show(kind)}")
        arguments = []
        for each in node.args[1:]:
            given = c.value(each)
            if given.type == LITERAL and given.const is not None and given.const < 0 and not kind.signed:
                given = Const(kind, kind.wrap(given.const), const=kind.wrap(given.const))
            arguments.append(c.coerce(given, kind, each))
        return Atomic(kind if fetch else VOID, op, pointer, arguments)

    return check


def _swap(name: str, kind: Int, result: Int) -> Intrinsic:
    def check(c: Checker, node: ast.Call) -> Expr:
        _count(c, node, 1)
        value = c.coerce(c.value(node.args[0]), kind, node.args[0])
        known = None if value.const is None else int.from_bytes(value.const.to_bytes(kind.bits // 8, "little"), "big")
        return Kfunc(result, name, [value], True, const=known)

    return check


def _print(c: Checker, node: ast.Call) -> Expr:
    if node.keywords:
        c.fail(node.keywords[0], "print() has no options in the kernel")
    if len(node.args) != 1:
        c.fail(node, 'print() takes one text: print(f"pid {pid}")')
    return formatted(c, node.args[0], "print")


def _snprintf(c: Checker, node: ast.Call) -> Expr:
    _count(c, node, 2)
    buffer = c.value(node.args[0])
    kind = buffer.type.target if isinstance(buffer.type, Ptr) else buffer.type
    if not isinstance(kind, Array) or (kind.element != CHAR and size_of(kind.element) != 1):
        c.fail(node.args[0], "snprintf() writes to a char[N]")
    result = formatted(c, node.args[1], "snprintf")
    pointer = buffer if isinstance(buffer.type, Ptr) else AddrOf(Ptr(kind), buffer)
    result.target = [pointer, Const(U32, kind.count, const=kind.count)]
    return result


def _seq_print(c: Checker, node: ast.Call) -> Expr:
    _count(c, node, 2)
    target = c.value(node.args[0])
    result = formatted(c, node.args[1], "seq")
    result.target = [argument(c, node.args[0], target, Ptr(VOID), "seq")]
    return result


def _stream_print(c: Checker, node: ast.Call) -> Expr:
    _count(c, node, 2)
    target = c.coerce(c.value(node.args[0]), S32, node.args[0])
    result = formatted(c, node.args[1], "stream")
    result.target = [target]
    return result


def _registers(name: str) -> Intrinsic:
    def check(c: Checker, node: ast.Call) -> Expr:
        _count(c, node, 1)
        pointer = argument(c, node.args[0], c.value(node.args[0]), Ptr(VOID), "ctx")
        return Cast(U64, Kfunc(U64, name, [pointer], True))

    return check


def packet(c: Checker, node: ast.Call, context: Expr, kind: Struct) -> Expr:
    """``ctx.packet(T, offset)``: a pointer into the packet, or None where the packet ends before."""
    if kind.name not in ("xdp_md", "__sk_buff", "sk_msg_md"):
        c.fail(node, f"{kind.name} has no packet")
    if not 1 <= len(node.args) <= 2 or node.keywords:
        c.fail(node, "packet(T, offset) takes a type and an offset in bytes")
    target = c.module.annotation(node.args[0])
    size = size_of(target)
    if not size:
        c.fail(node.args[0], f"{show(target)} has no size")
    offset: Expr = Const(U32, 0, const=0)
    if len(node.args) == 2:
        offset = c.coerce(c.value(node.args[1]), U32, node.args[1], "the offset")
    extent = None if "data_end" in c.module.source.text else size  # who compares with data_end may know of more
    return MapOp(Opt(Ptr(target, extent=extent)), "packet", context, [offset, Const(U32, size, const=size)])


def map_of_timer(c: Checker, node: ast.Call, address: Expr) -> Expr:
    """The map whose values hold a timer, found by the type of the value."""
    inner = address.operand if isinstance(address, AddrOf) else address
    while isinstance(inner, FieldOf):
        inner = inner.base
    owner = inner.type.target if isinstance(inner.type, Ptr) else inner.type
    found = [m for m in c.module.definitions() if isinstance(m, MapDecl) and m.value is owner]
    if len(found) != 1:
        c.fail(
            node,
            f"{'no map has' if not found else 'several maps have'} values of {show(owner)}: call t.init(map, flags), "
            "t.set_callback(f) and t.start(ns, 0)",
        )
    return MapAddr(MapRef(found[0]), found[0])


def _core_cast(c: Checker, node: ast.Call) -> Expr:
    _count(c, node, 2)
    value = c.value(node.args[0])
    kind = c.module.annotation(node.args[1])
    if not isinstance(kind, Struct) or not isinstance(value.type, Ptr | Int):
        c.fail(node, "core_cast(p, T) takes a pointer or an address, and a struct of the kernel")
    c.module.use_kernel_type(kind)
    if isinstance(value.type, Int):
        value = Cast(Ptr(VOID), value)
    return Kfunc(Ptr(kind), "bpf_core_cast", [value, SizeOf(U32, kind)], True)


def _object_new(c: Checker, node: ast.Call) -> Expr:
    _count(c, node, 1)
    kind = c.module.annotation(node.args[0])
    if not isinstance(kind, Struct) or kind.kernel:
        c.fail(node.args[0], "obj_new(T) allocates a Struct of this module")
    return Kfunc(Opt(Ptr(kind)), "bpf_obj_new", [SizeOf(U32, kind)], True)


def _object_drop(c: Checker, node: ast.Call) -> Expr:
    _count(c, node, 1)
    value = c.value(node.args[0])
    if not isinstance(value.type, Ptr):
        c.fail(node.args[0], "obj_drop(p) takes what obj_new() gave, tested for None")
    references.parameter_taken(c, "bpf_obj_drop", [value])
    references.given_back(c, node, "bpf_obj_drop", [value])
    return Kfunc(VOID, "bpf_obj_drop", [value], True)


def _container_of(c: Checker, node: ast.Call) -> Expr:
    _count(c, node, 3)
    value = c.value(node.args[0])
    kind = c.module.annotation(node.args[1])
    field = node.args[2].value if isinstance(node.args[2], ast.Constant) else None
    if not isinstance(value.type, Ptr) or not isinstance(kind, Struct) or not isinstance(field, str):
        c.fail(node, 'container_of(p, T, "field") takes a pointer, a Struct and the name of a field of it')
    if field not in kind.fields:
        c.fail(node.args[2], f"{kind.name} has no field {field!r}{did_you_mean(field, kind.fields)}")
    return Kfunc(Ptr(kind), "container_of", [value, SizeOf(U32, kind), Str(STRING, field.encode())], True)


def _offsetof(c: Checker, node: ast.Call) -> Expr:
    _count(c, node, 2)
    kind = c.module.annotation(node.args[0])
    field = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
    if not isinstance(kind, Struct) or not isinstance(field, str):
        c.fail(node, 'offsetof(T, "field") takes a struct and the name of a field of it')
    inner: Type = kind
    for part in field.split("."):
        found = inner.fields.get(part) if isinstance(inner, Struct) else None
        if found is None:
            c.fail(node.args[1], f"{show(inner)} has no field {part!r}")
        inner = found.type
    return Kfunc(U32, "offsetof", [SizeOf(U32, kind), Str(STRING, field.encode())], True, range=(0, 1 << 16))


def _range_alone(c: Checker, node: ast.Call) -> Expr:
    c.fail(node, "range(...) is for loops: for i in range(n)")


_REGISTERS = ("PARM1", "PARM2", "PARM3", "PARM4", "PARM5", "RC", "RET", "FP", "SP", "IP")
INTRINSICS: dict[str, Intrinsic] = {
    "current_pid": _part("get_current_pid_tgid", False), "current_tgid": _part("get_current_pid_tgid", True),
    "current_uid": _part("get_current_uid_gid", False), "current_gid": _part("get_current_uid_gid", True),
    "current_comm": _as_helper("get_current_comm"), "read_user": _as_helper("probe_read_user"),
    "read_kernel": _as_helper("probe_read_kernel"), "read_user_str": _as_helper("probe_read_user_str"),
    "read_kernel_str": _as_helper("probe_read_kernel_str"), "sizeof": _sizeof, "len": _len, "ord": _ord,
    "min": _least("<"), "max": _least(">"), "abs": _abs, "addr": _addr, "exists": _exists, "field_size": _question("field_size"),
    "field_offset": _question("field_offset"), "type_exists": _type_question("type_exists"),
    "type_size": _type_question("type_size"), "enum_value": _enum_value, "print": _print, "snprintf": _snprintf,
    "seq_print": _seq_print, "stream_print": _stream_print, "core_cast": _core_cast, "obj_new": _object_new,
    "obj_drop": _object_drop, "range": _range_alone, "container_of": _container_of, "offsetof": _offsetof,
    "htons": _swap("bpf_htons", U16, U16), "ntohs": _swap("bpf_ntohs", U16, U16), "htonl": _swap("bpf_htonl", U32, U32),
    "ntohl": _swap("bpf_ntohl", U32, U32), "cpu_to_be64": _swap("bpf_cpu_to_be64", U64, U64),
    "be64_to_cpu": _swap("bpf_be64_to_cpu", U64, U64),
    **{name: _atomic(*facts) for name, facts in _ATOMICS.items()},
    **{f"PT_REGS_{name}": _registers(f"PT_REGS_{name}") for name in _REGISTERS},
}  # fmt: skip
