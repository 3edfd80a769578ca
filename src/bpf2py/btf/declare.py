"""Codecs from C type names: ``"u32"``, ``"unsigned long"``, ``"char[16]"``, ``"bool"``; with BTF also ``"struct event[4]"``."""

from __future__ import annotations

import re

from bpf2py._typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from bpf2py.btf.codec import (
    DEFAULT_OPTIONS,
    ArrayCodec,
    BoolCodec,
    ByteArrayCodec,
    BytesCodec,
    CharArrayCodec,
    Codec,
    CodecOptions,
    FloatCodec,
    IntCodec,
    KeyBoolCodec,
)
from bpf2py.btf.codec_for import codec_for
from bpf2py.btf.types import Kind
from bpf2py.errors import BtfError, EncodeError

if TYPE_CHECKING:
    from bpf2py.btf.reader import Btf

    V = TypeVar("V")

    # A codec, or a class of a generated module.
    Typed: TypeAlias = Codec[V] | type[V]
    # What `key=`, `value=` and a reader's `type=` take: also other C types by name, and a number of raw bytes.
    TypeName: TypeAlias = str | int | Codec[Any] | type[Any]

_INTEGERS = {
    "char": (1, True), "signed char": (1, True), "unsigned char": (1, False),
    "short": (2, True), "unsigned short": (2, False), "int": (4, True), "unsigned int": (4, False), "unsigned": (4, False),
    "long": (8, True), "unsigned long": (8, False), "long long": (8, True), "unsigned long long": (8, False),
    "size_t": (8, False), "pid_t": (4, True),
}  # fmt: skip
for _bits in (8, 16, 32, 64):
    for _name in (f"u{_bits}", f"__u{_bits}", f"uint{_bits}_t"):
        _INTEGERS[_name] = (_bits // 8, False)
    for _name in (f"s{_bits}", f"__s{_bits}", f"int{_bits}_t"):
        _INTEGERS[_name] = (_bits // 8, True)
_FLOATS = {"float": 4, "double": 8}
_TAGS = {"struct": (Kind.STRUCT,), "union": (Kind.UNION,), "enum": (Kind.ENUM, Kind.ENUM64)}
_NAMED = (Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.TYPEDEF, Kind.INT)
_DECLARATION = re.compile(r"([A-Za-z_][\w ]*?)\s*((?:\[\s*\d+\s*\])*)")


def codec_of(type_name: object, options: CodecOptions = DEFAULT_OPTIONS, btf: Btf | None = None) -> Codec[Any]:
    """The codec of a C type name; codecs are returned as they are, an int means that many raw bytes.

    A class of a generated module means its type; other names than those of basic C types are looked for in `btf`.

    Raises EncodeError for a name that is neither.
    """
    if isinstance(type_name, Codec):
        return type_name
    if isinstance(type_name, type) and isinstance(getattr(type_name, "_codec", None), Codec):
        own: Codec[Any] = getattr(type_name, "_codec")  # noqa: B009
        return own
    if isinstance(type_name, int):
        return BytesCodec(type_name)
    match = _DECLARATION.fullmatch(str(type_name).strip())
    base = re.sub(r"\s+", " ", match[1]) if match else ""
    counts = [int(n) for n in re.findall(r"\d+", match[2])] if match else []
    if base in _INTEGERS:
        size, signed = _INTEGERS[base]
        codec: Codec[Any] = IntCodec(base, size, signed)
    elif base in ("bool", "_Bool"):
        codec = KeyBoolCodec(base) if options.key else BoolCodec(base)
    elif base in _FLOATS:
        codec = FloatCodec(base, _FLOATS[base])
    else:
        named = _named(base, options, btf)
        if named is None:
            where = "its types have none of this name" if btf is not None else "structs come from an object's BTF"
            raise EncodeError(f"{type_name!r} is not a basic C type such as u32, long or char[16], and {where}")
        codec = named
    for position, count in enumerate(reversed(counts)):
        if position == 0 and base == "char":
            codec = CharArrayCodec(count, options)
        elif position == 0 and codec.size == 1 and isinstance(codec, IntCodec) and not codec.signed:
            codec = ByteArrayCodec(count, f"{base}[{count}]")
        else:
            codec = ArrayCodec(codec, count, options)
    return codec


def _named(name: str, options: CodecOptions, btf: Btf | None) -> Codec[Any] | None:
    tag, _, bare = name.rpartition(" ")
    if btf is None or not bare or (tag and tag not in _TAGS):
        return None
    kinds = _TAGS.get(tag, _NAMED)
    for type_id in btf.ids_by_name(bare):
        if btf.kind(type_id) in kinds:
            try:
                return codec_for(btf, type_id, options)
            except BtfError as error:
                raise EncodeError(f"{name}: {error.message}") from None
    return None
