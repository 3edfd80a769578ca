"""Python names and annotations of an object's types, and their C text for docstrings."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator

from bpf2py.btf.cdump import declaration
from bpf2py.btf.codec import (
    ArrayCodec,
    BoolCodec,
    BytesCodec,
    CharArrayCodec,
    Codec,
    CodecOptions,
    EnumCodec,
    FloatCodec,
)
from bpf2py.btf.codec_for import codec_for
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import MODIFIERS, Array, Enum, Kind, Ref, Struct
from bpf2py.btf.values import StructCodec, UnionCodec, python_name
from bpf2py.codegen.paths import KINDS, locate
from bpf2py.errors import BtfError
from bpf2py.spec.object_spec import ObjectSpec

# Typedefs of the compiler, the C library and the kernel that only say how wide a number is: an alias would say less than int.
_NUMBERS = re.compile(
    r"(__)?(u|s|be|le|u?int|u?int_(least|fast))(8|16|32|64|128)(_t)?|u?int(ptr|max)_t|s?size_t|__sum16|__wsum|bool|_Bool"
    r"|u(char|short|int|long)|ptrdiff_t|unative|__kernel_\w+|__u?int128_t"
)

_IDENTIFIERS = re.compile(r"\w+")


def class_name(name: str) -> str:
    """``exec_event`` -> ``ExecEvent``; names that are not identifiers after that get an underscore."""
    words = [word for word in python_name(name).split("_") if word]
    joined = "".join(word[:1].upper() + word[1:] for word in words) or "_"
    if keyword.iskeyword(joined):  # None, True, False
        joined += "_"
    return joined if joined.isidentifier() else f"_{joined}"


class Types:
    """Names given to the types of one object.

    Attributes:
        names: Python name of each struct, union and enum by BTF type id, in the order they were met.
        paths: where each of them is found, see `bpf2py.codegen.paths`.
        aliases: Python name of each typedef, by its id; those that name a struct, union or enum share its name.
        any: what stands for a type that has no name here.
    """

    def __init__(self, spec: ObjectSpec, btf: Btf, reserved: set[str]) -> None:
        self.spec = spec
        self.btf = btf
        self.names: dict[int, str] = {}
        self.paths: dict[int, str] = {}
        self.aliases: dict[int, str] = {}
        self.any = "Any"
        self._taken = set(reserved)

    def add(self, type_id: int, path: str, parent: str, asked: bool = False, depth: int = 0) -> None:
        """Name a type and all it is made of.

        Args:
            type_id: the type; 0 for none.
            path: where it is found, should it have no name.
            parent: what it is called after in that case.
            asked: whether the user wants it by name: typedefs of mere numbers get an alias, too.
            depth: of structs in structs.
        """
        if not type_id or depth > 32:
            return
        typedefs, target = self._behind(type_id)
        btf_type = self.btf.type(target)
        if isinstance(btf_type, Array):
            self.add(btf_type.type_id, path, parent, depth=depth + 1)
        elif isinstance(btf_type, Struct | Enum):
            name = btf_type.name or (self.btf.type(typedefs[-1]).name if typedefs else "")
            self._add_class(target, btf_type, name, path, parent, bool(typedefs), depth)
        for typedef in reversed(typedefs):
            self._add_alias(typedef, target, asked)

    def _behind(self, type_id: int) -> tuple[list[int], int]:
        """The typedefs on the way to a type, and that type."""
        typedefs = []
        target = self.btf.resolve(type_id)  # refuses what refers to itself
        btf_type = self.btf.type(type_id)
        while isinstance(btf_type, Ref) and btf_type.kind in MODIFIERS:
            if btf_type.kind == Kind.TYPEDEF:
                typedefs.append(type_id)
            type_id = btf_type.type_id
            btf_type = self.btf.type(type_id)
        return typedefs, target

    def _add_class(
        self, type_id: int, btf_type: Struct | Enum, name: str, path: str, parent: str, typedef: bool, depth: int
    ) -> None:
        if type_id in self.names or not self.sized(type_id) or (isinstance(btf_type, Enum) and not btf_type.values):
            return
        if name:
            word = {Kind.STRUCT: "struct", Kind.UNION: "union"}.get(btf_type.kind, "enum")
            path = f"{word} {name}" if btf_type.name else f"typedef {name}"
        self.names[type_id] = self._unique(class_name(name or parent))
        # Linked objects may have two types of one name.
        self.paths[type_id] = path if self._found(path) == type_id else f"type {type_id}"
        if isinstance(btf_type, Struct):
            self._add_members(btf_type, self.paths[type_id], self.names[type_id], depth)

    def _add_members(self, struct: Struct, path: str, owner: str, depth: int) -> None:
        for member in struct.members:
            if member.name:
                self.add(member.type_id, f"{path}/{member.name}", f"{owner}_{member.name}", depth=depth + 1)
                continue
            inner = self.btf.resolved(member.type_id)
            if isinstance(inner, Struct) and depth < 32:  # its members belong to the outer one
                self._add_members(inner, path, owner, depth + 1)

    def _add_alias(self, type_id: int, target: int, asked: bool) -> None:
        typedef = self.btf.type(type_id)
        assert isinstance(typedef, Ref)
        if type_id in self.aliases or not self.sized(target) or (_NUMBERS.fullmatch(typedef.name) and not asked):
            return
        name = class_name(typedef.name)
        known = self.names.get(target)
        named_by_it = self.paths.get(target) == f"typedef {typedef.name}"
        self.aliases[type_id] = known if known is not None and (name == known or named_by_it) else self._unique(name)

    def _found(self, path: str) -> int:
        try:
            return locate(self.spec, path)
        except BtfError:
            return -1

    def sized(self, type_id: int) -> bool:
        """Whether there are values of a type."""
        try:
            codec_for(self.btf, type_id)
        except BtfError:
            return False
        return True

    def _unique(self, name: str) -> str:
        candidate, number = name, 2
        while candidate in self._taken:
            candidate, number = f"{name}{number}", number + 1
        self._taken.add(candidate)
        return candidate

    def asked(self, name: str) -> None:
        """Add what the user named with ``--type``. Raises BtfError when the object has no such type."""
        found = [i for i in self.btf.ids_by_name(name) if self.btf.kind(i) in sum(KINDS.values(), ())]
        if not found:
            raise BtfError(f"{self.btf.name}: there is no type named {name!r}")
        for type_id in found:
            self.add(type_id, "", "", asked=True)

    def new_aliases(self) -> Iterator[tuple[str, str, str]]:
        """(name, annotation, C) of the typedefs that are another name for something, after those they mention."""
        classes = set(self.names.values())
        waiting: dict[str, tuple[str, str]] = {}
        for type_id, name in self.aliases.items():
            typedef = self.btf.type(type_id)
            assert isinstance(typedef, Ref)
            if name not in classes:
                target = self.annotation(typedef.type_id, codec_for(self.btf, type_id))
                c = " ".join(declaration(self.btf, typedef.type_id, typedef.name).split())
                waiting[name] = (target, f"typedef {c};")
        while waiting:
            # An alias mentions at most one other, and no chain of typedefs is a circle.
            name = next(
                n for n, (target, _) in waiting.items() if not waiting.keys() & set(_IDENTIFIERS.findall(target))
            )
            yield name, *waiting.pop(name)

    def annotation(self, type_id: int, codec: Codec[object], key: bool = False) -> str:
        """The annotation of a value of this type as `codec` decodes it."""
        resolved = 0
        if type_id and self.sized(type_id) and codec is codec_for(self.btf, type_id, CodecOptions(key=key)):
            typedefs, resolved = self._behind(type_id)
            # Arrays are lists by name, but tuples in keys.
            if not (key and isinstance(codec, ArrayCodec)):
                for typedef in typedefs:
                    if typedef in self.aliases:
                        return self.aliases[typedef]
        if isinstance(codec, StructCodec | UnionCodec):
            return self.names.get(resolved, self.any)
        if isinstance(codec, EnumCodec):
            return self.names.get(resolved, "int")
        if isinstance(codec, ArrayCodec):
            element_id = getattr(self.btf.type(resolved), "type_id", 0) if resolved else 0
            element = self.annotation(element_id, codec.element, key)
            return f"tuple[{element}, ...]" if key else f"list[{element}]"
        for kind, text in ((CharArrayCodec, "str"), (BytesCodec, "bytes"), (BoolCodec, "bool"), (FloatCodec, "float")):
            if isinstance(codec, kind):
                return text
        return "int"


def title(path: str, name: str) -> str:
    """What a docstring begins with: ``struct event.``, or where the type is used."""
    word, _, rest = path.partition(" ")
    if "/" in path:
        outer, _, member = path.rpartition("/")
        return f"Type of {member} in {outer.replace('/', '.')}."
    if word in KINDS:
        return f"{path}."
    return f"{name}." if word == "type" else f"Type of {word} {rest}."


def c_text(btf: Btf, type_id: int, path: str) -> list[str]:
    """The C definition of a struct, union or enum, with the offset of each member."""
    btf_type = btf.type(type_id)
    assert isinstance(btf_type, Struct | Enum)
    word = {Kind.STRUCT: "struct", Kind.UNION: "union"}.get(btf_type.kind, "enum")
    typedef = path.removeprefix("typedef ") if path.startswith("typedef ") and "/" not in path else ""
    head = f"{'typedef ' if typedef else ''}{word} {btf_type.name}".rstrip()
    end = f"}} {typedef}".rstrip() + ";"
    if isinstance(btf_type, Enum):
        return [
            f"{head} {{  /* {btf_type.size} bytes */",
            *[f"    {e.name} = {e.value}," for e in btf_type.values],
            end,
        ]
    lines = [f"{head} {{  /* {btf_type.size} bytes */"]
    for member in btf_type.members:
        text = " ".join(declaration(btf, member.type_id, member.name).split())
        bits = f" : {member.bits}" if member.bits else ""
        lines.append(f"    {text}{bits};  /* {member.bit_offset // 8} */")
    return [*lines, end]
