"""The typed tree: what the checker makes of a program, and what a printer prints. It knows nothing of C."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from bpf2py.lang.types import NONE, VOID, Field, Ptr, Struct, Type
from bpf2py.uapi.map_types import MapType
from bpf2py.uapi.sections import SectionDef

__all__ = [
    "OPERATORS", "Assign", "Atomic", "Binary", "Block", "Break", "Call", "Cast", "Closure", "Compare", "Cond", "Const",
    "Continue", "Copy", "CoreQuery", "CoreRead", "Deref", "Each", "Expr", "ExprStmt", "FieldOf", "For", "FuncAddr",
    "Function", "Global", "GlobalVar", "Helper", "If", "Index", "Kfunc", "Local", "Lock", "Logic", "MapAddr", "MapDecl",
    "MapOp", "MapSlot", "Not", "Null", "AddrOf", "Print", "Program", "Return", "SizeOf", "Stmt", "Table", "Str", "StructLit",
    "Unary", "Var", "Walrus", "While",
]  # fmt: skip

OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Mod: "%", ast.LShift: "<<", ast.RShift: ">>",
    ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^",
}  # fmt: skip


@dataclass(eq=False, repr=False, match_args=False)
class Local:
    """A parameter or a variable of a function."""

    name: str
    type: Type
    parameter: bool = False
    node: ast.AST | None = None
    captured: bool = False
    flexible: bool = False  # only literals were assigned so far: its width is open
    loop_range: tuple[int, int] | None = None
    zeroed: bool = False


@dataclass(eq=False, repr=False, match_args=False)
class GlobalVar:
    """A variable of the module. `value` is an int, bytes, or a (nested) list or dict of them; None for zeros."""

    name: str
    type: Type
    value: object = None
    const: bool = False
    section: str = ""
    node: ast.AST | None = None
    extern: str = ""
    contains: str = ""
    tags: tuple[str, ...] = ()  # btf_decl_tag attributes


@dataclass(eq=False, repr=False, match_args=False)
class MapDecl:
    """A map."""

    name: str
    kind: MapType
    kind_name: str
    key: Type | None
    value: Type | None
    max_entries: int | None = None
    flags: int = 0
    pinning: bool = False
    inner: MapDecl | None = None
    values: list[tuple[int, object]] = field(default_factory=list)  # of a MapDecl or a Function by their index
    extra: dict[str, int] = field(default_factory=dict)
    node: ast.AST | None = None
    per_cpu: bool = False
    single: bool = False  # stands for a per-CPU variable
    tags: tuple[str, ...] = ()  # btf_decl_tag attributes


# -- expressions --------------------------------------------------------------------------------------------------


@dataclass(eq=False, repr=False, match_args=False)
class Expr:
    """Base. `const` is the value where it is known, `range` the least and greatest where those are."""

    type: Type
    const: int | None = field(default=None, kw_only=True)
    range: tuple[int, int] | None = field(default=None, kw_only=True)


@dataclass(eq=False, repr=False, match_args=False)
class Const(Expr):
    """An integer; `name` where the kernel's enumerator gives it."""

    value: int = 0
    name: str = ""


@dataclass(eq=False, repr=False, match_args=False)
class Str(Expr):
    """Text, as bytes without the final NUL."""

    data: bytes = b""


@dataclass(eq=False, repr=False, match_args=False)
class Null(Expr):
    """None."""

    type: Type = NONE


@dataclass(eq=False, repr=False, match_args=False)
class Var(Expr):
    """A local variable."""

    local: Local


@dataclass(eq=False, repr=False, match_args=False)
class Global(Expr):
    """A variable of the module."""

    variable: GlobalVar


@dataclass(eq=False, repr=False, match_args=False)
class MapAddr(Expr):
    """A map itself."""

    map: MapDecl
    pointer: Expr | None = None  # of an inner map


@dataclass(eq=False, repr=False, match_args=False)
class FuncAddr(Expr):
    """A function as a value."""

    function: Function


@dataclass(eq=False, repr=False, match_args=False)
class Unary(Expr):
    """``-x`` or ``~x``."""

    op: str
    operand: Expr


@dataclass(eq=False, repr=False, match_args=False)
class Not(Expr):
    """``not x``."""

    operand: Expr


