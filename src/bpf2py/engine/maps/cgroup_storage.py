"""CGROUP_STORAGE and PERCPU_CGROUP_STORAGE: a value for each cgroup a program is attached to.

The values are made when a program that uses the map is attached, and stay until the map goes; user space changes those there
are. Source of facts: kernel/bpf/local_storage.c.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from bpf2py.engine.maps.core import ALL_CPUS, CPU, LOCK, MapCore, MapSystem
from bpf2py.engine.maps.fields import Fields
from bpf2py.engine.maps.objects import ObjectSlot
from bpf2py.uapi.errno import EINVAL, ENOENT, EPERM
from bpf2py.uapi.map_types import MapType, UpdateFlags

if TYPE_CHECKING:
    from bpf2py.spec.map_spec import MapSpec

__all__ = ["CGROUP_BUILDERS", "CGROUP_STORAGE", "attached", "cgroup_number", "local_storage"]

CGROUP_STORAGE = (MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE)
_U64 = 8
ANY_FLAG = 0xFFFFFFFF


class CgroupStorageSlot(ObjectSlot):
    """Keys are ``struct bpf_cgroup_storage_key``, or a cgroup's id alone (Linux 5.9). `held` has the values' addresses."""

    __slots__ = ()

    @property
    def _per_cpu(self) -> bool:
        return self.core.info.type == MapType.PERCPU_CGROUP_STORAGE

    def _found(self) -> int | None:
        return self.core.held.get(_plain(self.key))

    def lookup(self, flags: int = 0) -> int:
        """BPF_MAP_LOOKUP_ELEM, of one CPU's value with BPF_F_CPU."""
        if not flags & CPU:
            return super().lookup(flags)
        if not self.readable:
            return -EPERM
        return self.core.takes_flags(flags, CPU) or self._lookup(flags)

    def _lookup(self, flags: int) -> int:
        address = self._found()
        if address is None:
            return -ENOENT
        memory, core = self.core.engine.memory, self.core
        if flags & CPU:
            size = core.info.value_size
            self.value[:size] = memory.read(address + (flags >> 32) * core.stride, size)
        else:
            self.value[:] = memory.read(address, len(self.value))
        return 0

    def _update(self, flags: int) -> int:
        core = self.core
        exist = int(UpdateFlags.EXIST)
        if flags & (CPU | ALL_CPUS):
            wrong = core.takes_flags(flags, ANY_FLAG)
            allowed = exist | CPU | ALL_CPUS
        else:
            wrong, allowed = 0, exist | (0 if self._per_cpu else LOCK)
        if not wrong and (flags & ANY_FLAG if flags & CPU else flags) & ~allowed:
            wrong = -EINVAL
        if wrong:
            return wrong
        address = self._found()
        if address is None:
            return -ENOENT
        if flags & (CPU | ALL_CPUS):
            cpus = range(core.engine.possible_cpus) if flags & ALL_CPUS else (flags >> 32,)
            for cpu in cpus:
                core.engine.memory.write(address + cpu * core.stride, self.value[: core.info.value_size])
        else:
            core.engine.memory.write(address, self.value)
        return 0

    def _delete(self) -> int:
        return -EINVAL

    def _next_key(self, first: bool) -> int:
        keys = list(reversed(self.core.held))  # the newest first
        index = 0
        if not first:
            key = _plain(self.key)
            if key not in self.core.held:
                return -ENOENT
            index = keys.index(key) + 1
        if index >= len(keys):
            return -ENOENT
        self.next_key[:] = keys[index].ljust(len(self.next_key), b"\0")
        return 0


def _plain(key: bytes | bytearray) -> bytes:
    """A key without its padding."""
    return bytes(key[:12]) if len(key) > _U64 else bytes(key)


def cgroup_number(options: Mapping[str, object]) -> int:
    """The id of the cgroup an attachment names: of a directory its inode, as in the kernel, else a number made of the name."""
    given = options.get("cgroup")
    if given is None:
        return 0
    if isinstance(given, int | str | os.PathLike):
        with contextlib.suppress(OSError, ValueError):
            return os.stat(given).st_ino
    return 1 << 32 | zlib.crc32(str(given).encode())


def attached(maps: Iterable[MapCore], attach_type: int, cgroup: int) -> None:
    """Make the values of a cgroup in the maps of a program attached to it. Raises BpfOSError (ENOMEM)."""
    for core in maps:
        if core.info.type not in CGROUP_STORAGE or not cgroup:
            continue
        key = _key(core, cgroup, attach_type)
        if key not in core.held:
            core.held[key] = core.allocate(_size(core))


def local_storage(core: MapCore, cgroup: int, attach_type: int) -> int | None:
    """The address of a cgroup's value; None where no program that uses the map is attached to it."""
    found: int | None = core.held.get(_key(core, cgroup, attach_type))
    return found


def _key(core: MapCore, cgroup: int, attach_type: int) -> bytes:
    key = cgroup.to_bytes(8, "little")
    return key if core.info.key_size == _U64 else key + attach_type.to_bytes(4, "little")


def _size(core: MapCore) -> int:
    return (core.value_bytes + 7) // 8 * 8


def build_cgroup_storage(engine: MapSystem, spec: MapSpec, fields: Fields) -> MapCore:
    """Nothing until a program is attached."""
    core = MapCore(engine, spec)
    core.describe((spec.value_size + 7) // 8 * 8, 0, 0, 0, fields)
    core.slot_type = CgroupStorageSlot
    core.by_hand = True
    return core


CGROUP_BUILDERS: dict[int, Callable[[MapSystem, MapSpec, Fields], MapCore]] = dict.fromkeys(
    CGROUP_STORAGE, build_cgroup_storage
)
