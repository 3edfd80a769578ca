"""Operations on maps as C: calls of helpers, and functions of our own where an operation takes several."""

from __future__ import annotations

from bpf2py.lang.c_pieces import text_literal
from bpf2py.lang.c_printer import Printer
from bpf2py.lang.tree import Binary, Local, MapAddr, MapDecl, MapOp, Str, Var
from bpf2py.lang.types import VOID, Array, Int, MapRef, Ptr, Type
from bpf2py.uapi.map_types import MapType

__all__ = ["map_operation"]

_POSTFIX, _UNARY, _ASSIGN = 15, 14, 2
_NAMES = {
    "+": "add",
    "-": "sub",
    "*": "mul",
    "//": "div",
    "%": "mod",
    "&": "and",
    "|": "or",
    "^": "xor",
    "<<": "shl",
    ">>": "shr",
}
_ATOMIC = {"+": "add", "-": "sub", "&": "and", "|": "or", "^": "xor"}
_ARRAYS = (MapType.ARRAY, MapType.PERCPU_ARRAY)


def map_operation(p: Printer, expr: MapOp) -> tuple[str, int]:
    """The C of an operation on a map."""
    op, given = expr.op, expr.arguments
    if op == "packet":
        return _packet(p, expr)
    if op.startswith(("text", "bytes")):
        return _compared(p, expr)
    if op in ("submit", "discard"):
        return f"bpf_ringbuf_{op}({p.text(given[0], _ASSIGN)}, {p.text(given[1])})", _POSTFIX
    m = p.text(expr.map, _ASSIGN)
    if op.startswith("update"):
        return _update(p, expr, m)
    if op.endswith(("_storage_get", "_storage_delete")):
        rest = "".join(f", {p.text(each, _ASSIGN)}" for each in given)
        return f"bpf_{op}({m}{rest})", _POSTFIX
    simple = {
        "get": ("map_lookup_elem", "k"), "put": ("map_update_elem", "kkv"), "delete": ("map_delete_elem", "k"),
        "push": ("map_push_elem", "kv"), "pop": ("map_pop_elem", "v"), "peek": ("map_peek_elem", "v"),
        "get_cpu": ("map_lookup_percpu_elem", "kv"), "query": ("ringbuf_query", "v"), "reserve": ("ringbuf_reserve", "v0"),
        "ring_output": ("ringbuf_output", "vvv"), "redirect": ("redirect_map", "vv"), "drain": ("user_ringbuf_drain", "vvv"),
        "for_each": ("for_each_map_elem", "vvv"), "local": ("get_local_storage", "0"),
    }.get(op)  # fmt: skip
    if simple is not None:
        name, kinds = simple
        parts = [m]
        left = iter(given)
        for kind in kinds:
            parts.append("0" if kind == "0" else p.key(next(left)) if kind == "k" else p.converted(next(left)))
        return f"bpf_{name}({', '.join(parts)})", _POSTFIX
    if op == "reserve_dynptr":
        return f"bpf_ringbuf_reserve_dynptr({m}, {p.arguments(given)})", _POSTFIX
    if op == "contains":
        return f"bpf_map_lookup_elem({m}, {p.key(given[0])}) != NULL", 9
    if op == "bloom_contains":
        return f"bpf_map_peek_elem({m}, {p.key(given[0])}) == 0", 9
    if op == "setdefault":
        return _setdefault(p, expr, m), _POSTFIX
    if op == "perf_output":
        context, flags, data, size = (p.text(each, _ASSIGN) for each in given)
        return f"bpf_perf_event_output({context}, {m}, {flags}, {data}, {size})", _POSTFIX
    if op in (
        "tail_call",
        "stackid",
        "sk_redirect_map",
        "sk_redirect_hash",
        "msg_redirect_map",
        "msg_redirect_hash",
        "sock_update",
    ):
        return _with_context(p, expr, m), _POSTFIX
    assert op == "timer", op
    return _timer(p, expr, m), _POSTFIX


