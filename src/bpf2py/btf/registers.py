"""`registers_of()`: for which architecture an object was compiled, by the registers its types have."""

from __future__ import annotations

from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Struct

__all__ = ["registers_of"]


def registers_of(btf: Btf) -> str | None:
    """``"arm64"`` or ``"x86"``: objects have the struct of the registers their programs read; None without one."""
    if btf.ids_by_name("user_pt_regs") or btf.ids_by_name("pt_regs___bpf_arm64"):
        return "arm64"
    for ident in btf.ids_by_name("pt_regs"):
        struct = btf.type(ident)
        if isinstance(struct, Struct) and {"di", "rdi"} & {member.name for member in struct.members}:
            return "x86"
    return None
