"""`least_size()`: how much of a value must be there for the rest to be taken as zeros."""

from __future__ import annotations

from bpf2py._typing import Any
from bpf2py.btf.codec import ArrayCodec, ByteArrayCodec, CharArrayCodec, Codec
from bpf2py.btf.values import StructCodec, UnionCodec

__all__ = ["least_size"]


def least_size(codec: Codec[Any]) -> int:
    """Bytes of a value that may not be missing.

    Programs save room in a ring by not sending what they did not fill: elements of the array a struct ends with, the larger members
    of a union at its end, padding after its last member. Any other member that is cut off is a mistake.
    """
    if isinstance(codec, ArrayCodec | CharArrayCodec | ByteArrayCodec):
        return 0
    if isinstance(codec, UnionCodec):
        return min((least_size(field.codec) for field in codec.fields), default=0)
    if not isinstance(codec, StructCodec):
        return codec.size
    ends = [
        (field.bit_offset + field.bits + 7) // 8 if field.bits else field.offset + least_size(field.codec)
        for field in codec.fields
    ]
    whole = [
        (field.bit_offset + field.bits + 7) // 8 if field.bits else field.offset + field.codec.size
        for field in codec.fields
    ]
    # All but the last member must be there, of that what it needs.
    return max([*whole[:-1], *ends[-1:]], default=0)
