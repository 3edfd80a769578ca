"""CO-RE's three notions of "the same type": compatible fields, compatible types and matching types.

What counts as compatible is defined by the users' expectations of libbpf's semantics: names are compared without their
flavour (``task_struct___old`` is ``task_struct``), integers may change their size, structs may gain and lose members.
"""

from __future__ import annotations

from collections.abc import Callable

from bpf2py.btf.names import essential_name
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Array, Enum, FuncProto, Fwd, Int, Kind, Ref, Struct
from bpf2py.errors import BtfError

MAX_DEPTH = 32
ENUMS = (Kind.ENUM, Kind.ENUM64)
COMPOSITES = (Kind.STRUCT, Kind.UNION)


def kinds_compatible(a: Kind, b: Kind) -> bool:
    """Whether two kinds count as the same: equal, or both enums of any width."""
    return a == b or (a in ENUMS and b in ENUMS)


def fields_compatible(local: Btf, local_id: int, target: Btf, target_id: int) -> bool:
    """Whether a member of one type may stand for a member of the other."""
    for _ in range(MAX_DEPTH):
        a, b = local.resolved(local_id), target.resolved(target_id)
        if a.kind in COMPOSITES and b.kind in COMPOSITES:
            return True
        if not kinds_compatible(a.kind, b.kind):
            return False
        if a.kind in (Kind.PTR, Kind.FLOAT):
            return True
        if isinstance(a, Fwd | Enum):
            left, right = essential_name(a.name), essential_name(b.name)
            return not left or not right or left == right
        if isinstance(a, Int) and isinstance(b, Int):
            return a.bit_offset == 0 and b.bit_offset == 0
        if isinstance(a, Array) and isinstance(b, Array):
            local_id, target_id = a.type_id, b.type_id
            continue
        return False
    raise BtfError(f"{local.name}: type {local_id} is nested too deeply")


Seen = dict[tuple[int, int, bool], bool]  # answers by type ids and behind_ptr: a damaged graph must not take for ever


def types_compatible(
    local: Btf, local_id: int, target: Btf, target_id: int, depth: int = 0, seen: Seen | None = None
) -> bool:
    """Whether bpf_core_type_exists() holds: kinds agree, through pointers, arrays and function prototypes."""
    seen = seen if seen is not None else {}
    while True:
        depth += 1
        if depth > MAX_DEPTH:
            raise BtfError(f"{local.name}: type {local_id} is nested too deeply")
        a, b = local.resolved(local_id), target.resolved(target_id)
        if not kinds_compatible(a.kind, b.kind):
            return False
        if isinstance(a, Int) and isinstance(b, Int):
            return a.bit_offset == 0 and b.bit_offset == 0
        if isinstance(a, FuncProto) and isinstance(b, FuncProto):
            if len(a.params) != len(b.params):
                return False
            for x, y in zip(a.params, b.params, strict=True):
                key = (x.type_id, y.type_id, False)
                if key not in seen:
                    seen[key] = types_compatible(local, x.type_id, target, y.type_id, depth, seen)
                if not seen[key]:
                    return False
            local_id, target_id = a.return_type_id, b.return_type_id
        elif isinstance(a, Ref | Array) and isinstance(b, Ref | Array):
            local_id, target_id = a.type_id, b.type_id
        else:
            return True


def types_match(
    local: Btf,
    local_id: int,
    target: Btf,
    target_id: int,
    behind_ptr: bool = False,
    depth: int = 0,
    seen: Seen | None = None,
) -> bool:
    """Whether bpf_core_type_matches() holds: every local member is there with a matching type, sizes of integers agree."""
    seen = seen if seen is not None else {}

    def same(x: int, y: int, behind: bool) -> bool:
        key = (x, y, behind)
        if key not in seen:
            seen[key] = types_match(local, x, target, y, behind, depth, seen)
        return seen[key]

    while True:
        depth += 1
        if depth > MAX_DEPTH:
            raise BtfError(f"{local.name}: type {local_id} is nested too deeply")
        a, b = local.resolved(local_id), target.resolved(target_id)
        if essential_name(a.name) != essential_name(b.name):
            return False
        if isinstance(a, Fwd):
            if isinstance(b, Fwd):
                return a.union == b.union
            return behind_ptr and b.kind == (Kind.UNION if a.union else Kind.STRUCT)
        if isinstance(a, Enum):
            return isinstance(b, Enum) and _enums_match(a, b)
        if isinstance(a, Struct):
            if behind_ptr:
                if isinstance(b, Fwd):
                    return b.union == (a.kind == Kind.UNION)
                return a.kind == b.kind
            return isinstance(b, Struct) and a.kind == b.kind and _members_match(a, b, same)
        if a.kind != b.kind:
            return False
        if isinstance(a, Int) and isinstance(b, Int):
            return a.size == b.size and a.signed == b.signed
        if isinstance(a, Array) and isinstance(b, Array):
            if a.count != b.count:
                return False
            local_id, target_id = a.type_id, b.type_id
        elif isinstance(a, FuncProto) and isinstance(b, FuncProto):
            if len(a.params) != len(b.params):
                return False
            pairs = zip(a.params, b.params, strict=True)
            if not all(same(x.type_id, y.type_id, behind_ptr) for x, y in pairs):
                return False
            local_id, target_id = a.return_type_id, b.return_type_id
        elif isinstance(a, Ref) and isinstance(b, Ref):
            behind_ptr = True
            local_id, target_id = a.type_id, b.type_id
        else:
            return True


def _enums_match(a: Enum, b: Enum) -> bool:
    names = {essential_name(e.name) for e in b.values}
    return a.size == b.size and all(essential_name(e.name) in names for e in a.values)


def _members_match(a: Struct, b: Struct, same: Callable[[int, int, bool], bool]) -> bool:
    by_name: dict[str, set[int]] = {}
    for y in b.members:
        by_name.setdefault(essential_name(y.name), set()).add(y.type_id)
    return len(a.members) <= len(b.members) and all(
        any(same(x.type_id, y_id, False) for y_id in by_name.get(essential_name(x.name), ())) for x in a.members
    )
