"""Calls: of the program's functions, helpers, kernel functions, and what the language itself offers."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from bpf2py.isa.helpers import HELPERS_BY_NAME
from bpf2py.lang import intrinsics, map_methods, references
from bpf2py.lang.helper_calls import helper_call, kfunc_call
from bpf2py.lang.names import EnumType
from bpf2py.lang.scope import Checker, is_place
from bpf2py.lang.source import did_you_mean
from bpf2py.lang.tree import (
    AddrOf,
    Call,
    Cast,
    Compare,
    Const,
    CoreRead,
    Deref,
    Expr,
    FieldOf,
    FuncAddr,
    Function,
    MapOp,
    Null,
    Str,
    StructLit,
)  # fmt: skip
from bpf2py.lang.types import (
    BOOL,
    CHAR,
    INTEGERS,
    LITERAL,
    S8,
    U8,
    Array,
    Int,
    MapRef,
    Opt,
    Ptr,
    Struct,
    Type,
    show,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["call"]


def call(c: Checker, node: ast.Call) -> Expr:
    """Check a call."""
    for keyword in node.keywords:
        if keyword.arg is None:
            c.fail(keyword.value, "arguments are not unpacked: write them one by one")
    for each in node.args:
        if isinstance(each, ast.Starred):
            c.fail(each, "arguments are not unpacked: write them one by one")
    target = node.func
    if isinstance(target, ast.Name) and target.id not in c.locals:
        return _by_name(c, node, target.id)
    if isinstance(target, ast.Subscript):
        return _of_type(c, node, c.module.annotation(target))
    if isinstance(target, ast.Attribute):
        if (
            isinstance(target.value, ast.Name)
            and target.value.id in c.module.aliases
            and target.value.id not in c.locals
        ):
            return _by_name(c, node, target.attr)
        return _method(c, node, target)
    c.fail(target, "this is not a function")


def _by_name(c: Checker, node: ast.Call, name: str) -> Expr:
    module = c.module
    found = module.names.get(name)
    if isinstance(found, Function):
        return _own(c, node, found)
    if isinstance(found, Struct):
        return _of_type(c, node, found)
    if isinstance(found, EnumType):
        return _of_type(c, node, found.type)
    if found is not None:
        c.fail(node.func, f"{name!r} is not a function")
    if name in INTEGERS:
        return _of_type(c, node, INTEGERS[name])
    builtin = intrinsics.INTRINSICS.get(name)
    if builtin is not None and name not in module.imported:
        return builtin(c, node)
    kernel_name = module.imported.get(name, name)
    helper = HELPERS_BY_NAME.get(kernel_name) or HELPERS_BY_NAME.get(kernel_name.removeprefix("bpf_"))
    prototype = module.kernel.function(kernel_name)
    if helper is not None and not node.args and kernel_name.startswith("bpf_"):
        namesake = module.kernel.named(kernel_name)  # bpf_fib_lookup is a struct, too
        if isinstance(namesake, Struct):
            module.use_kernel_type(namesake)
            return _of_type(c, node, namesake)
    if helper is not None:
        return helper_call(c, node, helper)
    if prototype is None and module.kernel.function(f"{kernel_name}_impl") is not None:
        kernel_name = f"{kernel_name}_impl"  # what C reaches by a macro
        prototype = module.kernel.function(kernel_name)
    if prototype is not None:
        return kfunc_call(c, node, kernel_name, prototype)
    kernel_type = module.kernel.named(kernel_name)
    if isinstance(kernel_type, Struct | Int):
        module.use_kernel_type(kernel_type)
        return _of_type(c, node, kernel_type)
    known = [*module.names, *HELPERS_BY_NAME, *intrinsics.INTRINSICS]
    c.fail(node.func, f"there is no function {name!r}{did_you_mean(name, known)}{_why_not(c, name)}")


def _why_not(c: Checker, name: str) -> str:
    import builtins

    if name in c.module.foreign:
        return c.module.hint(name)
    if name in ("open", "input", "eval", "exec", "getattr", "setattr", "isinstance", "type", "super"):
        return ": Python's own functions are not in the kernel"
    return ": Python's own functions are not in the kernel" if hasattr(builtins, name) else ""


def _own(c: Checker, node: ast.Call, function: Function) -> Expr:
    if function.kind == "program":
        c.fail(node.func, f"{function.name} is a program, which the kernel calls: put what both need into a function")
    arguments = _bind(c, node, [p.name for p in function.parameters], node.func)
    values: list[Expr] = []
    for parameter, given in zip(function.parameters, arguments, strict=True):
        if given is None:
            c.fail(node, f"{function.name} is given no {parameter.name!r}")
        value = c.value(given)
        if isinstance(value, Str) and isinstance(parameter.type, Ptr):
            values.append(value)
            continue
        if isinstance(parameter.type, Struct):
            c.fail(
                given, f"a struct is passed by its address: annotate {parameter.name} as Ptr[{show(parameter.type)}]"
            )
        c.module.flows_into(function, parameter, value)
        values.append(c.coerce(value, parameter.type, given, f"{parameter.name!r} of {function.name}"))
        if parameter.name in function.takes:
            references.passed_on(c, given, value)
    if function.helper:
        c.function.helper = c.function.helper or function.helper
        references.under_lock(c, node, f"{function.helper}(), which {function.name} calls,")
    c.function.calls.add(function.name)
    c.function.direct.add(function.name)
    return Call(function.returns, function, values)


def _bind(c: Checker, node: ast.Call, names: Sequence[str], what: ast.AST) -> list[ast.expr | None]:
    """Arguments by position and by name, in the order of the parameters."""
    if len(node.args) > len(names):
        c.fail(
            node.args[len(names)],
            f"too many arguments: there are {len(names)} parameters{' (' + ', '.join(names) + ')' if names else ''}",
        )
    bound: list[ast.expr | None] = [*node.args, *[None] * (len(names) - len(node.args))]
    for keyword in node.keywords:
        if keyword.arg not in names:
            c.fail(keyword, f"there is no parameter {keyword.arg!r}{did_you_mean(str(keyword.arg), names)}")
        position = list(names).index(str(keyword.arg))
        if bound[position] is not None:
            c.fail(keyword, f"{keyword.arg!r} is given twice")
        bound[position] = keyword.value
    return bound


def _of_type(c: Checker, node: ast.Call, kind: Type) -> Expr:
    """``u32(x)``, ``Ptr[T](x)``, ``Event(pid=1)``, ``char[16]()``."""
    if isinstance(kind, Struct):
        return _new_struct(c, node, kind)
    if isinstance(kind, Array):
        if node.args or node.keywords:
            c.fail(node, f"{show(kind)}() is zeros: fill it afterwards")
        return StructLit(kind, [])
    if node.keywords or len(node.args) != 1:
        c.fail(node, f"{show(kind)}(...) converts one value")
    given = node.args[0]
    value = c.value(given)
    if kind == BOOL:
        if value.type == BOOL:
            return value
        truth = c.truth(value, given)
        if isinstance(truth.type, Int) or truth.type == LITERAL:
            return Compare(
                BOOL,
                "!=",
                truth,
                Const(truth.type, 0, const=0),
                const=None if truth.const is None else int(truth.const != 0),
            )
        return Compare(BOOL, "!=", truth, Null(truth.type))
    if isinstance(kind, Int):
        if kind.bits > 64:
            c.fail(node, "there is no arithmetic on u128: it is for fields of structs only")
        if value.type == LITERAL and value.const is not None:
            wrapped = kind.wrap(value.const)
            return Const(kind, wrapped, getattr(value, "name", "") if wrapped == value.const else "", const=wrapped)
        if isinstance(value.type, Array) and is_place(value):
            return Cast(kind, AddrOf(Ptr(value.type.element), value))
        if isinstance(value.type, Ptr | Opt):
            return Cast(kind, value)
        if value.type == LITERAL or value.type == BOOL or isinstance(value.type, Int):
            return c.coerce(value, kind, given) if value.type != LITERAL else Cast(kind, value)
        c.fail(given, f"{show(value.type)} is not converted to {show(kind)}")
    if isinstance(kind, Opt):
        kind = kind.pointer
    assert isinstance(kind, Ptr)
    if isinstance(value.type, Array) and is_place(value):
        value = AddrOf(Ptr(value.type.element), value)
    if isinstance(value.type, Struct) and is_place(value):
        value = AddrOf(Ptr(value.type), value)
    if isinstance(value.type, Int) or value.type == LITERAL:
        return Cast(Ptr(kind.target, not _is_packet(value)), c.settle(value))
    if isinstance(value.type, Opt):
        c.fail(given, "this may be None: test it first, as in `if x is None: return 0`")
    if isinstance(value.type, Ptr):
        return Cast(Ptr(kind.target, value.type.probe, value.type.arena, value.type.extent), value)
    c.fail(given, f"{show(value.type)} is not converted to {show(kind)}")


def _is_packet(value: Expr) -> bool:
    """``ctx.data``: an integer in the context's struct that is a pointer all the same."""
    owner = value.base.type.target if isinstance(value, FieldOf) and isinstance(value.base.type, Ptr) else None
    return isinstance(owner, Struct) and owner.name in ("xdp_md", "__sk_buff", "sk_msg_md") and value.name in (  # type: ignore[attr-defined]
        "data", "data_end", "data_meta",
    )  # fmt: skip


