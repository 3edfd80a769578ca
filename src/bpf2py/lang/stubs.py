"""Kernel types as Python stubs, for editors: ``if TYPE_CHECKING: from vmlinux import task_struct`` in a program."""

from __future__ import annotations

import keyword
from collections.abc import Sequence

from bpf2py.btf.reader import Btf
from bpf2py.lang.kernel_types import KernelTypes
from bpf2py.lang.types import BOOL, Array, Int, Opt, Ptr, Struct, Type

__all__ = ["stubs"]


def stubs(btf: Btf, names: Sequence[str]) -> str:
    """A ``.pyi`` with the structs in `names` whole, and what they point to or hold as types with any field."""
    kernel = KernelTypes()
    kernel.btf = btf
    wanted = [kind for name in names if isinstance(kind := kernel.named(name), Struct)]
    known = {kind.name for kind in wanted}
    others: set[str] = set()
    lines = ["from typing import Any", "", "from bpf2py.lang import Ptr, Struct", ""]
    for kind in wanted:
        lines += ["", f"class {kind.name}(Struct):"]
        for name, field in kind.fields.items():
            if keyword.iskeyword(name):
                continue
            shown = _show(field.type, others)
            hidden = any(word in kind.fields for word in shown.replace("[", " ").replace("]", " ").split())
            lines.append(f"    {name}: {'Any' if hidden else shown}")
        if not kind.fields:
            lines.append("    ...")
    for name in sorted(others - known):
        lines += ["", f"class {name}(Struct):", "    def __getattr__(self, name: str) -> Any: ..."]
    return "\n".join(lines) + "\n"


def _show(kind: Type, others: set[str]) -> str:
    if isinstance(kind, Int):
        return "int"
    if kind == BOOL:
        return "bool"
    if isinstance(kind, Struct):
        if not kind.name or not kind.name.isidentifier() or keyword.iskeyword(kind.name):
            return "Any"
        others.add(kind.name)
        return kind.name
    if isinstance(kind, Opt):
        return _show(kind.pointer, others)
    if isinstance(kind, Ptr) and not isinstance(kind.target, Array):
        inner = _show(kind.target, others)
        return f"Ptr[{inner}]"
    return "Any"
