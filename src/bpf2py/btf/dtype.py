"""numpy dtypes of codecs, and arrays straight from map buffers: no Python code per element."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from bpf2py._typing import Any
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
from bpf2py.btf.values import Field, StructCodec, UnionCodec, _bit_signed
from bpf2py.errors import BtfError


def dtype_of(codec: Codec[Any]) -> np.dtype[Any]:
    """The dtype of a type's values.

    Integers, enums and pointers are integers; char[N] is ``S<N>`` (numpy strips trailing NULs), unsigned char[N] a
    sub-array of u1, nested structs nested dtypes with C's offsets, unions fields at the same offset (without their
    bitfields). A struct with bitfields becomes a dtype without padding, in which they are fields of the declared integer
    type. Anything else is raw ``V<size>``.

    Raises BtfError for types of 2 GiB and more, of which numpy has none.
    """
    if codec.size >= 1 << 31:
        raise BtfError(f"numpy has no types of {codec.size} bytes")
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
        element = dtype_of(codec.element)
        if codec.count * element.itemsize >= 1 << 31:  # structs with bitfields take more room than in C
            raise BtfError(f"numpy has no types of {codec.count * element.itemsize} bytes")
        base, shape = _parts(element)
        if not base.itemsize:
            return np.dtype("V0")  # numpy has no arrays of nothing
        return np.dtype((base, (codec.count, *shape)))
    if isinstance(codec, StructCodec) and has_bitfields(codec):
        return np.dtype([(row.name, dtype_of(row.codec)) for row in _members(codec)])
    if isinstance(codec, StructCodec | UnionCodec):
        rows = [row for row in _members(codec) if not row.bits]
        return np.dtype(
            {
                "names": [row.name for row in rows],
                # What would be converted, in a union, stays bytes.
                "formats": [
                    np.dtype(f"V{row.codec.size}") if has_bitfields(row.codec) else dtype_of(row.codec) for row in rows
                ],
                "offsets": [row.offset for row in rows],
                "itemsize": codec.size,
            }
        )
    return np.dtype(f"V{codec.size}")


def _parts(dtype: np.dtype[Any]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The element's dtype and the shape of a sub-array dtype; any other with the shape ()."""
    return dtype.subdtype if dtype.subdtype is not None else (dtype, ())


def _members(codec: StructCodec | UnionCodec, offset: int = 0) -> Iterator[Field]:
    """The members, those of anonymous unions among them, with offsets in the outermost struct."""
    for field in codec.fields:
        moved = field._replace(offset=field.offset + offset, bit_offset=field.bit_offset + offset * 8)
        if field.anonymous and isinstance(field.codec, UnionCodec):
            yield from _members(field.codec, moved.offset)
        else:
            yield moved


def has_bitfields(codec: Codec[Any]) -> bool:
    """Whether a struct, or a struct in it, has bitfields, which need a copy of the array."""
    if isinstance(codec, StructCodec):
        return any(row.bits or has_bitfields(row.codec) for row in _members(codec))
    return isinstance(codec, ArrayCodec) and has_bitfields(codec.element)


def array_from(
    codec: Codec[Any], buffer: bytes | bytearray | memoryview, count: int, stride: int | None = None, slots: int = 0
) -> np.ndarray[Any, Any]:
    """`count` values that lie `stride` bytes apart in a buffer, as an array that shares no memory with it.

    With `slots` (per-CPU values) the array has the shape (count, slots), else (count,).
    """
    stride = codec.size if stride is None else stride
    shape: tuple[int, ...] = (count, slots) if slots else (count,)
    strides: tuple[int, ...] = (stride * slots, stride) if slots else (stride,)
    if not count or not codec.size:
        return np.zeros(shape, dtype_of(codec))
    octets: np.ndarray[Any, Any] = np.ndarray((*shape, codec.size), np.uint8, buffer, 0, (*strides, 1))
    return _extract(codec, octets)


