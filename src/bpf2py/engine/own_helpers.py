"""Helpers and kernel functions that users of the engine provide."""

from __future__ import annotations

from collections.abc import Callable

from bpf2py.engine.code.code import Target

__all__ = ["OWN_HELPER", "OwnHelpers"]

OWN_HELPER = 1 << 29  # numbers of callbacks that are functions of these; above those of all helpers


class OwnHelpers(dict[str, Callable[..., int]]):
    """Functions by the name of the helper or kernel function they stand for, with or without ``bpf_``."""

    def __init__(self, functions: dict[str, Callable[..., int]]) -> None:
        super().__init__(functions)
        self._numbered: list[tuple[str, int]] = []  # (name, arguments)

    def target(self, name: str, arguments: int | None = None) -> Target | None:
        """What a call leads to, None when there is no function for it.

        Args:
            arguments: how many the function is given; None for as many as it takes.
        """
        spelled = next((each for each in (name, f"bpf_{name}", name.removeprefix("bpf_")) if each in self), None)
        if spelled is None:
            return None
        if arguments is None:
            import inspect

            parameters = inspect.signature(self[spelled]).parameters.values()
            several = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
            arguments = 5 if several else len(parameters) - 1
        called = (spelled, min(arguments, 5))
        if called not in self._numbered:
            self._numbered.append(called)
        return Target("python", spelled, OWN_HELPER + self._numbered.index(called))

    def call(self, engine: object, number: int, arguments: tuple[int, ...]) -> int:
        """Call the function of a target's number, looked up in the dict at each call, so that tests may exchange it."""
        name, count = self._numbered[number - OWN_HELPER]
        return int(self[name](engine, *arguments[:count]))
