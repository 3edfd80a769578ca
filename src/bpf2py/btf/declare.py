"""Codecs from C type names: ``"u32"``, ``"unsigned long"``, ``"char[16]"``, ``"u64[4]"``, ``"bool"``."""

from __future__ import annotations

import re
from typing import Any

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
)
from bpf2py.errors import EncodeError

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
_DECLARATION = re.compile(r"([A-Za-z_][\w ]*?)\s*((?:\[\s*\d+\s*\])*)")


def codec_of(type_name: Any, options: CodecOptions = DEFAULT_OPTIONS) -> Codec[Any]:
    """The codec of a C type name; codecs are returned as they are, an int means that many raw bytes.

    Raises EncodeError for a name that is no basic C type: structs come from an object's BTF (``spec.types``).
    """
    if isinstance(type_name, Codec):
        return type_name
    if isinstance(type_name, int):
        return BytesCodec(type_name)
    match = _DECLARATION.fullmatch(str(type_name).strip())
    base = re.sub(r"\s+", " ", match[1]) if match else ""
    counts = [int(n) for n in re.findall(r"\d+", match[2])] if match else []
    if base in _INTEGERS:
        size, signed = _INTEGERS[base]
        codec: Codec[Any] = IntCodec(base, size, signed)
    elif base in ("bool", "_Bool"):
        codec = BoolCodec(base)
    elif base in _FLOATS:
        codec = FloatCodec(base, _FLOATS[base])
    else:
        raise EncodeError(
            f"{type_name!r} is no basic C type such as u32, long or char[16]; structs come from an object's BTF"
        )
    for position, count in enumerate(reversed(counts)):
        if position == 0 and base == "char":
            codec = CharArrayCodec(count, options)
        elif position == 0 and codec.size == 1 and isinstance(codec, IntCodec) and not codec.signed:
            codec = ByteArrayCodec(count, f"{base}[{count}]")
        else:
            codec = ArrayCodec(codec, count, options)
    return codec