def _new_struct(c: Checker, node: ast.Call, kind: Struct) -> Expr:
    if kind.kernel:
        c.module.use_kernel_type(kind)
    fields: list[tuple[str, Expr]] = []
    names = list(kind.fields)
    if node.args and kind.union:
        c.fail(node.args[0], "name the member of a union: as in Address(ipv4=...)")
    given = [(names[i] if i < len(names) else "", value) for i, value in enumerate(node.args)]
    if len(node.args) > len(names):
        c.fail(node.args[len(names)], f"{kind.name} has {len(names)} fields")
    given += [(str(keyword.arg), keyword.value) for keyword in node.keywords]
    for name, value_node in given:
        field = kind.fields.get(name)
        if field is None:
            c.fail(value_node, f"{kind.name} has no field {name!r}{did_you_mean(name, kind.fields)}")
        if name in (known for known, _ in fields):
            c.fail(value_node, f"{name!r} is given twice")
        value = c.value(value_node)
        if isinstance(field.type, Array):
            if isinstance(value, Str):
                if field.type.element not in (U8, S8, CHAR):
                    c.fail(value_node, f"text is not {show(field.type)}")
                if len(value.data) > field.type.count:
                    c.fail(
                        value_node,
                        f"this text has {len(value.data)} bytes, {show(field.type)} has room for {field.type.count}",
                    )
            elif (
                not isinstance(value, StructLit | CoreRead) and not is_place(value) and not isinstance(value.type, Ptr)
            ):
                c.fail(value_node, f"{show(value.type)} is not {show(field.type)}")
            else:
                own = value.type.target if isinstance(value.type, Ptr) else value.type
                if own != field.type:
                    c.fail(value_node, f"{show(value.type)} is not {show(field.type)}")
                if isinstance(value.type, Ptr):
                    value = Deref(own, value)
            fields.append((name, value))
            continue
        fields.append((name, c.coerce(value, field.type, value_node, f"{kind.name}.{name}")))
    return StructLit(kind, fields)


