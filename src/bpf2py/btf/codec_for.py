"""`codec_for`: the codec of a BTF type."""

from __future__ import annotations

from collections.abc import Mapping

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.btf.codec import (
    DEFAULT_OPTIONS,
    ArrayCodec,
    BigIntCodec,
    BoolCodec,
    ByteArrayCodec,
    BytesCodec,
    CharArrayCodec,
    Codec,
    CodecOptions,
    EnumCodec,
    FloatCodec,
    IntCodec,
    KeyBoolCodec,
    OpenEnumCodec,
)
from bpf2py.btf.reader import MAX_DEPTH, Btf
from bpf2py.btf.types import INT_BOOL, Array, Enum, Float, Int, Kind, Struct, Var
from bpf2py.errors import BtfError

if TYPE_CHECKING:
    from bpf2py.btf import values
else:
    values = module("bpf2py.btf.values")

__all__ = ["codec_for", "use_classes"]


def use_classes(btf: Btf, classes: Mapping[int, type[Any]]) -> None:
    """Have values of these types decoded to instances of these classes, as generated modules do for their objects.

    To be called before the first codec of `btf` is made. An enum's class must take values without a name.

    Args:
        btf: the types.
        classes: by the id of the type, a subclass of `StructValue`, `UnionValue` or IntEnum.
    """
    btf.classes = dict(classes)


def codec_for(btf: Btf, type_id: int, options: CodecOptions = DEFAULT_OPTIONS) -> Codec[Any]:
    """The codec of a BTF type; cached in the `Btf`.

    Raises:
        BtfError: the type has no size (void, a function, a forward declaration) or is damaged.
    """
    return _build(btf, type_id, options, 0)


def _build(btf: Btf, type_id: int, options: CodecOptions, depth: int) -> Codec[Any]:
    if depth > MAX_DEPTH:
        raise BtfError(f"{btf.name}: type {type_id} is nested too deeply", section=".BTF")
    resolved = btf.resolve(type_id)
    cache_key = (resolved, options)
    found = btf.codecs.get(cache_key)
    if found is None:
        found = btf.codecs[cache_key] = _make(btf, resolved, options, depth)
    return found


def _make(btf: Btf, type_id: int, options: CodecOptions, depth: int) -> Codec[Any]:
    btf_type = btf.type(type_id)
    cls = btf.classes.get(type_id)
    if isinstance(btf_type, Int):
        if btf_type.encoding & INT_BOOL and btf_type.size == 1:
            return KeyBoolCodec(btf_type.name) if options.key else BoolCodec(btf_type.name)
        if btf_type.size in (1, 2, 4, 8):
            return IntCodec(btf_type.name, btf_type.size, btf_type.signed)
        return BigIntCodec(btf_type.name, btf_type.size, btf_type.signed)
    if btf_type.kind == Kind.PTR:
        return IntCodec("pointer", 8, signed=False)
    if isinstance(btf_type, Enum):
        if btf_type.size in (1, 2, 4, 8):
            return EnumCodec(btf_type) if cls is None else OpenEnumCodec(btf_type, cls)
        raise BtfError(f"{btf.name}: enum {btf_type.name} has {btf_type.size} bytes", section=".BTF")
    if isinstance(btf_type, Float):
        return FloatCodec(btf_type.name, btf_type.size) if btf_type.size in (2, 4, 8) else BytesCodec(btf_type.size)
    if isinstance(btf_type, Array):
        btf.size_of(type_id)  # refuses what is larger than any map can hold
        element_type = btf.resolved(btf_type.type_id)
        if isinstance(element_type, Int) and element_type.size == 1 and not element_type.encoding & INT_BOOL:
            if element_type.name == "char":
                return CharArrayCodec(btf_type.count, options)
            if not element_type.signed:
                return ByteArrayCodec(btf_type.count, f"{element_type.name}[{btf_type.count}]")
        return ArrayCodec(_build(btf, btf_type.type_id, options, depth + 1), btf_type.count, options)
    if isinstance(btf_type, Struct):
        return values.make_struct_codec(
            btf, btf_type, options, lambda member_id: _build(btf, member_id, options, depth + 1), cls
        )
    if isinstance(btf_type, Var):
        return _build(btf, btf_type.type_id, options, depth + 1)
    raise BtfError(f"{btf.name}: type {type_id} ({btf_type.kind.name} {btf_type.name!r}) has no size")
