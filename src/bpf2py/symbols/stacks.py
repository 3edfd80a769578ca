"""`Stacks`: stacks counted, and what is made of them: a tree, folded lines, a flame graph, files for speedscope and pprof."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from bpf2py._lazy import module
from bpf2py.printable import printable
from bpf2py.symbols.tree import Node

if TYPE_CHECKING:
    from bpf2py.symbols import flame, pprof, speedscope
else:
    flame = module("bpf2py.symbols.flame")
    pprof = module("bpf2py.symbols.pprof")
    speedscope = module("bpf2py.symbols.speedscope")

__all__ = ["HasName", "Stacks"]

Names = tuple[str, ...]
ENDINGS = (".html", ".folded", ".txt", ".json", ".pb.gz", ".pprof")  # of files that `Stacks.save` writes


class HasName(Protocol):
    """A frame: `Frame`, `PythonFrame`, or one of your own."""

    @property
    def short(self) -> str:
        """Its name in a chart."""


class Stacks:
    """Counts of stacks.

    Args:
        unit: what is counted: ``"samples"``, ``"bytes"``, ``"microseconds"``.

    Example:
        >>> stacks = Stacks()
        >>> stacks.add(["read", "load", "main"], 3)
        >>> stacks.add(["load", "main"])
        >>> stacks.folded()
        ['main;load 1', 'main;load;read 3']
    """

    def __init__(self, unit: str = "samples") -> None:
        self.unit = unit
        self.counts: Counter[Names] = Counter()

    def add(self, frames: Iterable[HasName | str], count: int = 1, *, root: str | None = None) -> None:
        """Count a stack, innermost first, as programs get it; `root` becomes its outermost frame, as a process' name is."""
        names = [frame if isinstance(frame, str) else frame.short for frame in frames]
        if root is not None:
            names.append(root)
        self.counts[tuple(reversed(names))] += count

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def total(self) -> int:
        """The sum of all counts."""
        return sum(self.counts.values())

    def leaves(self) -> Counter[str]:
        """Counts by the innermost function."""
        found: Counter[str] = Counter()
        for names, count in self.counts.items():
            found[names[-1] if names else ""] += count
        return found

    def folded(self) -> list[str]:
        """A line for each stack, outermost first, its frames apart by ``;``, and its count: what flame graph tools read."""
        return sorted(f"{';'.join(map(_plain, names))} {count}" for names, count in self.counts.items())

    @classmethod
    def from_folded(cls, lines: Iterable[str], unit: str = "samples") -> Stacks:
        """Of such lines; those that are not are left out."""
        made = cls(unit)
        for line in lines:
            names, _, count = line.strip().rpartition(" ")
            if names and count.isdecimal():
                made.counts[tuple(names.split(";"))] += int(count)
        return made

    def tree(self, before: Stacks | None = None) -> Node:
        """All stacks as a tree; with `before` its nodes have the counts of both."""
        root = Node("all")
        for names, count in self.counts.items():
            root.add(names, count)
        for names, count in before.counts.items() if before is not None else ():
            root.add(names, 0, count)
        return root

    def text(self, least: float = 0.01) -> str:
        """The tree for a terminal: the share of each function, its callees below it; those below a share are left out."""
        root = self.tree()
        lines = [f"{root.value} {self.unit}"]
        most = least * root.value

        def write(node: Node, prefix: str) -> None:
            children = sorted(node.children.values(), key=lambda child: (-child.value, child.name))
            shown = [child for child in children if child.value >= most]
            for position, child in enumerate(shown):
                last = position == len(shown) - 1
                # A chain of single callees stays on one level, as a list.
                lines.append(f"{prefix}{'└─' if last else '├─'} {child.value / root.value:6.1%} {_plain(child.name)}")
                write(child, prefix + ("   " if last else "│  "))

        if root.value:
            write(root, "")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    # -- files ---------------------------------------------------------------------------------------------------

    def flame_graph(self, title: str = "", *, before: Stacks | None = None, icicle: bool = False) -> str:
        """A page with a flame graph: one file that needs no network, with search, zoom, and a link to each view.

        Args:
            title: its heading.
            before: other stacks to compare with: what became more is red, what became less blue.
            icicle: the outermost function on top.
        """
        return flame.page(self.tree(before), title, self.unit, compared=before is not None, icicle=icicle)

    def save(self, path: str | os.PathLike[str], title: str = "", **options: object) -> None:
        """Write a file; the end of its name says which: .html, .folded (.txt), .speedscope.json, .pb.gz (for pprof).

        `options` are those of `flame_graph`. Raises ValueError for another ending, OSError.
        """
        name = os.fspath(path)
        if name.endswith(".html"):
            data = self.flame_graph(title, **options).encode("utf-8", "replace")  # type: ignore[arg-type]
        elif name.endswith((".folded", ".txt")):
            data = "".join(f"{line}\n" for line in self.folded()).encode("utf-8", "replace")
        elif name.endswith(".json"):
            data = speedscope.profile(self.counts, title or name, self.unit)
        elif name.endswith((".pb.gz", ".pprof")):
            data = pprof.profile(self.counts, self.unit)
        else:
            raise ValueError(
                f"{name}: its name must end with .html, .folded, .speedscope.json or .pb.gz, which say what to write"
            )
        with open(name, "wb") as file:
            file.write(data)

    def items(self) -> Iterator[tuple[Names, int]]:
        """(names, outermost first; count) of each stack."""
        yield from self.counts.items()

    def update(self, other: Mapping[Names, int]) -> None:
        """Add the counts of others."""
        self.counts.update(other)


def _plain(name: str) -> str:
    """A name that cannot be taken for two, nor for what a terminal obeys."""
    return printable(name.replace(";", ":"))
