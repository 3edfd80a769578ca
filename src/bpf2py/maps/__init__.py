"""Maps as Python collections: one file per family."""

from __future__ import annotations

from typing import Any

from bpf2py.maps.base import Map
from bpf2py.uapi.map_types import MapType, map_type

__all__ = ["Map", "class_for"]

# Module and class of each map type; imported when first used.
_CLASSES: dict[MapType, tuple[str, str]] = {
    MapType.HASH: ("hash", "HashMap"),
    MapType.LRU_HASH: ("hash", "LruHashMap"),
    MapType.ARRAY: ("array", "ArrayMap"),
}


def class_for(number: int) -> type[Map[Any, Any]]:
    """The class of a map type; `RawMap` for types newer than this library."""
    kind = map_type(number)
    module, name = _CLASSES.get(kind, ("raw", "RawMap")) if isinstance(kind, MapType) else ("raw", "RawMap")
    from importlib import import_module  # noqa: PLC0415

    found: type[Map[Any, Any]] = getattr(import_module(f"bpf2py.maps.{module}"), name)
    return found
