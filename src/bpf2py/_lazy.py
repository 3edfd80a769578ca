"""What is imported or made when first used, so that importing the package costs little: public names, regular expressions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from bpf2py._typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import re
    from types import ModuleType
    from typing import AnyStr

__all__ = ["import_module", "lazily", "module", "pattern"]


def import_module(name: str) -> ModuleType:
    """The module of that full name, as importlib's function, which imports `warnings`."""
    __import__(name)
    return sys.modules[name]


class _Module:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> object:
        found = getattr(import_module(self._name), name)
        if callable(found):  # a variable of the module may change
            self.__dict__[name] = found
        return found


def module(name: str) -> ModuleType:
    """A module that is imported when something of it is first used.

    For what a program seldom needs; its user imports it for type checkers, so that they and the tests of the rooms see it::

        if TYPE_CHECKING:
            import warnings
        else:
            warnings = module("warnings")
    """
    return cast("ModuleType", _Module(name))


class _Pattern:
    """A regular expression compiled when first used: most are for what hardly ever happens, `re` is 2 ms of start-up."""

    def __init__(self, pattern: str | bytes, flags: int = 0) -> None:
        self._source = pattern, flags

    def __getattr__(self, name: str) -> Callable[..., Any]:
        compiled = import_module("re").compile(*self._source)
        self.__dict__ |= {each: getattr(compiled, each) for each in ("match", "search", "sub", "findall", "fullmatch")}
        return cast("Callable[..., Any]", getattr(compiled, name))


def pattern(source: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """A regular expression compiled when first used; for type checkers what ``re.compile()`` returns."""
    return cast("re.Pattern[AnyStr]", _Pattern(source, flags))


def lazily(
    module: str, namespace: dict[str, Any], homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a module.

    Args:
        module: its name, for messages.
        namespace: its ``globals()``, which keeps what was imported.
        homes: the module each public name is defined in, below ``bpf2py``.
    """

    def get(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = namespace[name] = getattr(import_module(f"bpf2py.{home}"), name)
        return value

    return get, lambda: sorted({*homes, "__all__", "__doc__", "__file__", "__name__"})
