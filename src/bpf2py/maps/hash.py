"""HASH: BPF_MAP_TYPE_HASH, Linux 3.19."""

from __future__ import annotations

from bpf2py.maps.base import K, V
from bpf2py.maps.mapping import MappingMap


class HashMap(MappingMap[K, V]):
    """A hash table of at most `max_entries` elements.

    A new key beyond that raises `MapFull`; existing keys can always be set. Elements are allocated ahead unless
    BPF_F_NO_PREALLOC is set. An update replaces the element, so a pointer a program holds keeps the old value.

    Example:
        >>> counts[500] = 1000          # doctest: +SKIP
        >>> counts.get(501, 0)          # doctest: +SKIP
        0
    """

    _by_calls = True


class LruHashMap(MappingMap[K, V]):
    """LRU_HASH (Linux 4.10): a hash table that makes room by evicting elements not used for long.

    Approximate by design: an update always takes a free element first, so fewer than `max_entries` elements are kept,
    and on kernels before 6.16 (6.15.7, 6.12.39, 6.6.99) small maps may keep very few. Choose max_entries well above
    256 times the CPUs there. Only lookups by programs count as use: reading from user space does not keep an element alive.
    """

    _by_calls = True