def _with_context(p: Printer, expr: MapOp, m: str) -> str:
    name = {"tail_call": "tail_call", "stackid": "get_stackid"}.get(expr.op, expr.op)
    context = p.text(expr.arguments[0], _ASSIGN)
    if expr.op == "sock_update":
        map_decl: MapDecl = expr.map.type.map  # type: ignore[attr-defined]
        name = "sock_hash_update" if map_decl.kind == MapType.SOCKHASH else "sock_map_update"
        return f"bpf_{name}({context}, {m}, {p.key(expr.arguments[1])}, {p.text(expr.arguments[2])})"
    rest = [
        p.key(each) if expr.op.endswith("hash") and i == 0 else p.converted(each)
        for i, each in enumerate(expr.arguments[1:])
    ]
    return f"bpf_{name}({', '.join([context, m, *rest])})"


def _setdefault(p: Printer, expr: MapOp, m: str) -> str:
    key, value = p.key(expr.arguments[0]), p.key(expr.arguments[1])
    name = p.fresh("found")
    declared = p.names.declare(expr.type, name)
    return (
        f"({{ {declared} = bpf_map_lookup_elem({m}, {key}); "
        f"if (!{name}) {{ bpf_map_update_elem({m}, {key}, {value}, BPF_NOEXIST); {name} = bpf_map_lookup_elem({m}, {key}); }} "
        f"{name}; }})"
    )


def _timer(p: Printer, expr: MapOp, m: str) -> str:
    timer, callback, delay = (p.text(each, _ASSIGN) for each in expr.arguments)
    name = "start_timer_"
    p.functions[name] = (
        "static __always_inline long start_timer_(struct bpf_timer *timer, void *map, void *callback, u64 ns)\n{\n"
        "\tlong error = bpf_timer_init(timer, map, 1 /* CLOCK_MONOTONIC */);\n\n"
        "\tif (error && error != -16 /* EBUSY: it is set up already */)\n\t\treturn error;\n"
        "\terror = bpf_timer_set_callback(timer, callback);\n"
        "\treturn error ? error : bpf_timer_start(timer, ns, 0);\n}\n"
    )
    return f"{name}({timer}, {m}, {callback}, {delay})"


def _packet(p: Printer, expr: MapOp) -> tuple[str, int]:
    context = expr.map.type.target if isinstance(expr.map.type, Ptr) else expr.map.type
    struct = p.names.declare(context)
    name = "packet_" if struct == "struct xdp_md" else f"packet_{struct.split()[-1].strip('_')}_"
    load = "u64" if struct == "struct sk_msg_md" else "u32"
    p.functions[name] = (
        f"static __always_inline void *{name}({struct} *ctx, u32 offset, u32 size)\n{{\n"
        "\tvoid *at, *end;\n\n"
        "\t/* The verifier wants the context's own register here, whatever the compiler makes of the rest. */\n"
        f'\tasm volatile("%[at] = *({load} *)(%[ctx] + %[data])"\n'
        f'\t\t     : [at] "=r"(at) : [ctx] "r"(ctx), [data] "i"(__builtin_offsetof({struct}, data)));\n'
        f'\tasm volatile("%[end] = *({load} *)(%[ctx] + %[data_end])"\n'
        f'\t\t     : [end] "=r"(end) : [ctx] "r"(ctx), [data_end] "i"(__builtin_offsetof({struct}, data_end)));\n'
        "\tif (offset > 0x7fff)\n\t\treturn NULL;\n"
        "\tat += offset;\n"
        "\treturn at + size > end ? NULL : at;\n}\n"
    )
    offset, size = expr.arguments
    target = expr.type.pointer.target if hasattr(expr.type, "pointer") else VOID
    shown = f"sizeof({p.names.declare(target)})" if not isinstance(target, Int) else p.text(size)
    return f"{name}({p.text(expr.map, _ASSIGN)}, {p.text(offset, _ASSIGN)}, {shown})", _POSTFIX


