"""Members of map values that only the kernel may touch: locks, timers, lists, pointers to kernel objects.

Commands neither copy them in nor out: user space sees zeros (btf_parse_fields() in kernel/bpf/btf.c
knows them by their types' names).
"""

from __future__ import annotations

from typing import NamedTuple

from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Array, DataSec, Kind, Ref, Struct
from bpf2py.errors import BtfError

__all__ = ["Fields", "special_fields"]

SPECIAL = frozenset(
    """bpf_spin_lock bpf_res_spin_lock bpf_timer bpf_wq bpf_task_work bpf_list_head bpf_list_node bpf_rb_root
    bpf_rb_node bpf_refcount""".split()
)
LOCKS = frozenset({"bpf_spin_lock", "bpf_res_spin_lock"})
POINTERS = frozenset({"kptr", "kptr_untrusted", "percpu_kptr", "uptr"})  # BTF type tags
VISITS = 100_000  # members looked at
MOST = 64  # elements of an array that are looked at; the kernel takes at most 11 fields


class Fields(NamedTuple):
    """(offset, size) of the special members in order, and whether one of them is a lock."""

    places: tuple[tuple[int, int], ...] = ()
    lock: bool = False


NO_FIELDS = Fields()


def special_fields(btf: Btf | None, type_id: int) -> Fields:
    """The special members of a value's type; none where the type is not known."""
    if btf is None or not type_id:
        return NO_FIELDS
    found: dict[int, tuple[int, bool]] = {}
    try:
        if not _has_special(btf, type_id, {}, 0):
            return NO_FIELDS
        _walk(btf, type_id, 0, found, [VISITS], 0)
    except BtfError:
        return NO_FIELDS
    places = tuple((offset, size) for offset, (size, _) in sorted(found.items()))
    return Fields(places, any(lock for _, lock in found.values()))


def _has_special(btf: Btf, ident: int, known: dict[int, bool], depth: int) -> bool:
    """Whether a type has a special member anywhere; each type is looked at once, as damaged ones contain themselves."""
    ident = btf.resolve(ident)
    if ident in known or depth > 16:
        return known.get(ident, False)
    known[ident] = False
    btf_type = btf.type(ident)
    inner: tuple[int, ...] = ()
    if isinstance(btf_type, Struct):
        if btf_type.name in SPECIAL:
            known[ident] = True
        inner = tuple(member.type_id for member in btf_type.members)
    elif isinstance(btf_type, Array):
        inner = (btf_type.type_id,)
    elif isinstance(btf_type, DataSec):
        inner = tuple(getattr(btf.type(variable.type_id), "type_id", 0) for variable in btf_type.variables)
    elif isinstance(btf_type, Ref) and btf_type.kind == Kind.PTR:
        target = btf.type(btf_type.type_id)
        known[ident] = target.kind == Kind.TYPE_TAG and target.name in POINTERS
    known[ident] = known[ident] or any(_has_special(btf, each, known, depth + 1) for each in inner)
    return known[ident]


def _walk(btf: Btf, ident: int, offset: int, found: dict[int, tuple[int, bool]], left: list[int], depth: int) -> None:
    left[0] -= 1
    if left[0] < 0:
        raise BtfError(f"{btf.name}: type {ident} has too many members")
    if depth > 16:
        return
    known = btf.resolved(ident)
    if isinstance(known, Struct):
        if known.name in SPECIAL:
            found[offset] = (known.size, known.name in LOCKS)
        elif known.kind == Kind.STRUCT:
            for member in known.members:
                if not member.bits:
                    _walk(btf, member.type_id, offset + member.bit_offset // 8, found, left, depth + 1)
    elif isinstance(known, Array):
        size = btf.size_of(known.type_id)
        for i in range(min(known.count, MOST)):
            _walk(btf, known.type_id, offset + i * size, found, left, depth + 1)
    elif isinstance(known, DataSec):
        for variable in known.variables:
            target = btf.type(variable.type_id)
            if isinstance(btf.resolved(getattr(target, "type_id", 0)), Struct | Array | Ref):
                _walk(btf, getattr(target, "type_id", 0), offset + variable.offset, found, left, depth + 1)
    elif isinstance(known, Ref) and known.kind == Kind.PTR:
        target = btf.type(known.type_id)
        if target.kind == Kind.TYPE_TAG and target.name in POINTERS:
            found[offset] = (8, False)
