"""numpy dtypes of codecs, and arrays straight from map buffers: no Python code per element."""

from __future__ import annotations

from typing import Any

import numpy as np

from bpf2py.btf.codec import (
    ArrayCodec,
    BoolCodec,
    ByteArrayCodec,
    CharArrayCodec,
    Codec,
    EnumCodec,
    FloatCodec,
    IntCodec,
)
from bpf2py.btf.values import Field, StructCodec, UnionCodec, _bit_signed, _visible


def dtype_of(codec: Codec[Any]) -> np.dtype[Any]:
    """The dtype of a type's values.

    Integers, enums and pointers are integers; char[N] is ``S<N>`` (numpy strips trailing NULs), unsigned char[N] a
    sub-array of u1, nested structs nested dtypes with C's offsets, unions fields at the same offset. Bitfields become fields of the
    declared integer type. Anything else is raw ``V<size>``.
    """
    return _dtype(codec, raw=False)


def _dtype(codec: Codec[Any], raw: bool) -> np.dtype[Any]:
    if isinstance(codec, IntCodec):
        return np.dtype(f"<{'i' if codec.signed else 'u'}{codec.size}")
    if isinstance(codec, EnumCodec):
        return np.dtype(f"<{'i' if codec.leaf.islower() else 'u'}{codec.size}")
    if isinstance(codec, BoolCodec):
        return np.dtype(np.bool_)
    if isinstance(codec, FloatCodec):
        return np.dtype(f"<f{codec.size}")
    if isinstance(codec, CharArrayCodec):
        return np.dtype(f"S{codec.size}") if codec.size else np.dtype("V0")
    if isinstance(codec, ByteArrayCodec):
        return np.dtype(("u1", (codec.size,)))
    if isinstance(codec, ArrayCodec):
        return np.dtype((_dtype(codec.element, raw), (codec.count,)))
    if isinstance(codec, StructCodec) and not raw and has_bitfields(codec):
        return _converted_dtype(codec)
    if isinstance(codec, StructCodec | UnionCodec):
        plain = [(f.name, _dtype(f.codec, raw), f.offset) for f in codec.fields if not f.bits]
        names, formats, offsets = zip(*plain, strict=True) if plain else ((), (), ())
        if isinstance(codec, StructCodec):
            names, formats, offsets = _flatten_anonymous(codec, names, formats, offsets, raw)
        return np.dtype(
            {"names": list(names), "formats": list(formats), "offsets": list(offsets), "itemsize": codec.size}  # type: ignore[call-overload]
        )
    return np.dtype(f"V{codec.size}")


def _flatten_anonymous(codec: StructCodec, names: Any, formats: Any, offsets: Any, raw: bool) -> tuple[Any, Any, Any]:
    """Members of an anonymous union are members of the struct, at the same offset."""
    rows = []
    anonymous = {f.name: f for f in codec.fields if f.anonymous}
    for name, form, offset in zip(names, formats, offsets, strict=True):
        field = anonymous.get(name)
        if field is None or not isinstance(field.codec, UnionCodec):
            rows.append((name, form, offset))
            continue
        rows += [(f.name, _dtype(f.codec, raw), offset + f.offset) for f in field.codec.fields if not f.bits]
    return tuple(zip(*rows, strict=True)) if rows else ((), (), ())


def has_bitfields(codec: Codec[Any]) -> bool:
    """Whether a struct, or a struct in it, has bitfields, which need a copy of the array."""
    if isinstance(codec, StructCodec):
        return any(f.bits or has_bitfields(f.codec) for f in codec.fields)
    return isinstance(codec, ArrayCodec) and has_bitfields(codec.element)


def _converted_dtype(codec: StructCodec) -> np.dtype[Any]:
    return np.dtype([(f.name, _field_dtype(f)) for f in codec.fields if _visible(f) and not f.anonymous])


def _field_dtype(field: Field) -> np.dtype[Any]:
    return _dtype(field.codec, raw=False)


def array_from(
    codec: Codec[Any], buffer: Any, count: int, stride: int | None = None, slots: int = 0
) -> np.ndarray[Any, Any]:
    """`count` values that lie `stride` bytes apart in a buffer, as an array that owns its memory.

    With `slots` (per-CPU values) the array has the shape (count, slots), else (count,).
    """
    stride = codec.size if stride is None else stride
    raw = np.dtype(_dtype(codec, raw=True))
    base, sub = (raw.base, raw.shape) if raw.subdtype is not None else (raw, ())
    shape: tuple[int, ...] = (count, slots) if slots else (count,)
    strides: tuple[int, ...] = (stride * slots, stride) if slots else (stride,)
    inner: list[int] = []
    step = base.itemsize
    for extent in reversed(sub):
        inner.insert(0, step)
        step *= extent
    if not count or not codec.size:
        return np.empty(shape, dtype_of(codec))
    view: np.ndarray[Any, Any] = np.ndarray(shape + tuple(sub), base, buffer, 0, strides + tuple(inner))
    if isinstance(codec, StructCodec) and has_bitfields(codec):
        words = np.ndarray((*shape, codec.size), np.uint8, buffer, 0, (*strides, 1))
        return _extract(codec, view, words)
    return view.copy()


def _extract(codec: StructCodec, view: np.ndarray[Any, Any], octets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Structs with bitfields: a new array whose fields hold the extracted values."""
    result = np.zeros(view.shape, dtype_of(codec))
    for field in codec.fields:
        if field.anonymous:
            continue
        if not field.bits:
            nested = field.codec
            if isinstance(nested, StructCodec) and has_bitfields(nested):
                part = octets[..., field.offset : field.offset + nested.size]
                result[field.name] = _extract(nested, view[field.name], part)
            else:
                result[field.name] = view[field.name]
            continue
        start, end = field.bit_offset // 8, (field.bit_offset + field.bits + 7) // 8
        word = np.zeros(view.shape, np.uint64)
        for position in range(min(end - start, 8)):
            word |= octets[..., start + position].astype(np.uint64) << np.uint64(8 * position)
        word = (word >> np.uint64(field.bit_offset % 8)) & np.uint64((1 << field.bits) - 1)
        if _bit_signed(field.codec):
            sign = np.uint64(1 << (field.bits - 1))
            word = (word ^ sign) - sign
            result[field.name] = word.astype(np.int64)
        else:
            result[field.name] = word
    return result


def bytes_of(codec: Codec[Any], values: Any) -> bytes:
    """The encodings of an array's elements, back to back: the way back from `array_from`.

    Arrays of another dtype are converted where no value changes (else the elements are encoded one by one, range-checked).
    """
    array = np.asarray(values)
    wanted = _dtype(codec, raw=True)
    base = wanted.base if wanted.subdtype is not None else wanted
    if array.dtype != base and array.dtype.names is None and base.names is None:
        converted = array.astype(base, casting="unsafe")
        if (
            array.dtype.kind in "iub"
            and base.kind in "iu"
            and not np.array_equal(converted.astype(object), array.astype(object))
        ):
            return codec.encode_many(array.tolist())
        array = converted
    elif array.dtype != base:
        return codec.encode_many([dict(zip(array.dtype.names or (), row, strict=True)) for row in array.tolist()])
    data = np.ascontiguousarray(array).tobytes()
    count = len(array)
    if len(data) != count * codec.size:
        return codec.encode_many(array.tolist())
    return data
