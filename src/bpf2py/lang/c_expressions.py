"""Expressions as C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bpf2py.lang.c_macros import context, context_array
from bpf2py.lang.c_pieces import Functions, division_function, is_pure, shift_function, text_literal
from bpf2py.lang.c_places import is_context
from bpf2py.lang.c_types import CNames, number
from bpf2py.lang.names import plain
from bpf2py.lang.scope import is_place, range_of
from bpf2py.lang.tree import (
    AddrOf,
    Atomic,
    Binary,
    Call,
    Cast,
    Compare,
    Cond,
    Const,
    CoreQuery,
    CoreRead,
    Deref,
    Expr,
    FieldOf,
    FuncAddr,
    Global,
    Helper,
    Index,
    Kfunc,
    Local,
    Logic,
    MapAddr,
    MapOp,
    MapSlot,
    Not,
    Null,
    Print,
    SizeOf,
    Str,
    StructLit,
    Table,
    Unary,
    Var,
    Walrus,
)  # fmt: skip
from bpf2py.lang.types import BOOL, CHAR, LITERAL, VOID, Array, Int, MapRef, Opt, Ptr, Struct, Type

__all__ = ["CExpressions"]

# Precedences of C, the tightest first.
POSTFIX, UNARY, MUL, ADD, SHIFT, LESS, EQUAL, AND, XOR, OR, ANDAND, OROR, CHOICE, ASSIGN = range(15, 1, -1)
_BINARY = {"+": ADD, "-": ADD, "*": MUL, "//": MUL, "%": MUL, "<<": SHIFT, ">>": SHIFT, "&": AND, "^": XOR, "|": OR}


class CExpressions:
    """Prints expressions; `before` collects statements that must stand before the one that is being printed."""

    def __init__(self, names: CNames) -> None:
        self.names = names
        self.before: list[str] = []
        self.renamed: dict[int, str] = {}  # what locals are called where they are not called by their name
        self.counter = 0
        self.headers: set[str] = set()
        self.contexts: dict[tuple[str, str], int] = {}  # how often a program mentions each field of its context
        self.functions = Functions()  # functions of our own that are used, by name
        self.update_functions: Callable[[MapOp, str], str] = lambda op, name: ""

    # -- small things ------------------------------------------------------------------------------------------------

    def fresh(self, stem: str) -> str:
        """A name that is not used yet."""
        self.counter += 1
        return f"{stem}{self.counter}_"

    def steady(self, local: Local) -> bool:
        """Whether a local keeps its first value."""
        return True

    def local(self, local: Local) -> str:
        """A local's name."""
        return self.renamed.get(id(local)) or self.names.inner(local.name)

    def text(self, expr: Expr, above: int = 0) -> str:
        """An expression, in brackets where what is around it binds tighter than `above`."""
        text, precedence = self._print(expr)
        return f"({text})" if precedence < above else text

    def typed(self, expr: Expr) -> str:
        """An operand that brings its type along."""
        if expr.const is not None and isinstance(expr, Const | Binary | Unary | Cast) and isinstance(expr.type, Int):
            return self._constant(expr, True)[0]
        if isinstance(expr, Cond):
            return f"({self.names.declare(expr.type)}){self.text(expr, UNARY)}"
        return self.text(expr, UNARY)

    def converted(self, expr: Expr) -> str:
        """An expression where C converts it by itself: what is assigned, passed, returned."""
        while (
            isinstance(expr, Cast)
            and isinstance(expr.type, Int)
            and (isinstance(expr.operand.type, Int) or expr.operand.type == BOOL)
        ):
            inner = expr.operand.type
            if isinstance(inner, Int) and inner.bits > expr.type.bits and isinstance(expr.operand, Cast):
                break
            if expr.const is not None:
                break
            expr = expr.operand
            break
        return self.text(expr, ASSIGN)

    def _constant(self, expr: Expr, typed: bool = False) -> tuple[str, int]:
        name = getattr(expr, "name", "")
        if isinstance(expr, Const) and name and not typed:
            return name, POSTFIX
        assert expr.const is not None
        text = number(expr.const, expr.type, typed)
        if isinstance(expr.type, Int) and typed and expr.type.bits < 32:
            return f"({self.names.integer(expr.type)}){text}", UNARY
        return text, UNARY if text.startswith("-") else POSTFIX

    def _print(self, expr: Expr) -> tuple[str, int]:
        if (
            expr.const is not None
            and isinstance(expr, Const | Binary | Unary | Cast | Compare | Logic | Not)
            and is_pure(expr)
        ):
            if isinstance(expr.type, Int) or expr.type in (BOOL, LITERAL):
                return self._constant(expr)
        result: tuple[str, int] = _PRINTERS[type(expr)](self, expr)
        return result

    # -- kinds -------------------------------------------------------------------------------------------------------

    def _str(self, expr: Str) -> tuple[str, int]:
        if isinstance(expr.type, Array):
            return f"({self.names.declare(expr.type)}){{{text_literal(expr.data)}}}", UNARY
        return text_literal(expr.data), POSTFIX

    def _null(self, expr: Null) -> tuple[str, int]:
        return "NULL", POSTFIX

    def _var(self, expr: Var) -> tuple[str, int]:
        return self.local(expr.local), POSTFIX

    def _global(self, expr: Global) -> tuple[str, int]:
        return self.names.of(expr.variable.name), POSTFIX

    def _map(self, expr: MapAddr) -> tuple[str, int]:
        if expr.pointer is not None:
            return self.text(expr.pointer, POSTFIX), POSTFIX
        return f"&{self.names.of(expr.map.name)}", UNARY

    def _function(self, expr: FuncAddr) -> tuple[str, int]:
        return self.names.of(expr.function.name), POSTFIX

    def _unary(self, expr: Unary) -> tuple[str, int]:
        text = f"{expr.op}{self.typed(expr.operand)}" if expr.op != "-" else f"-{self.text(expr.operand, POSTFIX)}"
        if isinstance(expr.type, Int) and expr.type.bits < 32:
            return f"({self.names.integer(expr.type)})({text})", UNARY
        return text, UNARY

    def _not(self, expr: Not) -> tuple[str, int]:
        return f"!{self.text(expr.operand, UNARY)}", UNARY

    def _binary(self, expr: Binary) -> tuple[str, int]:
        op, kind = expr.op, expr.type
        if isinstance(kind, Ptr) or isinstance(expr.left.type, Ptr):
            return f"{self.text(expr.left, ADD)} {op} {self.text(expr.right, MUL)}", ADD
        if kind == BOOL:
            return f"{self.text(expr.left, _BINARY[op])} {op} {self.text(expr.right, _BINARY[op] + 1)}", _BINARY[op]
        if not isinstance(kind, Int):
            kind = Int(64, True)
        if op in ("//", "%"):
            return self._division(expr, kind)
        if op in ("<<", ">>"):
            return self._shift(expr, kind)
        level = _BINARY[op]
        left, right = self._operands(expr, kind, level)
        text = f"{left} {op} {right}"
        if kind.bits < 32:
            return f"({self.names.integer(kind)})({text})", UNARY
        return text, level

    def _operands(self, expr: Binary, kind: Int, level: int) -> tuple[str, str]:
        """Both operands, so that C computes in `kind`."""
        sides = (expr.left, expr.right)
        firm = [self._firm(each, kind) for each in sides]
        result = []
        for position, each in enumerate(sides):
            other = firm[1 - position]
            tight = level + (1 if position or level in (AND, XOR, OR) else 0)
            if level in (AND, XOR, OR):
                tight = max(tight, UNARY if isinstance(each, Binary) and each.op != expr.op else tight)
            if other and each.const is not None and isinstance(each, Const):
                result.append(self.text(each, tight))
            elif other and isinstance(each, Cast) and self._widens(each, kind):
                result.append(self.text(each.operand, tight))
            elif firm[position] or kind.bits < 32:
                result.append(self.text(each, tight))
            else:
                result.append(self.typed(each))
        return result[0], result[1]

    @staticmethod
    def _widens(expr: Cast, kind: Int) -> bool:
        inner = expr.operand.type
        return (
            expr.const is None
            and isinstance(inner, Int)
            and not inner.signed
            and inner.bits < kind.bits
            and inner.bits >= 32
        )

    def _firm(self, expr: Expr, kind: Int) -> bool:
        """Whether an operand's C type is `kind` as it is printed."""
        if expr.const is not None or isinstance(expr, Cond | Logic | Compare | Not):
            return False
        if isinstance(expr, Cast) and self._widens(expr, kind):
            return False
        return isinstance(expr.type, Int) and expr.type.bits >= 32

    def _shift(self, expr: Binary, kind: Int) -> tuple[str, int]:
        limits = range_of(expr.right)
        name = self.names.integer(kind)
        if limits is None or limits[0] < 0 or limits[1] >= kind.bits:
            function = f"{'shl' if expr.op == '<<' else 'shr'}_{name}_"
            self.functions[function] = shift_function(function, name, kind, expr.op)
            return f"{function}({self.text(expr.left, ASSIGN)}, {self.text(expr.right, ASSIGN)})", POSTFIX
        left = (
            self.typed(expr.left)
            if expr.left.const is not None or isinstance(expr.left, Cond | Compare | Logic)
            else self.text(expr.left, SHIFT)
        )
        if isinstance(expr.left, Binary) and expr.left.const is None and expr.left.op not in ("<<", ">>"):
            left = self.text(expr.left, UNARY)
        text = f"{left} {expr.op} {self.text(expr.right, ADD + 1)}"
        return (f"({name})({text})", UNARY) if kind.bits < 32 else (text, SHIFT)

    def _division(self, expr: Binary, kind: Int) -> tuple[str, int]:
        name = self.names.integer(kind)
        divisor = range_of(expr.right)
        op = "/" if expr.op == "//" else "%"
        if not kind.signed and divisor is not None and divisor[0] > 0:
            left, right = self._operands(expr, kind, MUL)
            text = f"{left} {op} {right}"
            return (f"({name})({text})", UNARY) if kind.bits < 32 else (text, MUL)
        function = f"{'floor_' if kind.signed else ''}{'div' if op == '/' else 'mod'}_{name}_"
        self.functions[function] = division_function(function, name, kind, op)
        return f"{function}({self.text(expr.left, ASSIGN)}, {self.text(expr.right, ASSIGN)})", POSTFIX

    def _compare(self, expr: Compare) -> tuple[str, int]:
        level = EQUAL if expr.op in ("==", "!=") else LESS
        left, right = expr.left, expr.right
        if isinstance(right, Null) or isinstance(left, Null):
            subject = left if isinstance(right, Null) else right
            text = self.text(subject, UNARY)
            return (f"!{text}", UNARY) if expr.op == "==" else (f"{text} != NULL", EQUAL)
        if isinstance(left.type, Int) and isinstance(right.type, Int):
            sides = Binary(left.type, "+", left, right)
            a, b = (
                self._operands(sides, left.type, SHIFT)
                if left.type.bits >= 32
                else (self.text(left, SHIFT), self.text(right, SHIFT))
            )
            return f"{a} {expr.op} {b}", level
        if isinstance(left.type, Ptr | Opt) and isinstance(right.type, Ptr | Opt):
            return f"(void *){self.text(left, UNARY)} {expr.op} (void *){self.text(right, UNARY)}", level
        return f"{self.text(left, SHIFT)} {expr.op} {self.text(right, SHIFT)}", level

    def _logic(self, expr: Logic) -> tuple[str, int]:
        if expr.type == BOOL:
            level, op = (ANDAND, " && ") if expr.op == "and" else (OROR, " || ")
            return op.join(self.text(each, level + 1) for each in expr.operands), level
        result = self.text(expr.operands[-1], CHOICE + 1)
        declared = self.names.declare(expr.type, "{}")
        for each in reversed(expr.operands[:-1]):
            name = self.fresh("either")
            first, second = (name, result) if expr.op == "or" else (result, name)
            result = f"({{ {declared.format(name)} = {self.converted(each)}; {name} ? {first} : {second}; }})"
        return result, POSTFIX

    def _cond(self, expr: Cond) -> tuple[str, int]:
        then, other = (self._branch(each, expr.type) for each in (expr.then, expr.other))
        return f"{self.text(expr.test, CHOICE + 1)} ? {then} : {other}", CHOICE

    def _branch(self, expr: Expr, kind: Type) -> str:
        if isinstance(kind, Int) and kind.bits >= 32 and expr.const is not None and not getattr(expr, "name", ""):
            return number(expr.const, kind, True)
        return self.text(expr, CHOICE)

    def _cast(self, expr: Cast) -> tuple[str, int]:
        inner = expr.operand
        if isinstance(expr.type, Int) and isinstance(inner.type, Ptr | Opt | MapRef) and expr.type.bits < 64:
            return f"({self.names.integer(expr.type)})(u64){self.text(inner, UNARY)}", UNARY
        if isinstance(expr.type, Ptr) and (isinstance(inner.type, Int) or inner.type == LITERAL):
            return f"({self.names.declare(expr.type)})(unsigned long){self.text(inner, UNARY)}", UNARY
        exact = isinstance(expr.type, Ptr)
        text = self.typed(inner) if inner.const is None else self.text(inner, UNARY)
        return f"({self.names.declare(expr.type, exact=exact)}){text}", UNARY

    def _field(self, expr: FieldOf) -> tuple[str, int]:
        owner = expr.base.type.target if isinstance(expr.base.type, Ptr) else expr.base.type
        assert isinstance(owner, Struct)
        if expr.field.bits and owner.kernel and not plain(owner) and expr.arrow:
            self.headers.add("bpf/bpf_core_read.h")
            return f"BPF_CORE_READ_BITFIELD({self.text(expr.base, POSTFIX)}, {expr.name})", POSTFIX
        name = expr.name if owner.kernel else self.names.inner(expr.name)
        if self._slot(expr):
            return self._from_slot(expr)
        base = expr.base
        if expr.arrow and self.contexts.get((owner.name, expr.name), 0) > 1 and isinstance(base, Var):
            return f"{context(self, base)}->{name}", POSTFIX
        if isinstance(base, Deref) and not expr.arrow:
            return f"{self.text(base.pointer, POSTFIX)}->{name}", POSTFIX
        if isinstance(base, AddrOf) and expr.arrow:
            return f"{self.text(base.operand, POSTFIX)}.{name}", POSTFIX
        return f"{self.text(base, POSTFIX)}{'->' if expr.arrow else '.'}{name}", POSTFIX

    def _index(self, expr: Index) -> tuple[str, int]:
        if self._slot(expr):
            return self._from_slot(expr)
        text = self._element(expr)
        if expr.type == CHAR and isinstance(expr.type, Int) and expr.type.name == "char":
            return f"(u8){text}", UNARY
        return text, POSTFIX

    def place(self, expr: Expr) -> str:
        """A place that is assigned to, or whose address is taken."""
        return self._element(expr) if isinstance(expr, Index) else self.text(expr, POSTFIX)

    def _element(self, expr: Index) -> str:
        base = expr.base
        if expr.index.const is None and isinstance(base, FieldOf) and is_context(base):
            return f"{context_array(self, base)}[{self.text(expr.index)}]"
        return f"{self.text(base, POSTFIX)}[{self.text(expr.index)}]"

    def _deref(self, expr: Deref) -> tuple[str, int]:
        if isinstance(expr.pointer, AddrOf):
            return self.place(expr.pointer.operand), POSTFIX
        return f"*{self.text(expr.pointer, UNARY)}", UNARY

    def _address(self, expr: AddrOf) -> tuple[str, int]:
        inner = expr.operand
        if isinstance(inner, CoreRead):
            return self.core_address(inner, expr.type)
        if isinstance(inner, Deref):
            pointer = inner.pointer
            if isinstance(inner.type, Array) and isinstance(expr.type, Ptr) and expr.type.target == inner.type.element:
                return f"*{self.text(pointer, UNARY)}", UNARY
            return self._print(pointer)
        if isinstance(inner, StructLit):
            return f"&{self.variable(inner)}", UNARY
        if not is_place(inner):
            return f"&({self.names.declare(inner.type)}){{{self.converted(inner)}}}", UNARY
        if isinstance(inner.type, Array) and isinstance(expr.type, Ptr) and expr.type.target != inner.type:
            text = self.place(inner)
            if expr.type.target in (inner.type.element, VOID):
                return text, POSTFIX
            return f"({self.names.declare(expr.type)}){text}", UNARY
        return f"&{self.place(inner)}", UNARY

    # -- the kernel's memory -----------------------------------------------------------------------------------------

    def _path(self, expr: CoreRead) -> list[str]:
        return [str(each) for each in expr.path]

    def _core_read(self, expr: CoreRead) -> tuple[str, int]:
        self.headers.add("bpf/bpf_core_read.h")
        root, path = self.text(expr.root, POSTFIX), self._path(expr)
        if isinstance(expr.type, Array | Struct):
            return self.core_address(expr, Ptr(expr.type))
        if not path:
            name = self.fresh("value")
            declared = self.names.declare(expr.type, name, True)
            return (
                f"({{ {declared}; bpf_probe_read_kernel(&{name}, sizeof({name}), {self.text(expr.root, ASSIGN)}); {name}; }})",
                POSTFIX,
            )
        owner = expr.steps[-1] if expr.steps else VOID
        field = owner.fields.get(path[-1].split(".")[-1].split("[")[0]) if isinstance(owner, Struct) else None
        if field is not None and field.bits and expr.core:
            if len(path) > 1:
                root = f"BPF_CORE_READ({', '.join([root, *path[:-1]])})"
            return f"BPF_CORE_READ_BITFIELD_PROBED({root}, {path[-1]})", POSTFIX
        macro = "BPF_CORE_READ" if expr.core else "BPF_PROBE_READ"
        text = f"{macro}({', '.join([root, *path])})"
        if expr.type == CHAR and isinstance(expr.type, Int) and expr.type.name == "char":
            return f"(u8){text}", UNARY
        return text, POSTFIX

    def core_address(self, expr: CoreRead, kind: Type) -> tuple[str, int]:
        """Where an array or struct lies in the kernel's memory."""
        self.headers.add("bpf/bpf_core_read.h")
        root, path = self.text(expr.root, POSTFIX), self._path(expr)
        if not path:
            text = self.text(expr.root, UNARY)
        else:
            if len(path) > 1:
                root = f"{'BPF_CORE_READ' if expr.core else 'BPF_PROBE_READ'}({', '.join([root, *path[:-1]])})"
            text = f"&{root}->{path[-1]}"
        if isinstance(kind, Ptr) and isinstance(expr.type, Array) and kind.target != expr.type:
            return f"({self.names.declare(kind)}){text if not path else f'({text})'}", UNARY
        return text, UNARY

    def _query(self, expr: CoreQuery) -> tuple[str, int]:
        self.headers.add("bpf/bpf_core_read.h")
        owner = self.names.declare(expr.subject) if expr.subject is not None else ""
        if expr.question == "never":
            return "false", POSTFIX
        if expr.question == "ksym":
            return f"bpf_ksym_exists({expr.name})", POSTFIX
        if expr.question == "enum_value":
            named = expr.subject.name if isinstance(expr.subject, Int) else expr.name
            return f"bpf_core_enum_value({named}, {expr.name})", POSTFIX
        if expr.question in ("type_exists", "type_size"):
            if isinstance(expr.subject, Int):
                owner = expr.subject.name or owner
            return f"bpf_core_{expr.question}({owner})", POSTFIX
        macro = {
            "exists": "bpf_core_field_exists",
            "field_size": "bpf_core_field_size",
            "field_offset": "bpf_core_field_offset",
        }
        return f"{macro[expr.question]}({owner}, {'.'.join(expr.path)})", POSTFIX

    # -- calls -------------------------------------------------------------------------------------------------------

    def arguments(self, given: list[Expr]) -> str:
        """Arguments of a call."""
        return ", ".join(self.converted(each) for each in given)

    def _call(self, expr: Call) -> tuple[str, int]:
        given = [
            f"({self.names.declare(p.type)}){self.text(a, UNARY)}" if isinstance(a, Str) else self.converted(a)
            for p, a in zip(expr.function.parameters, expr.arguments, strict=True)
        ]
        return f"{self.names.of(expr.function.name)}({', '.join(given)})", POSTFIX

    def _helper(self, expr: Helper) -> tuple[str, int]:
        text = f"bpf_{expr.name}({self.arguments(expr.arguments)})"
        return text, POSTFIX

    def _kfunc(self, expr: Kfunc) -> tuple[str, int]:
        from bpf2py.lang.c_macros import macro

        found = macro(self, expr) if expr.macro else None
        if found is not None:
            return found
        given = [f"(void *){self.text(a)}" if isinstance(a, FuncAddr) else self.converted(a) for a in expr.arguments]
        return f"{expr.name}({', '.join(given)})", POSTFIX

    def _atomic(self, expr: Atomic) -> tuple[str, int]:
        pointer = self.text(expr.pointer, ASSIGN)
        given = [pointer, *(self.converted(each) for each in expr.arguments)]
        function = {"xchg": "__sync_lock_test_and_set", "cmpxchg": "__sync_val_compare_and_swap"}.get(
            expr.op, f"__sync_fetch_and_{expr.op}"
        )
        return f"{function}({', '.join(given)})", POSTFIX

    def _walrus(self, expr: Walrus) -> tuple[str, int]:
        return f"({self.local(expr.local)} = {self.converted(expr.value)})", POSTFIX

    def _table(self, expr: Table) -> tuple[str, int]:
        name = self.fresh("values")
        assert isinstance(expr.type, Array)
        values = ", ".join(number(each, expr.type.element) for each in expr.values)
        self.before.append(f"static const {self.names.declare(expr.type, name)} = {{ {values} }};")
        return name, POSTFIX

    def _size(self, expr: SizeOf) -> tuple[str, int]:
        return f"sizeof({self.names.declare(expr.subject)})", POSTFIX

    def _printed(self, expr: Print) -> tuple[str, int]:
        form = text_literal(expr.format.encode()).replace("\\?", "?")
        given = [form, *(self.converted(each) for each in expr.arguments)]
        if expr.where == "print":
            return f"bpf_printk({', '.join(given)})", POSTFIX
        macro = {"snprintf": "BPF_SNPRINTF", "seq": "BPF_SEQ_PRINTF", "stream": "bpf_stream_printk"}[expr.where]
        target = [self.text(each, ASSIGN) for each in expr.target]
        if not expr.arguments and expr.where != "stream":
            given.append("0")
        return f"{macro}({', '.join([*target, *given])})", POSTFIX

    # -- memory ------------------------------------------------------------------------------------------------------

    def _struct(self, expr: StructLit) -> tuple[str, int]:
        if isinstance(expr.type, Array) or not expr.fields:
            return f"({self.names.declare(expr.type)}){{}}", UNARY
        return self.variable(expr), POSTFIX

    def variable(self, expr: StructLit) -> str:
        """A new struct as a variable before this statement: with its padding cleared, as keys of maps must be."""
        name = self.fresh("new")
        self.before += [f"{self.names.declare(expr.type, name)};", *self.filled(name, expr)]
        return name

    def filled(self, place: str, expr: StructLit) -> list[str]:
        """Statements that make a place what a struct literal says."""
        lines = [f"__builtin_memset(&{place}, 0, sizeof({place}));"]
        for name, value in expr.fields:
            owner = expr.type
            assert isinstance(owner, Struct)
            target = f"{place}.{name if owner.kernel else self.names.inner(name)}"
            if isinstance(value, StructLit):
                lines += self.filled(target, value)[0 if isinstance(value.type, Array) else 1 :] if value.fields else []
            elif isinstance(owner.fields[name].type, Array):
                lines += self.copied(target, owner.fields[name].type, value)
            else:
                lines.append(f"{target} = {self.converted(value)};")
        return lines

    def copied(self, target: str, kind: Type, value: Expr, cleared: bool = True) -> list[str]:
        """Statements that copy text or memory into an array or struct."""
        if isinstance(value, Str):
            return [
                f"__builtin_memcpy(&{target}, ({self.names.declare(kind)}){{{text_literal(value.data)}}}, sizeof({target}));"
            ]
        if isinstance(value, StructLit):
            return self.filled(target, value)
        if isinstance(value, CoreRead):
            self.headers.add("bpf/bpf_core_read.h")
            source = self.core_address(value, Ptr(value.type))[0]
            call = "bpf_core_read" if value.core else "bpf_probe_read_kernel"
            return [f"{call}(&{target}, sizeof({target}), {source});"]
        own = value.type.target if isinstance(value.type, Ptr) else value.type
        source = self.text(value, UNARY) if isinstance(value.type, Ptr) else f"&{self.place(value)}"
        lines = [] if own == kind else [f"__builtin_memset(&{target}, 0, sizeof({target}));"]
        return [*lines, f"__builtin_memcpy(&{target}, {source}, sizeof({self.names.declare(own)}));"]

    def _slot(self, expr: Expr) -> MapSlot | None:
        """The array element that a path of fields and indexes begins at."""
        while isinstance(expr, FieldOf | Index):
            if (isinstance(expr, FieldOf) and expr.arrow) or isinstance(expr.base.type, Ptr):
                return None
            expr = expr.base
        return expr if isinstance(expr, MapSlot) else None

    def in_slot(self, expr: Expr, name: str) -> str:
        """The same path from a pointer called `name`."""
        if isinstance(expr, MapSlot):
            return f"(*{name})"
        if isinstance(expr, FieldOf):
            base = f"{name}->" if isinstance(expr.base, MapSlot) else f"{self.in_slot(expr.base, name)}."
            return f"{base}{self.names.inner(expr.name)}"
        assert isinstance(expr, Index)
        return f"{self.in_slot(expr.base, name)}[{self.text(expr.index)}]"

    def lookup(self, slot: MapSlot) -> str:
        """The call that finds an array element."""
        return f"bpf_map_lookup_elem(&{self.names.of(slot.map.name)}, &(u32){{{self.converted(slot.index)}}})"

    def _from_slot(self, expr: Expr) -> tuple[str, int]:
        slot = self._slot(expr)
        assert slot is not None
        name = self.fresh("slot")
        declared = self.names.declare(Ptr(slot.map.value or VOID), name)
        path = self.in_slot(expr, name)
        path = f"*{name}" if path == f"(*{name})" else path
        return f"({{ {declared} = {self.lookup(slot)}; {name} ? {path} : 0; }})", POSTFIX

    def key(self, value: Expr) -> str:
        """The address of a key or value."""
        if isinstance(value, StructLit):
            return f"&{self.variable(value)}"
        if isinstance(value, Str):
            return f"&{self.text(value, UNARY)}"
        if isinstance(value, Deref):
            return self.text(value.pointer, ASSIGN)
        exact = (
            isinstance(value, Var | Global | FieldOf | Index)
            and not self._slot(value)
            and not isinstance(value.type, Ptr | Opt)
        )
        if (
            exact
            and not (isinstance(value, FieldOf) and value.field.bits)
            and not isinstance(value, Global)
            and value.const is None
            and not (isinstance(value, Var) and isinstance(value.type, Int) and not self.steady(value.local))
        ):  # of a number that changes, a copy: the verifier would lose sight of what lies in memory, and so of a loop's end
            if not (isinstance(value, FieldOf) and _is_packet(value)):
                return f"&{self.place(value)}"
        if isinstance(value.type, Struct | Array):
            return f"&{self.place(value)}"
        return f"&({self.names.declare(value.type)}){{{self.converted(value)}}}"

    def _map_op(self, expr: MapOp) -> tuple[str, int]:
        from bpf2py.lang.c_maps import map_operation

        return map_operation(self, expr)


