"""Map types without a family of their own, and types newer than this library."""

from __future__ import annotations

from bpf2py.maps.base import K, V
from bpf2py.maps.mapping import MappingMap


class RawMap(MappingMap[K, V]):
    """A map of a type this library does not know: every command is passed on, the kernel decides."""