@dataclass(eq=False, repr=False, match_args=False)
class Binary(Expr):
    """Arithmetic in `type`; also a pointer and an integer."""

    op: str
    left: Expr
    right: Expr


@dataclass(eq=False, repr=False, match_args=False)
class Compare(Expr):
    """A comparison of two operands of one type."""

    op: str
    left: Expr
    right: Expr


@dataclass(eq=False, repr=False, match_args=False)
class Logic(Expr):
    """``and``, ``or``: of type bool, or the value of an operand."""

    op: str
    operands: list[Expr]


@dataclass(eq=False, repr=False, match_args=False)
class Cond(Expr):
    """``a if test else b``."""

    test: Expr
    then: Expr
    other: Expr


@dataclass(eq=False, repr=False, match_args=False)
class Cast(Expr):
    """A conversion to `type`."""

    operand: Expr


@dataclass(eq=False, repr=False, match_args=False)
class FieldOf(Expr):
    """A field of a struct, or of the struct that a pointer points to."""

    base: Expr
    field: Field
    name: str
    arrow: bool


@dataclass(eq=False, repr=False, match_args=False)
class Index(Expr):
    """An element of an array or behind a pointer."""

    base: Expr
    index: Expr


@dataclass(eq=False, repr=False, match_args=False)
class Deref(Expr):
    """What a pointer points to."""

    pointer: Expr


@dataclass(eq=False, repr=False, match_args=False)
class AddrOf(Expr):
    """The address of a place in memory."""

    operand: Expr


@dataclass(eq=False, repr=False, match_args=False)
class CoreRead(Expr):
    """A read through pointers nobody vouches for: a root and the members from it; `core`: relocated to the running kernel."""

    root: Expr
    path: list[str | Expr]
    core: bool
    steps: list[Type] = field(default_factory=list)
    user: bool = False


@dataclass(eq=False, repr=False, match_args=False)
class CoreQuery(Expr):
    """A question about the running kernel's types."""

    question: str
    subject: Type | None = None
    path: list[str] = field(default_factory=list)
    name: str = ""


@dataclass(eq=False, repr=False, match_args=False)
class Call(Expr):
    """A call of a function of the program."""

    function: Function
    arguments: list[Expr]


@dataclass(eq=False, repr=False, match_args=False)
class Helper(Expr):
    """A call of a BPF helper."""

    name: str
    arguments: list[Expr]


@dataclass(eq=False, repr=False, match_args=False)
class Kfunc(Expr):
    """A call of a kernel function."""

    name: str
    arguments: list[Expr]
    macro: bool = False


@dataclass(eq=False, repr=False, match_args=False)
class MapOp(Expr):
    """An operation on a map: its name, and what it is given."""

    op: str
    map: Expr
    arguments: list[Expr]


@dataclass(eq=False, repr=False, match_args=False)
class MapSlot(Expr):
    """An element of an array that cannot be missing; `index` is below max_entries."""

    map: MapDecl
    index: Expr


@dataclass(eq=False, repr=False, match_args=False)
class Atomic(Expr):
    """An atomic operation on a place in memory."""

    op: str
    pointer: Expr
    arguments: list[Expr]


@dataclass(eq=False, repr=False, match_args=False)
class StructLit(Expr):
    """A new struct, union or array; what is not named is zero."""

    fields: list[tuple[str, Expr]]


@dataclass(eq=False, repr=False, match_args=False)
class Table(Expr):
    """Constant integers, as an array."""

    values: list[int]


@dataclass(eq=False, repr=False, match_args=False)
class SizeOf(Expr):
    """The size of a type."""

    subject: Type


@dataclass(eq=False, repr=False, match_args=False)
class Walrus(Expr):
    """``(name := value)``."""

    local: Local
    value: Expr


@dataclass(eq=False, repr=False, match_args=False)
class Print(Expr):
    """Formatted output: to the trace pipe, a buffer, a seq_file or a stream."""

    where: str
    format: str
    arguments: list[Expr]
    target: list[Expr] = field(default_factory=list)


# -- statements ---------------------------------------------------------------------------------------------------


@dataclass(eq=False, repr=False, match_args=False)
class Stmt:
    """Base; `line` is where it begins."""

    line: int