def _is_packet(value: FieldOf) -> bool:
    """A field of a kernel's struct: it may lie where helpers do not read keys."""
    owner = value.base.type.target if isinstance(value.base.type, Ptr) else value.base.type
    return isinstance(owner, Struct) and owner.kernel


_PRINTERS: dict[type[Expr], Any] = {
    Const: CExpressions._constant, Str: CExpressions._str, Null: CExpressions._null, Var: CExpressions._var,
    Global: CExpressions._global, MapAddr: CExpressions._map, FuncAddr: CExpressions._function, Unary: CExpressions._unary,
    Not: CExpressions._not, Binary: CExpressions._binary, Compare: CExpressions._compare, Logic: CExpressions._logic,
    Cond: CExpressions._cond, Cast: CExpressions._cast, FieldOf: CExpressions._field, Index: CExpressions._index,
    Deref: CExpressions._deref, AddrOf: CExpressions._address, CoreRead: CExpressions._core_read,
    CoreQuery: CExpressions._query, Call: CExpressions._call, Helper: CExpressions._helper, Kfunc: CExpressions._kfunc,
    MapOp: CExpressions._map_op, MapSlot: CExpressions._from_slot, Atomic: CExpressions._atomic,
    StructLit: CExpressions._struct, SizeOf: CExpressions._size, Table: CExpressions._table,
    Walrus: CExpressions._walrus, Print: CExpressions._printed,
}  # fmt: skip
