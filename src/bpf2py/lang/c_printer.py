"""`Printer`: what prints expressions as C, for those who print a part of them."""

from __future__ import annotations

from typing import Protocol

from bpf2py.lang.c_pieces import Functions
from bpf2py.lang.c_types import CNames
from bpf2py.lang.tree import Expr

__all__ = ["Printer"]


class Printer(Protocol):
    """Prints expressions.

    Attributes:
        names: how types are called.
        functions: functions of our own that are used, by name.
        headers: that are needed.
        renamed: what locals are called, by their id(), where they are not called by their name.
    """

    names: CNames
    functions: Functions
    headers: set[str]
    renamed: dict[int, str]

    def text(self, expr: Expr, above: int = 0) -> str:
        """An expression, in brackets where what is around it binds tighter than `above`."""

    def converted(self, expr: Expr) -> str:
        """An expression where C converts it by itself."""

    def arguments(self, given: list[Expr]) -> str:
        """The arguments of a call."""

    def place(self, expr: Expr) -> str:
        """An expression as something with an address."""

    def key(self, value: Expr) -> str:
        """The address of a value."""

    def fresh(self, stem: str) -> str:
        """A name that is not used yet."""
