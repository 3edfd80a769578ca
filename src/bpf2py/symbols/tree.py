"""`Node`: stacks as a tree."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Node"]


class Node:
    """A function in the tree of stacks.

    Attributes:
        name: of the function.
        value: what was counted in it and in what it called.
        before: the same of the stacks that are compared with.
        children: what it called, by name.
    """

    __slots__ = ("before", "children", "name", "value")

    def __init__(self, name: str) -> None:
        self.name = name
        self.value = 0
        self.before = 0
        self.children: dict[str, Node] = {}

    @property
    def own(self) -> int:
        """What was counted in the function itself."""
        return self.value - sum(child.value for child in self.children.values())

    def add(self, names: Iterable[str], count: int, before: int = 0) -> None:
        """Count a stack, outermost first."""
        node: Node = self
        node.value += count
        node.before += before
        for name in names:
            following = node.children.get(name)
            if following is None:
                following = node.children[name] = Node(name)
            node = following
            node.value += count
            node.before += before