@dataclass(eq=False, repr=False, match_args=False)
class Block:
    """Statements in order."""

    statements: list[Stmt]


@dataclass(eq=False, repr=False, match_args=False)
class Assign(Stmt):
    """``target op= value``; `op` is empty for a plain assignment."""

    target: Expr
    value: Expr
    op: str = ""


@dataclass(eq=False, repr=False, match_args=False)
class Copy(Stmt):
    """Text or an array into an array; the rest is filled with zeros."""

    target: Expr
    value: Expr


@dataclass(eq=False, repr=False, match_args=False)
class ExprStmt(Stmt):
    """An expression for what it does."""

    value: Expr


@dataclass(eq=False, repr=False, match_args=False)
class If(Stmt):
    """A choice."""

    test: Expr
    then: Block
    other: Block


@dataclass(eq=False, repr=False, match_args=False)
class While(Stmt):
    """A loop; `may_goto`: with the verifier's own bound."""

    test: Expr
    body: Block


@dataclass(eq=False, repr=False, match_args=False)
class For(Stmt):
    """``for x in range(start, stop, step)``; `bounded`: the verifier can walk through it."""

    local: Local
    start: Expr
    stop: Expr
    step: int
    body: Block
    bounded: bool
    own_counter: bool = False
    limit: int | None = None


@dataclass(eq=False, repr=False, match_args=False)
class Each(Stmt):
    """The kernel's iterator of a kind, or the elements of an array."""

    local: Local
    kind: str
    arguments: list[Expr]
    body: Block


@dataclass(eq=False, repr=False, match_args=False)
class Closure(Stmt):
    """A body that the kernel calls for each element: of a map (kind "map"), or of a count (bpf_loop, kind "count")."""

    kind: str
    subject: Expr
    locals: list[Local | None]
    body: Block
    captured: list[Local] = field(default_factory=list)
    returns: Type = VOID
    index: int = 0
    own: list[Local] = field(default_factory=list)
    has_return: bool = False
    start: Expr | None = None  # of a count, whose end is the subject
    step: int = 1


@dataclass(eq=False, repr=False, match_args=False)
class Lock(Stmt):
    """A spin lock (or another pair of calls) held around a body."""

    enter: Expr
    leave: Expr
    body: Block


@dataclass(eq=False, repr=False, match_args=False)
class Return(Stmt):
    """The end of a function."""

    value: Expr | None


@dataclass(eq=False, repr=False, match_args=False)
class Break(Stmt):
    """Leave the loop."""


@dataclass(eq=False, repr=False, match_args=False)
class Continue(Stmt):
    """The next round."""


# -- the whole ----------------------------------------------------------------------------------------------------


@dataclass(eq=False, repr=False, match_args=False)
class Function:
    """A function: `kind` is ``"inline"``, ``"subprogram"``, ``"global"``, ``"program"``, or ``"c"`` for a header's."""

    name: str
    kind: str
    node: ast.FunctionDef
    parameters: list[Local] = field(default_factory=list)
    returns: Type = VOID
    locals: list[Local] = field(default_factory=list)
    body: Block = field(default_factory=lambda: Block([]))
    section: str = ""
    definition: SectionDef | None = None
    macro: str = ""
    context: Ptr | None = None
    callback: bool = False
    calls: set[str] = field(default_factory=set)
    closures: list[Closure] = field(default_factory=list)
    gives: tuple[str, str] | None = None  # what its result must be given back by (see references)
    direct: set[str] = field(default_factory=set)  # of `calls`: those it calls itself, not by a timer or the like
    stack: int = 0  # bytes of its structs and arrays
    helper: str = ""  # a helper that it calls
    passes: int | None = None  # which parameter its result is
    takes: set[str] = field(default_factory=set)  # parameters that it gives back
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False, repr=False, match_args=False)
class Program:
    """A whole module."""

    structs: list[Struct] = field(default_factory=list)
    globals: list[GlobalVar] = field(default_factory=list)
    maps: list[MapDecl] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)
    license: str = "GPL"
    enums: dict[str, dict[str, int]] = field(default_factory=dict)
    kernel_names: set[str] = field(default_factory=set)  # types that must be known whole
    version: str = ""
    headers: set[str] = field(default_factory=set)  # of C functions, as #include has them
