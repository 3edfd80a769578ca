"""Maps as Apache Arrow tables (extra ``arrow``)."""

from __future__ import annotations

import numpy as np

from bpf2py._typing import Any
from bpf2py.errors import NotSupported


def table(array: np.ndarray[Any, Any], columns: tuple[str, ...] = ("key", "value")) -> Any:
    """A pyarrow Table of a structured array (its fields become columns), or of a plain one (one column, the last of `columns`).

    Structs become struct columns, arrays fixed-size lists, char arrays strings (invalid UTF-8 replaced).

    Raises NotSupported when pyarrow is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError:
        raise NotSupported("pyarrow is not installed: pip install 'bpf2py[arrow]'", feature="pyarrow") from None
    if array.dtype.names == columns:
        return pa.table({name: _column(pa, array[name]) for name in columns})
    return pa.table({columns[-1]: _column(pa, array)})


def _column(pa: Any, array: np.ndarray[Any, Any]) -> Any:
    if array.ndim > 1:
        flat = _column(pa, np.ascontiguousarray(array).reshape(array.shape[0] * array.shape[1], *array.shape[2:]))
        return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
    if array.dtype.names:
        return pa.StructArray.from_arrays([_column(pa, array[n]) for n in array.dtype.names], list(array.dtype.names))
    if array.dtype.kind == "S":
        return pa.array([text.decode("utf-8", "replace") for text in array.tolist()], pa.string())
    if array.dtype.kind == "V":
        return pa.array([bytes(item) for item in array], pa.binary(array.dtype.itemsize))
    return pa.array(np.ascontiguousarray(array))
