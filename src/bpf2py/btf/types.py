"""The BTF type kinds as plain Python objects (kernel: Documentation/bpf/btf.rst, include/uapi/linux/btf.h).

References to other types stay type ids: a type belongs to the `Btf` it was read from, and a 5 MB kernel BTF is only
decoded where somebody looks.
"""

from __future__ import annotations

from bpf2py._typing import IntEnum, NamedTuple, TypeAlias


class Kind(IntEnum):
    """BTF_KIND_* numbers. FLOAT since Linux 5.13, DECL_TAG 5.16, TYPE_TAG 5.17, ENUM64 6.0."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


MODIFIERS = frozenset({Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG})

INT_SIGNED, INT_CHAR, INT_BOOL = 1, 2, 4


class Member(NamedTuple):
    """A struct or union member; `bit_offset` and `bits` (0 when it is not a bitfield) count bits from the start."""

    name: str
    type_id: int
    bit_offset: int
    bits: int


class Enumerator(NamedTuple):
    """One name of an enum and its value, negative where the enum is signed."""

    name: str
    value: int


class Param(NamedTuple):
    """A function parameter; an empty name and type id 0 at the end stand for ``...``."""

    name: str
    type_id: int


class SecVar(NamedTuple):
    """A variable's place in a data section, in bytes."""

    type_id: int
    offset: int
    size: int


class Void:
    """Type id 0."""

    __slots__ = ()
    kind = Kind.VOID
    name = ""


class Int:
    """An integer of `size` bytes holding `bits` bits at `bit_offset`; `encoding` is a set of INT_* bits."""

    __slots__ = ("bit_offset", "bits", "encoding", "name", "size")
    kind = Kind.INT

    def __init__(self, name: str, size: int, encoding: int = 0, bits: int | None = None, bit_offset: int = 0) -> None:
        self.name = name
        self.size = size
        self.encoding = encoding
        self.bits = size * 8 if bits is None else bits
        self.bit_offset = bit_offset

    @property
    def signed(self) -> bool:
        """Whether values are two's complement."""
        return bool(self.encoding & INT_SIGNED)


class Float:
    """An IEEE floating point number of `size` bytes."""

    __slots__ = ("name", "size")
    kind = Kind.FLOAT

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size


class Ref:
    """A kind that only refers to another type: PTR, TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG and FUNC.

    `linkage` is used by FUNC alone: 0 static, 1 global, 2 extern.
    """

    __slots__ = ("kind", "kind_flag", "linkage", "name", "type_id")

    def __init__(self, kind: Kind, name: str, type_id: int, linkage: int = 0, kind_flag: bool = False) -> None:
        self.kind = kind
        self.name = name
        self.type_id = type_id
        self.linkage = linkage
        self.kind_flag = kind_flag


class Array:
    """`count` elements of `type_id`."""

    __slots__ = ("count", "index_type_id", "type_id")
    kind = Kind.ARRAY
    name = ""

    def __init__(self, type_id: int, index_type_id: int, count: int) -> None:
        self.type_id = type_id
        self.index_type_id = index_type_id
        self.count = count


class Struct:
    """A struct or union of `size` bytes."""

    __slots__ = ("kind", "kind_flag", "members", "name", "size")

    def __init__(self, kind: Kind, name: str, size: int, members: tuple[Member, ...], kind_flag: bool) -> None:
        self.kind = kind
        self.name = name
        self.size = size
        self.members = members
        self.kind_flag = kind_flag


class Enum:
    """An enum (ENUM, or ENUM64 since Linux 6.0) of `size` bytes."""

    __slots__ = ("kind", "name", "signed", "size", "values")

    def __init__(self, kind: Kind, name: str, size: int, values: tuple[Enumerator, ...], signed: bool) -> None:
        self.kind = kind
        self.name = name
        self.size = size
        self.values = values
        self.signed = signed


class Fwd:
    """A forward declaration of a struct, or of a union."""

    __slots__ = ("name", "union")
    kind = Kind.FWD

    def __init__(self, name: str, union: bool) -> None:
        self.name = name
        self.union = union


class FuncProto:
    """A function's return type and parameters."""

    __slots__ = ("params", "return_type_id")
    kind = Kind.FUNC_PROTO
    name = ""

    def __init__(self, return_type_id: int, params: tuple[Param, ...]) -> None:
        self.return_type_id = return_type_id
        self.params = params


class Var:
    """A global variable; `linkage` is 0 static, 1 global, 2 extern."""

    __slots__ = ("linkage", "name", "type_id")
    kind = Kind.VAR

    def __init__(self, name: str, type_id: int, linkage: int) -> None:
        self.name = name
        self.type_id = type_id
        self.linkage = linkage


class DataSec:
    """A data section and its variables."""

    __slots__ = ("name", "size", "variables")
    kind = Kind.DATASEC

    def __init__(self, name: str, size: int, variables: tuple[SecVar, ...]) -> None:
        self.name = name
        self.size = size
        self.variables = variables


class DeclTag:
    """A btf_decl_tag on a type, a member or a parameter (`component_index`; -1 for the type itself)."""

    __slots__ = ("component_index", "kind_flag", "name", "type_id")
    kind = Kind.DECL_TAG

    def __init__(self, name: str, type_id: int, component_index: int, kind_flag: bool = False) -> None:
        self.name = name
        self.type_id = type_id
        self.component_index = component_index
        self.kind_flag = kind_flag


BtfType: TypeAlias = Void | Int | Float | Ref | Array | Struct | Enum | Fwd | FuncProto | Var | DataSec | DeclTag
