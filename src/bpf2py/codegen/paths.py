"""Where a type is found in an object, as text that stays the same when the object is compiled anew.

``struct event``, ``enum color`` and ``typedef event_t`` are found by name. What has no name is found where it is used: as the
type of a variable (``variable config``) or of a map's keys or values (``key counts``, ``inner-value tables``), or of a member of
any of these (``struct event/addr``); arrays stand for their elements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.btf.types import Array, Kind, Struct
from bpf2py.errors import BtfError

if TYPE_CHECKING:
    from bpf2py.btf.reader import Btf
    from bpf2py.spec.object_spec import ObjectSpec

KINDS = {
    "struct": (Kind.STRUCT,),
    "union": (Kind.UNION,),
    "enum": (Kind.ENUM, Kind.ENUM64),
    "typedef": (Kind.TYPEDEF,),
}


def locate(spec: ObjectSpec, path: str) -> int:
    """The id of the struct, union or enum at a path. Raises BtfError when there is none."""
    assert spec.types is not None
    btf = spec.types
    word, _, rest = path.partition(" ")
    name, *members = rest.split("/")
    if word in KINDS:
        type_id = btf.find(name, *KINDS[word])
    elif word == "variable":
        type_id = spec.variables[name].type_id if name in spec.variables else 0
    elif word == "type":
        type_id = int(name)
    else:
        found = spec.maps.get(name)
        if word.startswith("inner-") and found is not None:
            found = found.inner
        type_id = 0 if found is None else found.key_type_id if word.endswith("key") else found.value_type_id
    for member in members:
        type_id = _member(btf, element(btf, type_id), member)
    return element(btf, type_id)


def element(btf: Btf, type_id: int) -> int:
    """The type behind typedefs, qualifiers and arrays."""
    type_id = btf.resolve(type_id)
    btf_type = btf.type(type_id)
    while isinstance(btf_type, Array):
        type_id = btf.resolve(btf_type.type_id)
        btf_type = btf.type(type_id)
    return type_id


def _member(btf: Btf, type_id: int, name: str) -> int:
    """The type of a member, of an anonymous struct or union as well."""
    struct = btf.type(type_id)
    for member in struct.members if isinstance(struct, Struct) else ():
        if member.name == name:
            return member.type_id
        if not member.name:
            try:
                return _member(btf, btf.resolve(member.type_id), name)
            except BtfError:
                continue
    raise BtfError(f"{btf.name}: there is no member {name!r} in type {type_id}")
