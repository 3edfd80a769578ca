"""Map definitions in a ``.maps`` section: structs whose member types carry the numbers.

``__uint(max_entries, 10)`` is a pointer to an array of 10, ``__type(key, u32)`` a pointer to the type,
``__array(values, struct {...})`` an array of pointers to the inner definition, ``__ulong`` an enum of one value.
"""

from __future__ import annotations

from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Array, DataSec, Enum, Kind, Ref, Struct, Var
from bpf2py.errors import BtfError, ObjectError
from bpf2py.spec.map_spec import MapSpec, Pinning
from bpf2py.uapi.map_types import MapFlags, MapType, type_info, type_name

SECTION = ".maps"

EXTERN = 2  # enum btf_func_linkage, and of variables
_WITH_VALUES = {"map": (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS), "program": (MapType.PROG_ARRAY,)}
_NUMBERS = ("type", "max_entries", "map_flags", "key_size", "value_size", "numa_node", "pinning", "map_extra")


class BtfMap:
    """A parsed definition and where it stands: `offset`/`size` in the section, `values_offset` of its ``values``."""

    __slots__ = ("offset", "size", "spec", "values_kind", "values_offset")

    def __init__(self, spec: MapSpec, offset: int, size: int, values_offset: int, values_kind: str) -> None:
        self.spec = spec
        self.offset = offset
        self.size = size
        self.values_offset = values_offset
        self.values_kind = values_kind


def read_btf_maps(btf: Btf, datasec: DataSec, offsets: dict[str, int], file: str) -> list[BtfMap]:
    """The maps of a ``.maps`` data section; `offsets` are the variables' places by the symbol table."""
    maps = []
    for entry in datasec.variables:
        var = btf.type(entry.type_id)
        if not isinstance(var, Var):
            raise ObjectError(f"{file}: an entry of {SECTION} is not a variable", section=".BTF")
        if var.linkage == EXTERN:
            continue  # another object defines it
        definition = btf.resolved(var.type_id)
        if not isinstance(definition, Struct) or definition.kind != Kind.STRUCT:
            raise ObjectError(f"{file}: map {var.name}: the definition is not a struct", section=SECTION)
        if var.name not in offsets:
            raise ObjectError(f"{file}: map {var.name}: there is no symbol for it", section=SECTION)
        spec, values_offset, values_kind = read_definition(btf, definition, var.name, file, inner=False)
        maps.append(BtfMap(spec, offsets[var.name], definition.size, values_offset, values_kind))
    return maps


def read_definition(btf: Btf, definition: Struct, name: str, file: str, inner: bool) -> tuple[MapSpec, int, str]:
    """(spec, offset and kind of ``values``) of a definition. Raises ObjectError when it is wrong."""
    where = f"{file}: map {name}"
    numbers: dict[str, int] = {}
    key_id = value_id = 0
    key_size = value_size = None
    inner_spec: MapSpec | None = None
    values_offset, values_kind = -1, ""
    for member in definition.members:
        if member.name in _NUMBERS:
            numbers[member.name] = _number(btf, member.type_id, f"{where}: {member.name}")
        elif member.name in ("key", "value"):
            target = btf.resolved(member.type_id)
            if not isinstance(target, Ref) or target.kind != Kind.PTR:
                raise ObjectError(
                    f"{where}: {member.name} must be written as __type({member.name}, TYPE)", section=SECTION
                )
            try:
                size = btf.size_of(target.type_id)
            except BtfError as error:
                raise ObjectError(f"{where}: {member.name}: {error.message}", section=SECTION) from None
            if member.name == "key":
                key_id, key_size = target.type_id, size
            else:
                value_id, value_size = target.type_id, size
        elif member.name == "values":
            if inner:
                raise ObjectError(f"{where}: a map of maps of maps is not possible", section=SECTION)
            values_offset = member.bit_offset // 8
            pointee = _values_pointee(btf, member.type_id, where)
            if isinstance(pointee, Struct):
                values_kind = "map"
                inner_spec = read_definition(btf, pointee, f"{name}.inner", file, inner=True)[0]
            else:
                values_kind = "program"
        else:
            raise ObjectError(f"{where}: unknown field {member.name!r} in the definition", section=SECTION)
    if "type" not in numbers:
        raise ObjectError(f"{where}: the definition has no type", section=SECTION)
    for what, typed in (("key_size", key_size), ("value_size", value_size)):
        if typed is not None and numbers.setdefault(what, typed) != typed:
            raise ObjectError(f"{where}: {what} is {numbers[what]} but the type has {typed} bytes", section=SECTION)
    info = type_info(numbers["type"])
    if values_kind and numbers["type"] not in _WITH_VALUES[values_kind]:
        raise ObjectError(
            f"{where}: values are {values_kind}s, which a map of type {type_name(numbers['type'])} does not hold",
            section=SECTION,
        )
    if values_kind:
        numbers.setdefault("key_size", 4)
        numbers.setdefault("value_size", 4)
    if info.key == "none" and info.value_size == 0:
        # A type on RINGBUF or USER_RINGBUF describes the records; the kernel wants sizes of 0.
        numbers["key_size"] = numbers["value_size"] = 0
    elif numbers["type"] in (3, 4, 8, 12) and not values_kind:
        # PERF_EVENT_ARRAY and other arrays of fds: sizes are fixed, a type describes the records.
        numbers["key_size"] = numbers.get("key_size") or 4
        numbers["value_size"] = 4 if value_id or not numbers.get("value_size") else numbers["value_size"]
    for what, number in numbers.items():
        if number >> 32 and what != "map_extra":
            raise ObjectError(f"{where}: {what} {number} does not fit 32 bits", section=SECTION)
    try:
        pinning = Pinning(numbers.get("pinning", 0))
    except ValueError:
        raise ObjectError(f"{where}: pinning must be 0 or 1, is {numbers['pinning']}", section=SECTION) from None
    spec = MapSpec(
        name,
        numbers["type"],
        numbers.get("key_size", 0),
        numbers.get("value_size", 0),
        numbers.get("max_entries", 0),
        numbers.get("map_flags", 0),
        map_extra=numbers.get("map_extra", 0),
        numa_node=numbers.get("numa_node"),
        pinning=pinning,
        btf=btf,
        key_type_id=key_id,
        value_type_id=value_id,
        inner=inner_spec,
    )
    if spec.numa_node is not None:
        spec.flags |= MapFlags.NUMA_NODE
    return spec, values_offset, values_kind


def _number(btf: Btf, type_id: int, where: str) -> int:
    btf_type = btf.resolved(type_id)
    if isinstance(btf_type, Ref) and btf_type.kind == Kind.PTR:
        array = btf.resolved(btf_type.type_id)
        if isinstance(array, Array):
            return array.count
    if isinstance(btf_type, Enum) and len(btf_type.values) == 1:
        return btf_type.values[0].value & 0xFFFFFFFFFFFFFFFF
    raise ObjectError(f"{where} must be written with __uint or __ulong", section=SECTION)


def _values_pointee(btf: Btf, type_id: int, where: str) -> Struct | None:
    array = btf.resolved(type_id)
    pointer = btf.resolved(array.type_id) if isinstance(array, Array) else None
    if isinstance(pointer, Ref) and pointer.kind == Kind.PTR:
        pointee = btf.resolved(pointer.type_id)
        if isinstance(pointee, Struct) and pointee.kind == Kind.STRUCT:
            return pointee
        if pointee.kind == Kind.FUNC_PROTO:
            return None
    raise ObjectError(f"{where}: values must be written as __array(values, struct {{...}})", section=SECTION)
