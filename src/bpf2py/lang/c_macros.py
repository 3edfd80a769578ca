"""What the language offers that C has as a macro."""

from __future__ import annotations

from bpf2py.lang.c_printer import Printer
from bpf2py.lang.tree import FieldOf, Kfunc, SizeOf, Str, Var
from bpf2py.lang.types import Array, Ptr, Struct

__all__ = ["context", "context_array", "macro"]

_POSTFIX, _UNARY, _ASSIGN = 15, 14, 2


def context(p: Printer, base: Var) -> str:
    """A program's context, to whose address the compiler adds the field's offset anew.

    The verifier takes a context with an offset that stands in the instruction only; clang adds one that it needs twice beforehand.
    """
    name = "CONTEXT"
    if name not in p.functions:
        p.functions[name] = (
            '#define CONTEXT(ctx) ({ typeof(ctx) ctx_ = (ctx); asm volatile("" : "+r"(ctx_)); ctx_; })\n'
        )
    return f"{name}({p.text(base, _ASSIGN)})"


def context_array(p: Printer, field: FieldOf) -> str:
    """An array in a context that the UAPI lays out, by its offset: clang adds what an index is to that, and to no relocation."""
    kind = field.base.type
    assert isinstance(kind, Ptr)
    assert isinstance(field.type, Array)
    assert isinstance(field.base, Var)
    element = p.names.declare(Ptr(field.type.element))
    offset = f"__builtin_offsetof({p.names.declare(kind.target)}, {field.name})"
    return f"(({element})((void *){context(p, field.base)} + {offset}))"


def macro(p: Printer, expr: Kfunc) -> tuple[str, int] | None:
    """A macro's use, and how tightly it binds; None where it is called like a function."""
    given = expr.arguments
    if expr.name in ("offsetof", "container_of"):
        kind, field = given[-2:]
        assert isinstance(kind, SizeOf)
        assert isinstance(field, Str)
        owner = kind.subject
        parts = field.data.decode().split(".")
        member = ".".join(parts if isinstance(owner, Struct) and owner.kernel else map(p.names.inner, parts))
        name = p.names.declare(owner)
        if expr.name == "offsetof":
            return f"(u32)__builtin_offsetof({name}, {member})", _UNARY
        return f"container_of({p.text(given[0], _ASSIGN)}, {name}, {member})", _POSTFIX
    if expr.name in ("bpf_core_cast", "bpf_obj_new"):
        p.headers.add("bpf/bpf_core_read.h")
        kind = given[-1]
        assert isinstance(kind, SizeOf)
        name = p.names.declare(kind.subject)
        if expr.name == "bpf_obj_new":
            return f"({name} *)bpf_obj_new_impl(bpf_core_type_id_local({name}), NULL)", _UNARY
        return f"({name} *)bpf_rdonly_cast({p.text(given[0], _ASSIGN)}, bpf_core_type_id_kernel({name}))", _UNARY
    if expr.name == "bpf_obj_drop":
        return f"bpf_obj_drop_impl({p.arguments(given)}, NULL)", _POSTFIX
    p.headers.add("bpf/bpf_tracing.h" if expr.name.startswith("PT_REGS") else "bpf/bpf_endian.h")
    return None
