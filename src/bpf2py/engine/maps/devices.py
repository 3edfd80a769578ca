"""Maps that packets are redirected through: network devices, CPUs, and sockets of AF_XDP."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from bpf2py.engine.maps.core import MapCore, MapSystem, StorableProgram
from bpf2py.engine.maps.fields import Fields
from bpf2py.engine.maps.objects import IndexedSlot, ObjectSlot
from bpf2py.uapi.errno import E2BIG, EBADF, EEXIST, EINVAL, ENODEV, ENOENT, ENOTSOCK, EOPNOTSUPP, EOVERFLOW
from bpf2py.uapi.map_types import MapFlags, MapType
from bpf2py.uapi.program_types import AttachType

if TYPE_CHECKING:
    from bpf2py.spec.map_spec import MapSpec

__all__ = ["DEVICE_BUILDERS"]

NOEXIST, EXIST = 1, 2  # BPF_NOEXIST, BPF_EXIST
AF_XDP, SO_DOMAIN = 44, 39  # include/linux/socket.h, include/uapi/asm-generic/socket.h

MAX_QUEUE = 16384  # of a CPUMAP entry


class DeviceSlot(IndexedSlot):
    """A few bytes for each index; where `show` is used, programs find them, 16 bytes from one to the next."""

    __slots__ = ()

    def _lookup(self, flags: int) -> int:
        found = self.core.held.get(bytes(self.key))
        if found is None:
            return -ENOENT
        self.value[:] = found[: len(self.value)]
        return 0

    def program(self, fd: int, attach_type: AttachType) -> StorableProgram | None:
        """The program with a number that is to run where packets arrive, None where it is none of those."""
        program = self.core.engine.programs.get(fd) if fd > 0 else None
        return program if program is not None and program.spec.attach_type == attach_type else None

    def show(self, data: bytes | None) -> None:
        """Let programs find these bytes at the index, or null."""
        core, memory = self.core, self.core.engine.memory
        words = core.data_address
        place = memory.u64[(words >> 3) + core.info.max_entries] + 16 * self.index
        if data is not None:
            memory.write(place, data.ljust(16, b"\0"))
        memory.u64[(words >> 3) + self.index] = place if data is not None else 0


class XskMapSlot(DeviceSlot):
    """XSKMAP: descriptors of AF_XDP sockets, real or simulated ones (`XdpSocket`); cannot be read."""

    __slots__ = ()

    def _lookup(self, flags: int) -> int:
        return -EOPNOTSUPP

    def _update(self, flags: int) -> int:
        if flags > EXIST:
            return -EINVAL
        if self.index >= self.core.info.max_entries:
            return -E2BIG
        key, fd = bytes(self.key), int.from_bytes(self.value, "little", signed=True)
        error = 0 if fd in self.core.engine.sockets else _no_xdp_socket(fd)
        if error:
            return error
        if key in self.core.held and flags == NOEXIST:
            return -EEXIST
        if key not in self.core.held and flags == EXIST:
            return -ENOENT
        self.core.held[key] = fd
        self.show(key)  # struct bpf_xdp_sock: the queue
        return 0

    def _delete(self) -> int:
        if self.index >= self.core.info.max_entries:
            return -EINVAL
        self.core.held.pop(bytes(self.key), None)
        self.show(None)
        return 0


def _no_xdp_socket(fd: int) -> int:
    import socket

    try:
        copy = os.dup(fd)
    except (OSError, OverflowError):
        return -EBADF
    # The family is asked for here: Python cannot tell that of an AF_XDP socket by itself.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=copy) as found:
        try:
            return 0 if found.getsockopt(socket.SOL_SOCKET, SO_DOMAIN) == AF_XDP else -EOPNOTSUPP
        except OSError:
            return -ENOTSOCK


class DevMapSlot(DeviceSlot):
    """DEVMAP: network devices by index; 8 bytes hold a program as well. DEVMAP_HASH by any number."""

    __slots__ = ()

    def _update(self, flags: int) -> int:
        info, key = self.core.info, bytes(self.key)
        hashed = info.type == MapType.DEVMAP_HASH
        if flags > EXIST:
            return -EINVAL
        if not hashed and self.index >= info.max_entries:
            return -E2BIG
        if not hashed and flags == NOEXIST:
            return -EEXIST
        device, fd = struct.unpack("<Ii", bytes(self.value).ljust(8, b"\0"))
        if not device:
            if hashed or fd > 0:
                return -EINVAL
            self.core.held.pop(key, None)
            self.show(None)
            return 0
        if hashed and key in self.core.held and flags & NOEXIST:
            return -EEXIST
        try:
            import socket

            socket.if_indextoname(device)
        except OSError:
            return -EINVAL
        program = self.program(fd, AttachType.XDP_DEVMAP)
        if fd > 0 and program is None:
            return -EINVAL
        if hashed and key not in self.core.held and len(self.core.held) >= info.max_entries:
            return -E2BIG
        self.core.held[key] = struct.pack("<II", device, program.ident if program is not None else 0)
        if not hashed:
            self.show(self.core.held[key])
        return 0

    def _delete(self) -> int:
        info = self.core.info
        if info.type == MapType.DEVMAP_HASH:
            return 0 if self.core.held.pop(bytes(self.key), None) is not None else -ENOENT
        if self.index >= info.max_entries:
            return -EINVAL
        self.core.held.pop(bytes(self.key), None)
        self.show(None)
        return 0

    def _next_key(self, first: bool) -> int:
        if self.core.info.type == MapType.DEVMAP:
            return super()._next_key(first)
        # Buckets by the low bits of the number, each with its newest first.
        mask = (1 << max(self.core.info.max_entries - 1, 0).bit_length()) - 1
        order = sorted(enumerate(self.core.held), key=lambda item: (int.from_bytes(item[1], "little") & mask, -item[0]))
        keys = [key for _, key in order]
        own = bytes(self.key)
        place = 0 if first or own not in keys else keys.index(own) + 1
        if place >= len(keys):
            return -ENOENT
        self.next_key[:] = keys[place]
        return 0


class CpuMapSlot(DeviceSlot):
    """CPUMAP: queue sizes by CPU; 8 bytes hold a program as well."""

    __slots__ = ()

    def _update(self, flags: int) -> int:
        if flags > EXIST:
            return -EINVAL
        if self.index >= self.core.info.max_entries:
            return -E2BIG
        if flags == NOEXIST:
            return -EEXIST
        size, fd = struct.unpack("<Ii", bytes(self.value).ljust(8, b"\0"))
        if size > MAX_QUEUE:
            return -EOVERFLOW
        if self.index >= self.core.engine.possible_cpus:
            return -ENODEV
        if not size:
            self.core.held.pop(bytes(self.key), None)
            return 0
        program = self.program(fd, AttachType.XDP_CPUMAP)
        if fd > 0 and program is None:
            return -EINVAL
        self.core.held[bytes(self.key)] = struct.pack("<II", size, program.ident if program is not None else 0)
        return 0

    def _delete(self) -> int:
        if self.index >= self.core.info.max_entries:
            return -EINVAL
        self.core.held.pop(bytes(self.key), None)
        return 0


def _device_core(engine: MapSystem, spec: MapSpec) -> MapCore:
    core = MapCore(engine, spec)
    if spec.type in (MapType.DEVMAP, MapType.DEVMAP_HASH):
        # What programs look up is the kernel's own: it makes these maps read-only for them, and says so.
        core.info = core.info._replace(flags=core.info.flags | int(MapFlags.RDONLY_PROG))
    return core


def build_shown(engine: MapSystem, spec: MapSpec, fields: Fields) -> MapCore:
    """Arrays of what programs may look at: an address each, and after those the address of the first."""
    core = _device_core(engine, spec)
    core.describe(8, 0, core.allocate(8 * (spec.max_entries + 1), True))
    place = core.allocate(16 * spec.max_entries)
    engine.memory.u64[(core.data_address >> 3) + spec.max_entries] = place
    core.slot_type = XskMapSlot if spec.type == MapType.XSKMAP else DevMapSlot
    core.by_hand = True
    return core


def _simple(slot_type: type[ObjectSlot]) -> Callable[[MapSystem, MapSpec, Fields], MapCore]:
    def build(engine: MapSystem, spec: MapSpec, fields: Fields) -> MapCore:
        core = _device_core(engine, spec)
        core.describe(0)
        core.slot_type = slot_type
        core.by_hand = True
        return core

    return build


DEVICE_BUILDERS: dict[int, Callable[[MapSystem, MapSpec, Fields], MapCore]] = {
    MapType.DEVMAP: build_shown,
    MapType.XSKMAP: build_shown,
    MapType.DEVMAP_HASH: _simple(DevMapSlot),
    MapType.CPUMAP: _simple(CpuMapSlot),
}
