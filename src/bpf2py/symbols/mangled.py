"""Names of C++ and Rust functions as they were written, by libraries of the extra ``bpf2py[symbols]``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache, lru_cache

__all__ = ["demangle"]


@lru_cache(1 << 16)
def demangle(name: str) -> str:
    """The name as its source has it; unchanged where it is not mangled, or the libraries are not installed."""
    if not name.startswith(("_Z", "_R", "__Z")):
        return name
    rust, cxx = _demanglers()
    if rust is not None and (name.startswith("_R") or "17h" in name):
        try:
            found = rust(name)
            if found != name:
                return str(found)
        except Exception:  # it raises types of its own for each thing a name can have wrong
            pass
    if cxx is not None:
        try:
            return str(cxx(name))
        except Exception:  # as above
            pass
    return name


@cache
def _demanglers() -> tuple[Callable[[str], object] | None, Callable[[str], object] | None]:
    found: list[Callable[[str], object] | None] = []
    for module in ("rust_demangler", "cxxfilt"):
        try:
            found.append(importlib.import_module(module).demangle)
        except Exception:  # missing, or without the C++ library it calls
            found.append(None)
    return found[0], found[1]
