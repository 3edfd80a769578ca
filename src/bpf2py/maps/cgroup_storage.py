"""CGROUP_STORAGE and PERCPU_CGROUP_STORAGE: a value for each cgroup a program is attached to."""

from __future__ import annotations

from bpf2py.maps.base import K, V
from bpf2py.maps.mapping import MappingMap
from bpf2py.maps.percpu import PerCpu, PerCpuValues


class CgroupStorageMap(MappingMap[K, V]):
    """CGROUP_STORAGE (Linux 4.19): values that come when a program that uses the map is attached to a cgroup.

    Keys are ``struct bpf_cgroup_storage_key`` (the cgroup's id, which is the inode of its directory, and the attach type), or the
    cgroup's id alone (Linux 5.9). Values can be read and set, not inserted nor deleted: they go with the map. Newer programs use
    CGRP_STORAGE.

    Example:
        >>> for key, packets in obj.maps["sent"].items():                       # doctest: +SKIP
        ...     print(key.cgroup_inode_id, packets)
    """


class PerCpuCgroupStorageMap(PerCpuValues, MappingMap[K, PerCpu[V]]):
    """PERCPU_CGROUP_STORAGE (Linux 4.20): a `CgroupStorageMap` with a value for each CPU."""