def _extract(codec: Codec[Any], octets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Values from the bytes in the last axis, copied."""
    shape = octets.shape[:-1]
    if not has_bitfields(codec):
        dtype = dtype_of(codec)
        if not dtype.itemsize:
            return np.zeros(shape, dtype)
        base, sub = _parts(dtype)
        # Copied as bytes: numpy copies structs by their fields, and leaves what it finds in the padding.
        return np.array(octets, order="C").view(base).reshape(shape + sub)
    if isinstance(codec, ArrayCodec):
        return _extract(codec.element, octets.reshape((*shape, codec.count, codec.element.size)))
    assert isinstance(codec, StructCodec)
    result = np.zeros(shape, dtype_of(codec))
    for row in _members(codec):
        if row.bits:
            result[row.name] = _bits(row, octets)
        elif row.codec.size:
            result[row.name] = _extract(row.codec, octets[..., row.offset : row.offset + row.codec.size])
    return result


def _bits(field: Field, octets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The values of a bitfield of up to 64 bits, which may lie in nine bytes."""
    start, end, shift = field.bit_offset // 8, (field.bit_offset + field.bits + 7) // 8, field.bit_offset % 8
    word = np.zeros(octets.shape[:-1], np.uint64)
    for position in range(end - start):
        octet = octets[..., start + position].astype(np.uint64)
        move = 8 * position - shift
        word |= octet << np.uint64(move) if move >= 0 else octet >> np.uint64(-move)
    word &= np.uint64((1 << field.bits) - 1)
    if not _bit_signed(field.codec):
        return word
    sign = np.uint64(1 << (field.bits - 1))
    return ((word ^ sign) - sign).astype(np.int64)


def bytes_of(codec: Codec[Any], values: object) -> bytes:
    """The encodings of an array's elements, back to back: the way back from `array_from`.

    Arrays of the codec's own dtype are copied, numbers converted where none changes; all else is encoded one by one,
    range-checked. Raises EncodeError.
    """
    array = np.atleast_1d(np.asarray(values))
    wanted = dtype_of(codec)
    base, sub = _parts(wanted)
    if not has_bitfields(codec) and array.shape[1:] == sub:
        if array.dtype == base:
            return _without_padding(np.ascontiguousarray(array)).tobytes()
        if array.dtype.kind in "iub" and base.kind in "iu":
            converted = array.astype(base)
            # Equal numbers of another sign are none: compare with both signs known.
            if np.array_equal(converted, array) and np.array_equal(converted < 0, array < 0):
                return converted.tobytes()
        if array.dtype.kind in "iuf" and base.kind == "f":
            return array.astype(base).tobytes()
    return codec.encode_many(_items(array))


def _items(array: np.ndarray[Any, Any]) -> list[Any]:
    """The elements as Python values; structs as dicts, which codecs take by name."""
    if array.dtype.names is None:
        made: list[Any] = array.tolist()
        return made
    if array.ndim > 1:
        return [_items(part) for part in array]
    if not array.dtype.names:
        return [{} for _ in array]
    columns = [_items(array[name]) for name in array.dtype.names]
    return [dict(zip(array.dtype.names, row, strict=True)) for row in zip(*columns, strict=True)]


def _without_padding(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The bytes of a contiguous array, with zeros where structs have padding: keys are compared byte by byte."""
    if array.dtype.names is None or not array.size:
        return array
    mask = _mask(array.dtype)
    octets = array.reshape(-1).view(np.uint8).reshape(-1, array.dtype.itemsize)
    return octets if mask.all() else octets & mask


def _mask(dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """0xff for each byte of a dtype that belongs to a field."""
    base, shape = _parts(dtype)
    if base.fields is None:
        return np.full(dtype.itemsize, 0xFF, np.uint8)
    mask = np.zeros(base.itemsize, np.uint8)
    for field, offset, *_ in base.fields.values():
        mask[offset : offset + field.itemsize] |= _mask(field)
    return np.tile(mask, math.prod(shape))
