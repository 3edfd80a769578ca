"""BTF types as Python annotations, and the C text of a type for docstrings."""

from __future__ import annotations

from bpf2py.btf.cdump import declaration
from bpf2py.btf.codec import (
    ArrayCodec,
    BoolCodec,
    BytesCodec,
    CharArrayCodec,
    Codec,
    EnumCodec,
    FloatCodec,
)
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Enum, Kind, Struct
from bpf2py.btf.values import StructCodec, UnionCodec, python_name


def class_name(name: str) -> str:
    """``exec_event`` -> ``ExecEvent``; names that are no identifiers after that get a leading underscore."""
    words = [word for word in python_name(name).split("_") if word]
    joined = "".join(word[:1].upper() + word[1:] for word in words) or "_"
    return joined if joined.isidentifier() else f"_{joined}"


class Types:
    """Names given to the structs, unions and enums of one object.

    Attributes:
        structs, enums: Python name by BTF type id, in the order they were met.
    """

    def __init__(self, btf: Btf, reserved: set[str]) -> None:
        self.btf = btf
        self.structs: dict[int, str] = {}
        self.enums: dict[int, str] = {}
        self._taken = set(reserved)

    def add(self, type_id: int, depth: int = 0) -> None:
        """Name a type and every named struct, union and enum it embeds."""
        resolved = self.btf.resolve(type_id)
        btf_type = self.btf.type(resolved)
        if depth > 32 or resolved in self.structs or resolved in self.enums:
            return
        if isinstance(btf_type, Struct):
            if btf_type.name:
                self.structs[resolved] = self._unique(class_name(btf_type.name))
            for member in btf_type.members:
                self.add(member.type_id, depth + 1)
        elif isinstance(btf_type, Enum):
            if btf_type.name:
                self.enums[resolved] = self._unique(class_name(btf_type.name))
        elif btf_type.kind == Kind.ARRAY:
            self.add(btf_type.type_id, depth + 1)  # type: ignore[union-attr]

    def _unique(self, name: str) -> str:
        candidate, number = name, 2
        while candidate in self._taken:
            candidate, number = f"{name}{number}", number + 1
        self._taken.add(candidate)
        return candidate

    def annotation(self, type_id: int, codec: Codec[object], key: bool = False) -> str:
        """The annotation of a value of this type as `codec` decodes it."""
        resolved = self.btf.resolve(type_id) if type_id else 0
        if isinstance(codec, StructCodec | UnionCodec):
            return self.structs.get(resolved, "Any")
        if isinstance(codec, EnumCodec):
            return "int"
        if isinstance(codec, ArrayCodec):
            element_id = getattr(self.btf.type(resolved), "type_id", 0) if resolved else 0
            element = self.annotation(element_id, codec.element, key)
            return f"tuple[{element}, ...]" if key else f"list[{element}]"
        for kind, text in ((CharArrayCodec, "str"), (BytesCodec, "bytes"), (BoolCodec, "bool"), (FloatCodec, "float")):
            if isinstance(codec, kind):
                return text
        return "int"


def c_text(btf: Btf, type_id: int) -> list[str]:
    """The C definition of a struct, union or enum, with the offset of each member."""
    btf_type = btf.type(type_id)
    if isinstance(btf_type, Enum):
        return [f"enum {btf_type.name} {{", *[f"    {e.name} = {e.value}," for e in btf_type.values], "};"]
    assert isinstance(btf_type, Struct)
    word = "struct" if btf_type.kind == Kind.STRUCT else "union"
    lines = [f"{word} {btf_type.name} {{  /* {btf_type.size} bytes */"]
    for member in btf_type.members:
        text = " ".join(declaration(btf, member.type_id, member.name).split())
        bits = f" : {member.bits}" if member.bits else ""
        lines.append(f"    {text}{bits};  /* {member.bit_offset // 8} */")
    return [*lines, "};"]