def _compared(p: Printer, expr: MapOp) -> tuple[str, int]:
    """``comm == "bash"``, or two arrays of one type."""
    op = "==" if expr.op.endswith("==") else "!="
    left, right = expr.map, expr.arguments[0]
    kind = left.type.target if isinstance(left.type, Ptr) else left.type
    if isinstance(right, Str):
        size = kind.count if isinstance(kind, Array) else len(right.data) + 1
        name = "same_text_"
        p.functions[name] = (
            "static __always_inline bool same_text_(const char *a, const char *b, u32 size)\n{\n"
            "\tfor (u32 i = 0; i < size; i++) {\n"
            "\t\tif (a[i] != b[i])\n\t\t\treturn false;\n\t\tif (!a[i])\n\t\t\tbreak;\n\t}\n\treturn true;\n}\n"
        )
        pointer = p.text(left, _UNARY) if isinstance(left.type, Ptr) else p.place(left)
        count = min(size, len(right.data) + 1)
        result = f"same_text_((const char *){pointer}, {text_literal(right.data)}, {count})"
        return (result, _POSTFIX) if op == "==" else (f"!{result}", _UNARY)
    name = "same_bytes_"
    p.functions[name] = (
        "static __always_inline bool same_bytes_(const void *a, const void *b, u32 size)\n{\n"
        "\tfor (u32 i = 0; i < size; i++)\n"
        "\t\tif (((const u8 *)a)[i] != ((const u8 *)b)[i])\n\t\t\treturn false;\n\treturn true;\n}\n"
    )
    sides = [p.text(s, _ASSIGN) if isinstance(s.type, Ptr) else f"&{p.place(s)}" for s in (left, right)]
    result = f"same_bytes_({sides[0]}, {sides[1]}, sizeof({p.names.declare(kind)}))"
    return (result, _POSTFIX) if op == "==" else (f"!{result}", _UNARY)


def _update(p: Printer, expr: MapOp, m: str) -> tuple[str, int]:
    """``m[k] += v``: a function of our own, for it takes up to three helper calls."""
    operator = expr.op.removeprefix("update")
    assert isinstance(expr.map.type, MapRef)
    found: MapDecl = expr.map.type.map
    inner = not isinstance(expr.map, MapAddr) or expr.map.pointer is not None
    kind = found.value
    assert isinstance(kind, Int)
    name = f"{found.name or 'map'}_{_NAMES[operator]}_"
    if name not in p.functions:
        p.functions[name] = _update_function(p, name, found, kind, operator, inner)
    first = f"{m}, " if inner else ""
    return f"{name}({first}{p.key(expr.arguments[0])}, {p.converted(expr.arguments[1])})", _POSTFIX


def _update_function(p: Printer, name: str, found: MapDecl, kind: Int, operator: str, inner: bool) -> str:
    value_type = p.names.integer(kind)
    key_type: Type = found.key or VOID
    m = "map" if inner else f"&{p.names.of(found.name)}"
    atomic = operator in _ATOMIC and kind.bits >= 32 and not found.per_cpu
    plain = f"*found = {_applied(p, operator, kind, '*found')}"
    step = f"__sync_fetch_and_{_ATOMIC[operator]}(found, value)" if atomic else plain
    parameters = f"{'void *map, ' if inner else ''}{p.names.declare(Ptr(key_type), 'key')}, {value_type} value"
    head = f"static __always_inline void {name}({parameters})\n{{\n"
    lookup = f"bpf_map_lookup_elem({m}, key)"
    if found.kind in _ARRAYS:
        return f"{head}\t{value_type} *found = {lookup};\n\n\tif (found)\n\t\t{step};\n}}\n"
    first = _applied(p, operator, kind, "0") if operator not in ("+", "|", "^") else "value"
    return (
        f"{head}\t{value_type} *found = {lookup}, first = {first};\n\n"
        f"\tif (!found && bpf_map_update_elem({m}, key, &first, BPF_NOEXIST))\n"
        f"\t\tfound = {lookup}; /* another CPU was faster */\n"
        f"\telse if (!found)\n\t\treturn;\n"
        f"\tif (found)\n\t\t{step};\n}}\n"
    )


def _applied(p: Printer, operator: str, kind: Int, current: str) -> str:
    left, right = Local(current, kind), Local("value", kind)
    p.renamed[id(left)], p.renamed[id(right)] = current, "value"
    text = p.text(Binary(kind, operator, Var(kind, left), Var(kind, right)))
    del p.renamed[id(left)], p.renamed[id(right)]
    return text
