"""Global variables whose types are known to type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from bpf2py.variables import Variable

T = TypeVar("T")


class TypedVariable(Variable, Generic[T]):
    """A `Variable` whose value is a `T`."""

    if TYPE_CHECKING:

        @property
        def value(self) -> T: ...
        @value.setter
        def value(self, value: T) -> None: ...
