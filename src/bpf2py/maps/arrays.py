"""Elements of maps as numpy arrays; imported where arrays are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.btf.dtype import array_from

if TYPE_CHECKING:
    from bpf2py.btf.codec import Codec
    from bpf2py.maps.batch import Chunk

Array = np.ndarray[Any, Any]


def packed(codec: Codec[Any], chunk: Chunk) -> Array:
    """The values of a chunk that lie one after the other."""
    return array_from(codec, chunk.values, chunk.count)


def keyed(key: Codec[Any], chunks: Iterable[Chunk], values: Callable[[Chunk], Array], empty: Chunk) -> Array:
    """A structured array with the fields ``key`` and ``value``; `values` makes the latter of a chunk, also of the `empty` one."""
    parts = [(array_from(key, chunk.keys, chunk.count), values(chunk)) for chunk in chunks]
    first_key, first_value = parts[0] if parts else (array_from(key, b"", 0), values(empty))
    fields = [(name, part.dtype, part.shape[1:]) for name, part in (("key", first_key), ("value", first_value))]
    result = np.empty(sum(len(keys) for keys, _ in parts), np.dtype(fields))
    start = 0
    for keys, found in parts:
        result["key"][start : start + len(keys)] = keys
        result["value"][start : start + len(keys)] = found
        start += len(keys)
    return result
