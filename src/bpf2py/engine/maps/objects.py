"""Maps whose values are other objects: programs, maps, perf events, cgroups, devices, CPUs; and storage that belongs to objects.

User space stores descriptors and reads ids. Commands are Python here; what programs look up is in private memory, so that no
program can make up a map's address.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bpf2py.engine.maps.core import OWNER, TEMPLATE, MapCore, MapSystem, free_block, release
from bpf2py.engine.maps.fields import Fields
from bpf2py.engine.maps.types import lay_out_table
from bpf2py.uapi.errno import E2BIG, EBADF, EINVAL, ENOENT, ENOTSOCK, ENOTSUPP, EPERM
from bpf2py.uapi.map_types import MapFlags, MapType

if TYPE_CHECKING:
    from bpf2py.engine.memory import Memory
    from bpf2py.spec.map_spec import MapSpec

__all__ = ["OBJECT_BUILDERS"]

LOCK = 4  # BPF_F_LOCK


Stored = tuple[int, Any]  # (what programs find, the object)


class ObjectSlot:
    """Buffers and commands of one operation; `MapSlot`'s Python form.

    Types override what their commands do with a readable, writable map; flags a type never takes are refused here.
    """

    __slots__ = (
        "core", "key", "key_view", "next_key", "readable", "value", "value_view", "writable",
    )  # fmt: skip

    def __init__(self, core: MapCore, readable: bool, writable: bool) -> None:
        self.core = core
        self.key = bytearray(core.info.key_size)
        self.next_key = bytearray(core.info.key_size)
        self.value = bytearray(core.value_bytes)
        self.key_view: Any = None
        self.value_view: Any = None
        self.readable, self.writable = readable, writable

    def fast_lookup(self) -> int:
        """`lookup` without flags."""
        return self.lookup()

    def fast_update(self) -> int:
        """`update` without flags."""
        return self.update()

    def hasten(self) -> None:
        """They are quick."""

    def lookup(self, flags: int = 0) -> int:
        """BPF_MAP_LOOKUP_ELEM."""
        if flags & ~LOCK:
            return -EINVAL
        if not self.readable:
            return -EPERM
        return -EINVAL if flags and not self.core.fields.lock else self._lookup(flags)

    def update(self, flags: int = 0) -> int:
        """BPF_MAP_UPDATE_ELEM."""
        if not self.writable or self.core.frozen:
            return -EPERM
        return -EINVAL if flags & LOCK and not self.core.fields.lock else self._update(flags)

    def delete(self) -> int:
        """BPF_MAP_DELETE_ELEM."""
        return self._delete() if self.writable and not self.core.frozen else -EPERM

    def lookup_and_delete(self, flags: int = 0) -> int:
        """BPF_MAP_LOOKUP_AND_DELETE_ELEM."""
        if flags & ~LOCK:
            return -EINVAL
        if not self.readable or not self.writable or self.core.frozen:
            return -EPERM
        return -EINVAL if flags and not self.core.fields.lock else -ENOTSUPP

    def get_next_key(self, first: bool) -> int:
        """BPF_MAP_GET_NEXT_KEY."""
        return self._next_key(first) if self.readable else -EPERM

    def _lookup(self, flags: int) -> int:
        return -ENOTSUPP

    def _update(self, flags: int) -> int:
        return -ENOTSUPP

    def _delete(self) -> int:
        return -ENOTSUPP

    def _next_key(self, first: bool) -> int:
        return -ENOTSUPP


class IndexedSlot(ObjectSlot):
    """Keys are indices."""

    __slots__ = ()

    @property
    def index(self) -> int:
        return int.from_bytes(self.key, "little")

    def _next_key(self, first: bool) -> int:
        index = 0xFFFFFFFF if first else self.index
        if index >= self.core.info.max_entries:
            index = 0
        elif index == self.core.info.max_entries - 1:
            return -ENOENT
        else:
            index += 1
        self.next_key[:] = index.to_bytes(4, "little")
        return 0


class FdArraySlot(IndexedSlot):
    """PROG_ARRAY, PERF_EVENT_ARRAY, CGROUP_ARRAY, ARRAY_OF_MAPS."""

    __slots__ = ()

    def _resolve(self, fd: int) -> Stored | int:
        raise NotImplementedError

    def _id(self, found: Any) -> int:
        return -ENOTSUPP

    def _lookup(self, flags: int) -> int:
        found = self.core.held.get(bytes(self.key))
        if found is None:
            return -ENOENT
        number = self._id(found)
        if number < 0:
            return number
        self.value[:] = number.to_bytes(4, "little")
        return 0

    def _update(self, flags: int) -> int:
        if flags:
            return -EINVAL
        if self.index >= self.core.info.max_entries:
            return -E2BIG
        stored = self._resolve(int.from_bytes(self.value[:4], "little", signed=True))
        if isinstance(stored, int):
            return stored
        self._put(*stored)
        return 0

    def _put(self, word: int, found: Any) -> None:
        key = bytes(self.key)
        old = self.core.held.pop(key, None)
        if found is not None:
            self.core.held[key] = found
        self.core.engine.memory.u64[(self.core.data_address >> 3) + self.index] = word
        if old is not None:
            release(old)

    def _delete(self) -> int:
        if self.index >= self.core.info.max_entries:
            return -E2BIG
        if bytes(self.key) not in self.core.held:
            return -ENOENT
        self._put(0, None)
        return 0


class ProgArraySlot(FdArraySlot):
    """PROG_ARRAY: programs find the number of the first function."""

    __slots__ = ()

    def _resolve(self, fd: int) -> Stored | int:
        engine = self.core.engine
        program = engine.programs.get(fd)
        if program is None:
            return -EINVAL if fd in engine.maps else -EBADF
        owner = self.core.held.get(OWNER)
        if owner is not None and owner != program.type:
            return -EINVAL
        self.core.held.setdefault(OWNER, program.type)
        return engine.address_of_number(program.number), program.duplicate()

    def _id(self, found: Any) -> int:
        return int(found.ident)


class MapArraySlot(FdArraySlot):
    """ARRAY_OF_MAPS: programs find the address of the inner map's header."""

    __slots__ = ()

    def _resolve(self, fd: int) -> Stored | int:
        return inner_map(self.core, fd)

    def _id(self, found: Any) -> int:
        return int(found.info.id)


