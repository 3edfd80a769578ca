"""Reading kernel interfaces implemented in BPF: instances in ``.struct_ops`` and ``.struct_ops.link`` sections."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bpf2py.btf.reader import Btf
from bpf2py.btf.types import DataSec, Struct, Var
from bpf2py.elf.object_file import Reloc, Section
from bpf2py.errors import ObjectError
from bpf2py.spec.map_spec import MapSpec
from bpf2py.spec.struct_ops import StructOps
from bpf2py.uapi.map_types import MapFlags, MapType

__all__ = ["read_struct_ops"]


def read_struct_ops(
    btf: Btf,
    section: Section,
    datasec: DataSec,
    relocs: Iterable[Reloc],
    program_at: Callable[[Reloc, int], str | None],
    file: str,
) -> list[MapSpec]:
    """The maps of one section. `program_at(relocation, addend)` names the program a function pointer leads to."""
    found: list[tuple[int, int, MapSpec]] = []
    for entry in datasec.variables:
        var = btf.type(entry.type_id)
        struct = btf.resolved(var.type_id) if isinstance(var, Var) else None
        if not isinstance(var, Var) or not isinstance(struct, Struct):
            raise ObjectError(f"{file}: an entry of {section.name} is not a struct variable", section=".BTF")
        end = entry.offset + struct.size
        if end > section.size:
            raise ObjectError(f"{file}: {var.name} lies outside its section", section=section.name, offset=entry.offset)
        link = section.name.endswith(".link")
        flags = MapFlags.LINK if link else MapFlags(0)
        spec = MapSpec(var.name, MapType.STRUCT_OPS, 4, 0, 1, flags, btf=btf)
        spec.struct_ops = StructOps(btf.resolve(var.type_id), bytearray(section.data[entry.offset : end]), link)
        found.append((entry.offset, end, spec))
    for reloc in relocs:
        owner = next((row for row in found if row[0] <= reloc.offset < row[1]), None)
        if owner is None or reloc.offset + 8 > owner[1]:
            raise ObjectError(f"{file}: a relocation belongs to no struct", section=section.name, offset=reloc.offset)
        struct_ops = owner[2].struct_ops
        assert struct_ops is not None
        at = reloc.offset - owner[0]
        addend = int.from_bytes(struct_ops.data[at : at + 8], "little")
        name = program_at(reloc, addend)
        if name is None:
            raise ObjectError(
                f'{file}: {owner[2].name}: the function pointer leads to no SEC("struct_ops") program',
                section=section.name,
                offset=reloc.offset,
            )
        struct_ops.functions[at] = name
        struct_ops.data[at : at + 8] = bytes(8)
    return [spec for _, _, spec in found]
