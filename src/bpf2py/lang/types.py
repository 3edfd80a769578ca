"""The types of the language. They know sizes and fields, and nothing of C but the names the kernel gives its types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "BOOL", "CHAR", "INTEGERS", "LITERAL", "NONE", "S8", "S16", "S32", "S64", "STRING", "U8", "U16", "U32", "U64", "VOID",
    "Array", "Field", "FuncType", "Int", "MapRef", "Opt", "Ptr", "Simple", "Struct", "Type", "align_of", "pointer_of",
    "show", "size_of",
]  # fmt: skip


class Type:
    """Base of all types."""

    __slots__ = ()


@dataclass(frozen=True)
class Simple(Type):
    """A type without parts: None, a text literal, nothing (void), an integer literal that has no width yet."""

    name: str


@dataclass(frozen=True)
class Int(Type):
    """An integer of `bits` bits; `name` is how the kernel spells it where that matters (``char``, ``long``, an enum)."""

    bits: int
    signed: bool
    name: str = field(default="", compare=False)

    @property
    def low(self) -> int:
        """The least value."""
        return -(1 << self.bits - 1) if self.signed else 0

    @property
    def high(self) -> int:
        """The greatest value."""
        return (1 << self.bits - self.signed) - 1

    def wrap(self, value: int) -> int:
        """`value` as these bits hold it."""
        value &= (1 << self.bits) - 1
        return value - (1 << self.bits) if self.signed and value > self.high else value


@dataclass(frozen=True)
class Array(Type):
    """`count` elements; 0 for a flexible array."""

    element: Type
    count: int


@dataclass(frozen=True)
class Ptr(Type):
    """A pointer.

    Attributes:
        target: what it points to.
        probe: the memory may only be read through a helper, because nobody vouches for the address.
        arena: it leads into an arena.
        extent: how many bytes are there from this address on, where that is known: the verifier lets no other be touched.
    """

    target: Type
    probe: bool = field(default=False, compare=False)
    arena: bool = field(default=False, compare=False)
    extent: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Opt(Type):
    """A pointer that may be None."""

    pointer: Ptr


class Field:
    """A member of a struct or union; `bits` is 0 where it is not a bit-field."""

    __slots__ = ("bits", "contains", "name", "tags", "type")

    def __init__(self, name: str, type: Type, bits: int = 0, contains: str = "", tags: tuple[str, ...] = ()) -> None:
        self.name = name
        self.type = type
        self.bits = bits
        self.contains = contains  # of a list or tree: the struct of its elements and their field, "Node:link"
        self.tags = tags  # btf_decl_tag attributes


class Struct(Type):
    """A struct or union: the program's own, or the kernel's, whose fields are looked up when they are asked for."""

    __slots__ = ("_fields", "align", "kernel", "name", "packed", "padded", "size", "tag", "typedef", "union")

    def __init__(
        self, name: str, fields: dict[str, Field] | Callable[[], dict[str, Field]], *, union: bool = False,
        packed: bool = False, kernel: bool = False, size: int = 0, align: int = 1, typedef: bool = False
    ) -> None:  # fmt: skip
        self.name = name
        self._fields = fields
        self.union = union
        self.packed = packed
        self.kernel = kernel
        self.size = size
        self.align = align
        self.padded = False
        self.typedef = typedef  # known by a typedef only

    @property
    def fields(self) -> dict[str, Field]:
        """The members by name; those of nameless members among them."""
        if not isinstance(self._fields, dict):
            self._fields = self._fields()
        return self._fields

    def lay_out(self) -> None:
        """Compute size, alignment and whether there is padding, as the C ABI does."""
        offset = 0  # in bits
        align = 1
        largest = 0
        padded = False
        for each in self.fields.values():
            size, step = size_of(each.type) * 8, (1 if self.packed else align_of(each.type)) * 8
            align = max(align, step // 8)
            if self.union:
                largest = max(largest, size)
                continue
            if each.bits:
                unit = size
                if not self.packed and offset // unit != (offset + each.bits - 1) // unit:
                    offset += -offset % unit
                offset += each.bits
                continue
            padded |= bool(-offset % step) or (isinstance(each.type, Struct) and each.type.padded)
            offset += -offset % step + size
        total = largest if self.union else offset
        padded |= bool(-total % (align * 8)) or self.union
        self.size, self.align, self.padded = (total + -total % (align * 8)) // 8, align, padded


@dataclass(frozen=True)
class MapRef(Type):
    """A map, or a pointer to an inner map (`inner`)."""

    map: Any  # tree.MapDecl
    inner: bool = False


@dataclass(frozen=True)
class FuncType(Type):
    """A function or program by its name."""

    function: Any


VOID, NONE, STRING = Simple("void"), Simple("None"), Simple("text")
LITERAL = Simple("int")
BOOL = Simple("bool")
U8, U16, U32, U64 = Int(8, False), Int(16, False), Int(32, False), Int(64, False)
S8, S16, S32, S64 = Int(8, True), Int(16, True), Int(32, True), Int(64, True)
CHAR = Int(8, False, "char")
INTEGERS: dict[str, Type] = {
    "u8": U8, "u16": U16, "u32": U32, "u64": U64, "s8": S8, "s16": S16, "s32": S32, "s64": S64,
    "u128": Int(128, False), "bool": BOOL, "int": S64, "char": CHAR,
    "be16": Int(16, False, "__be16"), "be32": Int(32, False, "__be32"), "be64": Int(64, False, "__be64"),
}  # fmt: skip


def size_of(kind: Type) -> int:
    """sizeof() in bytes; 0 for what has no size."""
    if isinstance(kind, Int):
        return kind.bits // 8
    if isinstance(kind, Array):
        return size_of(kind.element) * kind.count
    if isinstance(kind, Struct):
        return kind.size
    if isinstance(kind, Ptr | Opt):
        return 8
    return 1 if kind == BOOL else 8 if kind == LITERAL else 0


def align_of(kind: Type) -> int:
    """Alignment in bytes."""
    if isinstance(kind, Array):
        return align_of(kind.element)
    if isinstance(kind, Struct):
        return kind.align
    return max(size_of(kind), 1)


def show(kind: Type) -> str:
    """A type as the program writes it."""
    if isinstance(kind, Int):
        return kind.name if kind.name.startswith(("char", "be")) else f"{'s' if kind.signed else 'u'}{kind.bits}"
    if isinstance(kind, Array):
        base: Type = kind
        counts = ""
        while isinstance(base, Array):
            counts += f"[{base.count}]"
            base = base.element
        return show(base) + counts
    if isinstance(kind, Ptr):
        return f"Ptr[{show(kind.target)}]"
    if isinstance(kind, Opt):
        return f"{show(kind.pointer)} | None"
    if isinstance(kind, Struct | Simple):
        return kind.name or ("union" if isinstance(kind, Struct) and kind.union else "struct")
    if isinstance(kind, MapRef):
        return f"{kind.map.kind_name}"
    return "function"


def pointer_of(kind: Type) -> Ptr | None:
    """The pointer of a type that is one, or None."""
    kind = kind.pointer if isinstance(kind, Opt) else kind
    return kind if isinstance(kind, Ptr) else None
