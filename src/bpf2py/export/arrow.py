"""Arrays of BTF types as Arrow arrays: structs as structs, enumerations as dictionaries, char arrays as text."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from bpf2py.btf.codec import ArrayCodec, ByteArrayCodec, CharArrayCodec, Codec, EnumCodec
from bpf2py.btf.values import StructCodec, UnionCodec
from bpf2py.errors import NotSupported
from bpf2py.maps.percpu import PerCpuCodec

if TYPE_CHECKING:
    import pyarrow

__all__ = ["column", "import_pyarrow"]

Array = np.ndarray[Any, Any]


def import_pyarrow() -> ModuleType:
    """The module, whose extra is ``arrow``. Raises NotSupported without it."""
    try:
        import pyarrow
    except ImportError:
        raise NotSupported("pyarrow is not installed: pip install 'bpf2py[arrow]'", feature="pyarrow") from None
    module: ModuleType = pyarrow
    return module


def column(codec: Codec[Any], array: Array) -> pyarrow.Array:
    """An Arrow array of values as `bpf2py.btf.dtype` has them in numpy: shape (n, ...).

    What Arrow has no type for (unions, unknown types, unsigned char arrays) is binary of a fixed size.
    """
    pa = import_pyarrow()
    if isinstance(codec, PerCpuCodec):
        return _list(pa, codec.element, array, codec.cpus)
    if isinstance(codec, UnionCodec) or (array.dtype.kind == "V" and array.dtype.names is None):
        return _binary(pa, array, codec.size)
    if isinstance(codec, StructCodec):
        codecs = {field.name: field.codec for field in codec.fields}
        parts, names = [], []
        for name in array.dtype.names or ():
            member = codecs.get(name)
            # Members of an anonymous union are not the struct's own: they lie over each other, and stay numbers.
            parts.append(column(member, array[name]) if member is not None else _plain(pa, array[name]))
            names.append(name)
        return pa.StructArray.from_arrays(parts, names) if names else pa.nulls(len(array))
    if isinstance(codec, ByteArrayCodec):
        return _binary(pa, array, codec.size)
    if isinstance(codec, ArrayCodec) and array.ndim > 1:
        return _list(pa, codec.element, array, array.shape[1])
    if isinstance(codec, CharArrayCodec) or array.dtype.kind == "S":
        return pa.array([text.decode("utf-8", "replace") for text in array.tolist()], pa.string())
    if isinstance(codec, EnumCodec):
        return _enumeration(pa, codec, array)
    return _plain(pa, array)


def _list(pa: Any, element: Codec[Any], array: Array, count: int) -> Any:
    flat = np.ascontiguousarray(array).reshape(array.shape[0] * count, *array.shape[2:])
    return pa.FixedSizeListArray.from_arrays(column(element, flat), count)


def _binary(pa: Any, array: Array, size: int) -> Any:
    raw = np.ascontiguousarray(array).tobytes()
    return pa.array([raw[at : at + size] for at in range(0, size * len(array), size)], pa.binary(size))


def _enumeration(pa: Any, codec: EnumCodec, array: Array) -> Any:
    numbers, places = np.unique(array, return_inverse=True)
    names = {int(value): str(member.name) for value, member in codec.members.items() if hasattr(member, "name")}
    words = [names.get(int(number), str(number)) for number in numbers]
    return pa.DictionaryArray.from_arrays(pa.array(places.reshape(-1).astype(np.int32)), pa.array(words, pa.string()))


def _plain(pa: Any, array: Array) -> Any:
    if array.dtype.names is not None or array.ndim > 1:
        return _binary(pa, array, array.nbytes // max(1, len(array)))
    if array.dtype.kind == "S":
        return pa.array([text.decode("utf-8", "replace") for text in array.tolist()], pa.string())
    return pa.array(np.ascontiguousarray(array))