def _method(c: Checker, node: ast.Call, target: ast.Attribute) -> Expr:
    base = c.value(target.value)
    name = target.attr
    if isinstance(base.type, MapRef):
        return map_methods.call_method(c, node, base, name)
    if isinstance(base.type, Opt) and name == "cast" and len(node.args) == 1 and not node.keywords:
        wanted = c.module.annotation(node.args[0])  # None stays None
        own = base.type.pointer
        return Cast(Opt(Ptr(wanted, own.probe, own.arena, own.extent)), base)
    if isinstance(base.type, Opt):
        c.fail(target, f"this may be None: test it before calling .{name}()")
    kind = base.type.target if isinstance(base.type, Ptr) else base.type
    if name == "cast" and isinstance(base.type, Ptr):
        if len(node.args) != 1 or node.keywords:
            c.fail(node, "p.cast(T) takes one type")
        wanted = c.module.annotation(node.args[0])
        return Cast(Ptr(wanted, base.type.probe, base.type.arena, base.type.extent), base)
    if name == "packet" and isinstance(kind, Struct) and kind.kernel:
        return intrinsics.packet(c, node, base, kind)
    if isinstance(kind, Struct) and kind.name in _OBJECT_METHODS and (is_place(base) or isinstance(base.type, Ptr)):
        found = _OBJECT_METHODS[kind.name].get(name)
        if found is None:
            c.fail(target, f"{kind.name} has no {name!r}{did_you_mean(name, _OBJECT_METHODS[kind.name])}")
        address = base if isinstance(base.type, Ptr) else AddrOf(Ptr(kind), base)
        return _object_method(c, node, address, kind.name, name, found)
    if isinstance(kind, Struct):
        c.fail(
            target,
            f"{kind.name} has no method {name!r}: functions stand in the module, and are given a Ptr[{kind.name}]",
        )
    c.fail(target, f"{show(base.type)} has no method {name!r}")


