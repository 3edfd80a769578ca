"""What is known on a way through a function: which names have values, which are not None, which records are still held."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Flow", "merge"]

# Of two ways that meet: what is known of a record that was reserved. "mixed" is what no verifier accepts.
_MEET = {
    ("held", "null"): "maybe",
    ("held", "maybe"): "maybe",
    ("maybe", "null"): "maybe",
    ("done", "null"): "done",
    ("moved", "null"): "moved",
    ("done", "moved"): "moved",
    ("done", "held"): "mixed",
    ("done", "maybe"): "mixed",
}


@dataclass
class Flow:
    """Facts at one point.

    Attributes:
        assigned: names that have a value for certain.
        nonnull: names that are not None for certain.
        held: what became of each reserved record: ``maybe`` (not tested for None yet), ``held``, ``null``,
            ``done``, ``moved`` (somebody else has to give it back), ``mixed``.
        dead: the point is never reached.
    """

    assigned: set[str] = field(default_factory=set)
    nonnull: set[str] = field(default_factory=set)
    held: dict[str, str] = field(default_factory=dict)
    dead: bool = False

    def copy(self) -> Flow:
        """An independent copy."""
        return Flow(set(self.assigned), set(self.nonnull), dict(self.held), self.dead)

    def is_some(self, name: str, first: str = "") -> None:
        """`name` was tested: it is not None. `first`: the first name of what it holds."""
        self.nonnull.add(name)
        name = first or name
        if self.held.get(name) == "maybe":
            self.held[name] = "held"
        elif self.held.get(name) == "null":
            self.dead = True

    def is_none(self, name: str, first: str = "") -> None:
        """`name` was tested: it is None."""
        name = first or name
        if self.held.get(name) == "maybe":
            self.held[name] = "null"
        elif self.held.get(name) == "held":
            self.dead = True

    def assign(self, name: str) -> None:
        """`name` got another value."""
        self.assigned.add(name)
        self.nonnull.discard(name)
        self.held.pop(name, None)


def merge(one: Flow, other: Flow) -> Flow:
    """What is known where two ways meet."""
    if one.dead or other.dead:
        return (other if one.dead else one).copy()
    held: dict[str, str] = {}
    for name in one.held.keys() | other.held.keys():
        a, b = sorted((one.held.get(name, "done"), other.held.get(name, "done")))
        held[name] = a if a == b else _MEET.get((a, b), "mixed")
    return Flow(one.assigned & other.assigned, one.nonnull & other.nonnull, held)
