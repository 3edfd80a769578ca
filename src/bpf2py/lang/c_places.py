"""Where the locals of a function are used, so that each is declared where a person would declare it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from bpf2py.lang.hooks_table import CONTEXT_CLASSES
from bpf2py.lang.tree import Assign, Block, Closure, Each, Expr, FieldOf, For, Function, Local, Stmt, Var, While
from bpf2py.lang.types import Ptr, Struct

__all__ = ["Places", "context_uses", "is_context", "statements", "within"]

_CONTEXTS = (*(name for name in CONTEXT_CLASSES.values() if name), "trace_event_raw_", "bpf_iter__")


_NAMES: dict[type, tuple[str, ...]] = {}


def _fields(node: Stmt | Expr) -> tuple[str, ...]:
    """The names of a node's fields."""
    kind = type(node)
    if kind not in _NAMES:
        _NAMES[kind] = tuple(field.name for field in dataclasses.fields(node))
    return _NAMES[kind]


def within(inner: Closure, outer: Closure) -> bool:
    """Whether one body stands in another."""
    return any(each is inner for each in statements(outer.body))


def statements(block: Block) -> Iterator[Stmt]:
    """All statements of a block, those of inner blocks among them."""
    for each in block.statements:
        yield each
        for child in blocks(each):
            yield from statements(child)


def blocks(node: Stmt) -> list[Block]:
    """The blocks of a statement."""
    return [value for field in _fields(node) if isinstance(value := getattr(node, field), Block)]


def is_context(field: FieldOf) -> bool:
    """Whether a field is one of a context that the UAPI lays out, the same on every kernel."""
    owner = field.base.type.target if isinstance(field.base.type, Ptr) else None
    own = field.arrow and isinstance(field.base, Var) and field.base.local.parameter
    return own and isinstance(owner, Struct) and owner.kernel and owner.name in CONTEXT_CLASSES.values()


def context_uses(functions: list[Function]) -> dict[tuple[str, str], int]:
    """How often a program mentions each field of its contexts; in loops and in functions, which may be inlined, that is twice."""
    found: dict[tuple[str, str], int] = {}

    def expression(value: object, weight: int) -> None:
        if isinstance(value, list | tuple):
            for each in value:
                expression(each, weight)
        elif isinstance(value, Expr):
            if isinstance(value, FieldOf) and value.arrow and isinstance(value.base, Var):
                owner = value.base.type.target if isinstance(value.base.type, Ptr) else None
                if value.base.local.parameter and isinstance(owner, Struct) and owner.name.startswith(_CONTEXTS):
                    key = owner.name, value.name
                    found[key] = found.get(key, 0) + weight
            for field in _fields(value):
                inner = getattr(value, field)
                if isinstance(inner, Expr | list | tuple) and field != "range":
                    expression(inner, weight)

    def block(node: Block, weight: int) -> None:
        for each in node.statements:
            own = 2 if isinstance(each, For | While | Each | Closure) else weight
            for field in _fields(each):
                value = getattr(each, field)
                if isinstance(value, Block):
                    block(value, own)
                else:
                    expression(value, own)

    for function in functions:
        block(function.body, 1 if function.kind == "program" else 2)
    return found


class Places:
    """Where each local is used, so that it is declared where a person would declare it."""

    def __init__(self, body: Block) -> None:
        self.uses: dict[int, list[tuple[tuple[int, ...], Stmt | None]]] = {}
        self.counters: set[int] = set()
        self.loops: set[int] = set()  # locals that loops give their values
        self.assigned: dict[int, int] = {}
        self.locals: dict[int, Local] = {}
        self._inline: dict[int, Stmt] = {}
        self._walk(body, (id(body),))
        self._decide()

    def _walk(self, block: Block, path: tuple[int, ...]) -> None:
        for node in block.statements:
            own = path
            for field in _fields(node):
                value = getattr(node, field)
                if isinstance(value, Block):
                    continue
                if field == "target" and isinstance(value, Var) and isinstance(node, Assign):
                    self.assigned[id(value.local)] = self.assigned.get(id(value.local), 0) + 1
                if isinstance(node, For | Each) and field == "local":
                    self.loops.add(id(node.local))
                if isinstance(node, For) and field == "local":
                    self._use(node.local, (*own, id(node)), node)
                    continue
                self._expressions(value, own, node)
            for inner in blocks(node):
                self._walk(inner, (*own, id(node), id(inner)))

    def _use(self, local: Local, path: tuple[int, ...], node: Stmt) -> None:
        self.locals[id(local)] = local
        self.uses.setdefault(id(local), []).append((path, node))

    def _expressions(self, value: object, path: tuple[int, ...], node: Stmt) -> None:
        if isinstance(value, Local):
            self._use(value, path, node)
        elif isinstance(value, list | tuple):
            for each in value:
                self._expressions(each, path, node)
        elif isinstance(value, Expr):
            for field in _fields(value):
                inner = getattr(value, field)
                if isinstance(inner, Expr | Local | list | tuple) and field != "range":
                    self._expressions(inner, path, node)

    def _decide(self) -> None:
        for key, uses in self.uses.items():
            paths = [path for path, _ in uses]
            common = paths[0]
            for path in paths[1:]:
                length = 0
                while length < min(len(common), len(path)) and common[length] == path[length]:
                    length += 1
                common = common[:length]
            first_path, first = uses[0]
            if (
                isinstance(first, For)
                and first.local is self.locals[key]
                and common[:1]
                and common[-1] == id(first)
                and not first.own_counter
            ) or (
                isinstance(first, For)
                and first.local is self.locals[key]
                and id(first) in common
                and not first.own_counter
            ):
                self.counters.add(key)
            elif isinstance(first, Each) and first.local is self.locals[key] and first_path == common:
                self._inline[key] = first
            elif (
                isinstance(first, Assign)
                and isinstance(first.target, Var)
                and id(first.target.local) == key
                and not first.op
            ):
                own = sum(1 for _, node in uses if node is first)
                if first_path == common and own == 1:
                    self._inline[key] = first

    def needs_top(self, local: Local) -> bool:
        """Whether it is declared at the function's top."""
        return id(local) in self.uses and id(local) not in self.counters and id(local) not in self._inline

    def declares(self, local: Local, node: Stmt) -> bool:
        """Whether this statement declares it."""
        return self._inline.get(id(local)) is node