# Methods of kernel objects that lie in map values or on the stack: the helper or kfunc that each stands for.
_OBJECT_METHODS: dict[str, dict[str, str]] = {
    "bpf_timer": {"init": "timer_init", "set_callback": "timer_set_callback", "start": "timer_start", "cancel": "timer_cancel"},
    "bpf_dynptr": {
        "read": "dynptr_read", "write": "dynptr_write", "data": "dynptr_data", "submit": "ringbuf_submit_dynptr",
        "discard": "ringbuf_discard_dynptr", "size": "bpf_dynptr_size", "slice": "bpf_dynptr_slice", "adjust": "bpf_dynptr_adjust",
    },
    "bpf_spin_lock": {"lock": "spin_lock", "unlock": "spin_unlock"},
    "bpf_wq": {"init": "bpf_wq_init", "set_callback": "bpf_wq_set_callback_impl", "start": "bpf_wq_start"},
}  # fmt: skip


def _object_method(c: Checker, node: ast.Call, address: Expr, struct: str, name: str, helper_name: str) -> Expr:
    if struct == "bpf_timer" and name == "start" and len(node.args) == 2:
        # t.start(ns, callback): what three helpers do, one after another.
        delay = c.coerce(c.value(node.args[0]), Int(64, False), node.args[0])
        callback = c.value(node.args[1])
        if isinstance(callback, FuncAddr):
            owner = intrinsics.map_of_timer(c, node, address)
            callback.function.callback = True
            c.function.calls.add(callback.function.name)
            return MapOp(Int(64, True), "timer", owner, [address, callback, delay])
    if helper_name.endswith("_impl") and c.module.kernel.function(helper_name.removesuffix("_impl")) is not None:
        helper_name = helper_name.removesuffix("_impl")  # since Linux 7.0, with an argument less
    helper = HELPERS_BY_NAME.get(helper_name)
    if helper is not None:
        position = next((i for i, p in enumerate(helper.parameters) if struct in p.type), 0)
        return helper_call(c, node, helper, (position, address))
    prototype = c.module.kernel.function(helper_name)
    if prototype is None:
        c.fail(node.func, f"this kernel has no {helper_name}")
    return kfunc_call(c, node, helper_name, prototype, address)