class CgroupArraySlot(FdArraySlot):
    """CGROUP_ARRAY: descriptors of directories; cannot be read."""

    __slots__ = ()

    def _resolve(self, fd: int) -> Stored | int:
        try:
            number = os.fstat(fd).st_ino
        except OSError:
            return -EBADF
        return number, number

    def _lookup(self, flags: int) -> int:
        return -ENOTSUPP


class PerfEventArraySlot(FdArraySlot):
    """PERF_EVENT_ARRAY: buffers of readers, by the number they are registered with (`Engine.events`); cannot be read."""

    __slots__ = ()

    def _resolve(self, fd: int) -> Stored | int:
        event = self.core.engine.events.get(fd)
        # What is kept is how to write: the buffer is its reader's, who closes it.
        return -EBADF if event is None else (event.address, event.output)

    def _lookup(self, flags: int) -> int:
        return -ENOTSUPP


def inner_map(core: MapCore, fd: int) -> Stored | int:
    """The map to be stored in a map of maps, if it is like the one that was made for."""
    handle = core.engine.maps.get(fd)
    if handle is None:
        return -EBADF
    info, wanted = handle.core.info, core.held[TEMPLATE].info
    same = (info.type, info.key_size, info.value_size, info.flags & ~3 << 3) == (
        wanted.type, wanted.key_size, wanted.value_size, wanted.flags & ~3 << 3,
    )  # fmt: skip
    if info.type in (MapType.ARRAY, MapType.PERCPU_ARRAY) and not wanted.flags & MapFlags.INNER_MAP:
        same = same and info.max_entries == wanted.max_entries
    if not same or handle.core.fields != core.held[TEMPLATE].fields:
        return -EINVAL
    return handle.core.header, handle.core


class HashOfMapsSlot(ObjectSlot):
    """HASH_OF_MAPS: a hash table of headers' addresses, which the library keeps."""

    __slots__ = ("_block",)

    def __init__(self, core: MapCore, readable: bool, writable: bool) -> None:
        super().__init__(core, readable, writable)
        self._block = 0
        self._block = core.engine.memory.allocate(2 * core.info.key_size + 24)

    def _run(self, name: str, *arguments: int) -> int:
        memory, core = self.core.engine.memory, self.core
        memory.view[self._block : self._block + len(self.key)] = self.key
        padded = (*arguments, 0, 0, 0)[:3]
        return core.engine.operation(name)(core.header, self._block, *padded)

    def _lookup(self, flags: int) -> int:
        result = self._run("htab_sys_lookup", self._out)
        if not result:
            self.value[:] = self.core.engine.memory.view[self._out : self._out + 4]
        return result

    @property
    def _out(self) -> int:
        return self._block + (self.core.info.key_size + 7 & -8)

    def _update(self, flags: int) -> int:
        stored = inner_map(self.core, int.from_bytes(self.value[:4], "little", signed=True))
        if isinstance(stored, int):
            return stored
        result = self._run("htab_of_maps_update", stored[0], flags)
        if not result:
            self.core.held[b"k" + bytes(self.key)] = stored[1]
        return result

    def _delete(self) -> int:
        result = self._run("htab_sys_delete")
        if not result:
            self.core.held.pop(b"k" + bytes(self.key), None)
        return result

    def _next_key(self, first: bool) -> int:
        memory, core = self.core.engine.memory, self.core
        memory.view[self._block : self._block + len(self.key)] = self.key
        result = core.engine.operation("htab_sys_next_key")(core.header, 0 if first else self._block, self._out, 0, 0)
        if not result:
            self.next_key[:] = memory.view[self._out : self._out + len(self.next_key)]
        return result

    def __del__(self, free: Callable[[Memory, int], None] = free_block) -> None:
        if self._block:
            free(self.core.engine.memory, self._block)


