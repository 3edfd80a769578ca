"""The kernel's helpers by their names without ``bpf_``. They run where programs do.

The types for checkers are in ``helpers.pyi``, which tools/lang_stubs.py writes from the helper table.
"""

from __future__ import annotations

from typing import Any

from bpf2py.isa.helpers import HELPERS_BY_NAME

_OWN = frozenset(("snprintf",))  # the language has one with an f-string


def _helper(name: str) -> Any:
    def helper(*arguments: Any, **named: Any) -> Any:
        raise TypeError(f"{name}() runs where the program does, in the kernel or an engine; Python only reads its name")

    helper.__name__ = helper.__qualname__ = name
    helper.__doc__ = HELPERS_BY_NAME[name].prototype
    return helper


__all__ = [name for name in HELPERS_BY_NAME if name not in _OWN]
globals().update({name: _helper(name) for name in __all__})
