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
        _walk(btf, type_id, 0, found, 0)
    except BtfError:
        return NO_FIELDS
    places = tuple((offset, size) for offset, (size, _) in sorted(found.items()))
    return Fields(places, any(lock for _, lock in found.values()))


def _walk(btf: Btf, ident: int, offset: int, found: dict[int, tuple[int, bool]], depth: int) -> None:
    if depth > 16:
        return
    known = btf.resolved(ident)
    if isinstance(known, Struct):
        if known.name in SPECIAL:
            found[offset] = (known.size, known.name in LOCKS)
        elif known.kind == Kind.STRUCT:
            for member in known.members:
                if not member.bits:
                    _walk(btf, member.type_id, offset + member.bit_offset // 8, found, depth + 1)
    elif isinstance(known, Array):
        size = btf.size_of(known.type_id)
        for i in range(min(known.count, MOST)):
            _walk(btf, known.type_id, offset + i * size, found, depth + 1)
    elif isinstance(known, DataSec):
        for variable in known.variables:
            target = btf.type(variable.type_id)
            if isinstance(btf.resolved(getattr(target, "type_id", 0)), Struct | Array | Ref):
                _walk(btf, getattr(target, "type_id", 0), offset + variable.offset, found, depth + 1)
    elif isinstance(known, Ref) and known.kind == Kind.PTR:
        target = btf.type(known.type_id)
        if target.kind == Kind.TYPE_TAG and target.name in POINTERS:
            found[offset] = (8, False)
