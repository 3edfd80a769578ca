"""Public modules whose names are imported when first used, so that importing one costs little."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazily"]


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
