"""Where the C of a function declares its locals: where a person would."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from bpf2py.lang.tree import (
    Assign,
    Block,
    Closure,
    Each,
    Expr,
    For,
    Local,
    Stmt,
    Var,
)  # fmt: skip

__all__ = ["Places", "statements", "within"]


def within(inner: Closure, outer: Closure) -> bool:
    """Whether a closure is defined in another."""
    return any(each is inner for each in statements(outer.body))


def statements(block: Block) -> Iterator[Stmt]:
    """All statements of a block, those of inner blocks included."""
    for each in block.statements:
        yield each
        for child in _blocks(each):
            yield from statements(child)


def _blocks(node: Stmt) -> list[Block]:
    return [value for field in dataclasses.fields(node) if isinstance(value := getattr(node, field.name), Block)]


class Places:
    """Where each local is used, so that it is declared where a person would declare it."""

    def __init__(self, body: Block) -> None:
        self.uses: dict[int, list[tuple[tuple[int, ...], Stmt | None]]] = {}
        self.counters: set[int] = set()
        self.assigned: dict[int, int] = {}
        self.locals: dict[int, Local] = {}
        self._inline: dict[int, Stmt] = {}
        self._walk(body, (id(body),))
        self._decide()

    def _walk(self, block: Block, path: tuple[int, ...]) -> None:
        for node in block.statements:
            own = path
            for field in dataclasses.fields(node):
                value = getattr(node, field.name)
                if isinstance(value, Block):
                    continue
                if field.name == "target" and isinstance(value, Var) and isinstance(node, Assign):
                    self.assigned[id(value.local)] = self.assigned.get(id(value.local), 0) + 1
                if isinstance(node, For) and field.name == "local":
                    self._use(node.local, (*own, id(node)), node)
                    continue
                self._expressions(value, own, node)
            for inner in _blocks(node):
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
            for field in dataclasses.fields(value):
                inner = getattr(value, field.name)
                if isinstance(inner, Expr | Local | list | tuple) and field.name != "range":
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