class StorageSlot(ObjectSlot):
    """SK_STORAGE, INODE_STORAGE, TASK_STORAGE, CGRP_STORAGE: keys are descriptors of this process; see `owner_number`."""

    __slots__ = ("_block",)

    def __init__(self, core: MapCore, readable: bool, writable: bool) -> None:
        super().__init__(core, readable, writable)
        self._block = 0
        self._block = core.engine.memory.allocate(core.value_bytes)

    def _owner(self) -> int:
        return owner_number(self.core.info.type, int.from_bytes(self.key, "little", signed=True))

    def _lookup(self, flags: int) -> int:
        owner = self._owner()
        if owner < 0:
            return owner
        core, memory = self.core, self.core.engine.memory
        result = core.engine.operation("storage_sys_lookup")(core.header, owner, self._block, flags, 0)
        if not result:
            self.value[:] = memory.view[self._block : self._block + len(self.value)]
        return result

    def _update(self, flags: int) -> int:
        owner = self._owner()
        if owner < 0:
            return owner
        core, memory = self.core, self.core.engine.memory
        memory.view[self._block : self._block + len(self.value)] = self.value
        return core.engine.operation("storage_sys_update")(core.header, owner, self._block, flags, 0)

    def _delete(self) -> int:
        owner = self._owner()
        if owner < 0:
            return owner
        return self.core.engine.operation("storage_sys_delete")(self.core.header, owner, 0, 0, 0)

    def _next_key(self, first: bool) -> int:
        return -ENOTSUPP

    def __del__(self, free: Callable[[Memory, int], None] = free_block) -> None:
        if self._block:
            free(self.core.engine.memory, self._block)


def owner_number(kind: int, fd: int) -> int:
    """What the engine knows the object of a descriptor by: a task's pid, the inode of others; -errno."""
    try:
        found = os.fstat(fd)
    except (OSError, OverflowError):
        return -EBADF
    if kind == MapType.SK_STORAGE:
        return found.st_ino if found.st_mode & 0o170000 == 0o140000 else -ENOTSOCK
    if kind == MapType.TASK_STORAGE:
        try:
            with open(f"/proc/self/fdinfo/{fd}") as file:
                pid = next((int(line.split()[1]) for line in file if line.startswith("Pid:")), -1)
        except OSError:
            return -EBADF
        return pid if pid > 0 else -EBADF
    return found.st_ino


# -- making them ------------------------------------------------------------------------------------------------------


def build_fd_array(engine: MapSystem, spec: MapSpec, fields: Fields) -> MapCore:
    """Arrays of objects: 8 bytes each for programs, which they cannot reach."""
    core = MapCore(engine, spec)
    core.describe(8, 0, core.allocate(8 * spec.max_entries, True))
    core.slot_type = _FD_ARRAYS[spec.type]
    core.by_hand = True
    if spec.type == MapType.ARRAY_OF_MAPS:
        core.batch = "indices"
    return core


_FD_ARRAYS: dict[int, type[FdArraySlot]] = {
    MapType.PROG_ARRAY: ProgArraySlot,
    MapType.PERF_EVENT_ARRAY: PerfEventArraySlot,
    MapType.CGROUP_ARRAY: CgroupArraySlot,
    MapType.ARRAY_OF_MAPS: MapArraySlot,
}


def build_hash_of_maps(engine: MapSystem, spec: MapSpec, fields: Fields) -> MapCore:
    """HASH_OF_MAPS."""
    core = MapCore(engine, spec)
    lay_out_table(core, spec.max_entries, (spec.key_size + 7) // 8 * 8 + 8, 0, fields, private=True)
    core.names = {"lookup_batch": "htab_sys_lookup_batch"}
    core.slot_type = HashOfMapsSlot
    core.by_hand = True
    core.batch = "buckets"
    return core


def build_storage(engine: MapSystem, spec: MapSpec, fields: Fields) -> MapCore:
    """Storage: a hash table that grows, keyed by numbers of eight bytes."""
    core = MapCore(engine, spec)
    stride = 8 + (spec.value_size + 7) // 8 * 8
    lay_out_table(core, MOST_OWNERS, stride, 0, fields)
    core.slot_type = StorageSlot
    core.by_hand = True
    return core


MOST_OWNERS = 1 << 16


OBJECT_BUILDERS: dict[int, Callable[[MapSystem, MapSpec, Fields], MapCore]] = {
    **dict.fromkeys(_FD_ARRAYS, build_fd_array),
    MapType.HASH_OF_MAPS: build_hash_of_maps,
    **dict.fromkeys(
        (MapType.SK_STORAGE, MapType.INODE_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE), build_storage
    ),
}
