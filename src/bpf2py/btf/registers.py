"""`registers_of()`: whose registers an object reads, by the types it was compiled with."""

from __future__ import annotations

from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Kind, Struct

__all__ = ["registers_of"]

# Members that only one architecture has, by the registers' struct.
_MEMBERS = {"pt_regs": {"di": "x86", "rdi": "x86", "pstate": "arm64"}, "user_pt_regs": {"pstate": "arm64"}}


def registers_of(btf: Btf) -> str | None:
    """``"x86"``, ``"arm64"``, or None: most objects read no registers, and run anywhere."""
    if btf.ids_by_name("pt_regs___bpf_arm64"):  # of bpf_tracing.h
        return "arm64"
    found: set[str] = set()
    for owner, members in _MEMBERS.items():
        for type_id in btf.ids_by_name(owner):
            struct = btf.type(type_id)
            if isinstance(struct, Struct) and struct.kind == Kind.STRUCT:
                found.update(arch for member, arch in members.items() if _has(btf, struct, member, 0))
    return found.pop() if len(found) == 1 else None


def _has(btf: Btf, struct: Struct, name: str, depth: int) -> bool:
    for member in struct.members:
        if member.name == name:
            return True
        inner = btf.resolved(member.type_id) if not member.name and depth < 4 else None
        if isinstance(inner, Struct) and _has(btf, inner, name, depth + 1):
            return True
    return False
