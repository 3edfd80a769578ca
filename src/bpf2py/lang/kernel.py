"""The running kernel's types, constants and functions, by their names: ``from bpf2py.lang.kernel import task_struct``.

What is imported here means something in a program only; to a type checker it is anything. `bpf2py vmlinux --stubs` writes types
for an editor.
"""

from __future__ import annotations

from typing import Any

__all__: list[str] = []


class _Name:
    """Stands for a name of the kernel where a program is imported as Python."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getitem__(self, item: Any) -> Any:
        return self

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        raise TypeError(
            f"{self._name} is the kernel's: it is called where the program runs, in the kernel or an engine"
        )

    def __or__(self, other: Any) -> Any:
        return self

    __ror__ = __or__

    def __repr__(self) -> str:
        return self._name


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Name(name)
