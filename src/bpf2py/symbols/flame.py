"""A flame graph as one page: rectangles drawn by a script in the page, from a tree in the page."""

from __future__ import annotations

import html
import json
from importlib.resources import files

from bpf2py.symbols.tree import Node

__all__ = ["page"]

LEAST = 1 / 20_000  # of the whole: narrower than anybody can see, zoomed in a little


def page(root: Node, title: str, unit: str, *, compared: bool = False, icicle: bool = False) -> str:
    """The page. Names are data in it, never markup nor script."""
    template = files("bpf2py.symbols").joinpath("flame.html").read_text("utf-8")
    names: dict[str, int] = {}
    data = {
        "unit": unit,
        "compared": compared,
        "icicle": icicle,
        "tree": _flat(root, names),
        "names": list(names),
    }
    # In a script element only a "<" could begin something else.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c").replace("\u2028", "\\u2028")
    heading = html.escape(title or "Flame graph")
    return template.replace("{{title}}", heading).replace("{{data}}", text)


def _flat(root: Node, names: dict[str, int]) -> list[int]:
    """Name, value, before and number of callees of each node, each before its callees; no nesting: stacks may be deep."""
    least, least_before = root.value * LEAST, root.before * LEAST
    rows: list[int] = []
    pending = [root]
    while pending:
        node = pending.pop()
        shown = [
            child
            for child in node.children.values()
            if (child.value and child.value >= least) or (child.before and child.before >= least_before)
        ]
        rows += [names.setdefault(node.name, len(names)), node.value, node.before, len(shown)]
        pending += sorted(shown, key=lambda child: child.name, reverse=True)
    return rows
