"""Data sections of the machine's maps: the global variables in them, by name."""

from __future__ import annotations

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.btf.types import DataSec, Kind, Var
from bpf2py.cli.values import parse
from bpf2py.errors import BpfError, PermissionDenied
from bpf2py.maps.base import Map
from bpf2py.spec.variable_spec import VariableSpec
from bpf2py.variables import DataSection, Variable

if TYPE_CHECKING:
    from bpf2py.variables import Variable


def variables_of(bpf_map: Map[Any, Any]) -> dict[str, Variable] | None:
    """The variables of a map that is a data section (``.bss``, ``.data``, ``.rodata``) with BTF, by name; else None."""
    spec = bpf_map.spec
    if spec is None or spec.btf is None or not spec.value_type_id or spec.btf.kind(spec.value_type_id) != Kind.DATASEC:
        return None
    section = spec.btf.type(spec.value_type_id)
    assert isinstance(section, DataSec)
    memory = DataSection(bpf_map, section.name.startswith((".rodata", ".kconfig")))
    found = {}
    for place in section.variables:
        variable = spec.btf.type(place.type_id)
        if isinstance(variable, Var) and place.offset + place.size <= bpf_map.value_size:
            placed = VariableSpec(variable.name, spec, place.offset, place.size, variable.type_id)
            found[variable.name] = Variable(placed, memory)
    return found


def variable(bpf_map: Map[Any, Any], found: dict[str, Variable], name: str) -> Variable:
    """A variable by name. Raises BpfError."""
    if name not in found:
        raise BpfError(f"map {bpf_map.name}: there is no variable {name!r}: {', '.join(found)}")
    return found[name]


def set_variable(bpf_map: Map[Any, Any], found: dict[str, Variable], name: str, text: str) -> None:
    """Change a variable; the programs see it at once."""
    target = variable(bpf_map, found, name)
    value = parse(target.spec.codec, text, "value")
    try:
        target.value = value
    except PermissionDenied:
        raise PermissionDenied(f"variable {name}: it is constant once the program is loaded") from None


def is_index(key: str) -> bool:
    """Whether a key means the whole section, as map commands of other tools take it."""
    return key.isdecimal() or key.startswith("hex:")
