"""`EngineMap`: a descriptor of a map of the engine."""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bpf2py.engine.maps.core import ALL_CPUS, CPU, LOCK, MapCore
from bpf2py.engine.maps.perf import PerfBuffer
from bpf2py.engine.maps.rings import PAGE, RingEvents
from bpf2py.engine.refusals import no_pins
from bpf2py.errors import BpfOSError, ClosedError
from bpf2py.owned import Owned
from bpf2py.seam.info import MapInfo
from bpf2py.uapi.errno import EBADF, EBUSY, EINVAL, ENOENT, ENOTSUPP, EPERM
from bpf2py.uapi.map_types import MapFlags, MapType

if TYPE_CHECKING:
    from collections.abc import Hashable

    from bpf2py.engine.maps.perf import PerfBuffer
    from bpf2py.engine.maps.rings import RingEvents
    from bpf2py.seam.element_calls import ElementCalls
    from bpf2py.seam.protocol import Buffer, MapHandle, MapSlot
    from bpf2py.spec.map_spec import MapSpec

__all__ = ["EngineMap"]

COUNTED = (
    MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH, MapType.HASH_OF_MAPS, MapType.LPM_TRIE,
)  # fmt: skip


class EngineMap(Owned):
    """A map by a number of its own, with the rights it was opened with.

    Attributes:
        info: facts of the map.
    """

    __slots__ = ("__weakref__", "_core", "_fd", "_mode", "info")

    def __init__(self, core: MapCore, mode: int = 0) -> None:
        self._fd = -1
        self._core: MapCore | None = core
        self.info: MapInfo = core.info
        self._mode = mode & int(MapFlags.RDONLY | MapFlags.WRONLY)
        engine = core.engine
        self._fd = engine.next_fd()
        engine.maps[self._fd] = self
        core.users += 1

    @property
    def core(self) -> MapCore:
        """The map itself. Raises ClosedError."""
        if self._core is None:
            raise ClosedError(f"map {self.info.name}: the map is closed")
        return self._core

    @property
    def fd(self) -> int:
        """The number programs and commands refer to, negative once closed."""
        return self._fd

    @property
    def header(self) -> int:
        """The address programs know the map by."""
        return self.core.header

    @property
    def data_address(self) -> int:
        """Where the elements of an array are."""
        return self.core.data_address

    @property
    def stride(self) -> int:
        """Bytes from one element to the next."""
        return self.core.stride

    @property
    def value_bytes(self) -> int:
        """Bytes of a value as the commands transfer it."""
        return self.core.value_bytes

    @property
    def possible_cpus(self) -> int:
        """Slots of a per-CPU value."""
        return self.core.engine.possible_cpus

    @property
    def _readable(self) -> bool:
        return not self._mode & MapFlags.WRONLY

    @property
    def _writable(self) -> bool:
        return not self._mode & MapFlags.RDONLY

    @property
    def cpu_numbers(self) -> Sequence[int]:
        """The CPU each slot of a per-CPU value belongs to."""
        return range(self.possible_cpus)

    @property
    def zeroes_other_cpus(self) -> bool:
        """Whether an element made for one CPU has zeros for the others."""
        return self.core.engine.version >= (7, 2)

    def slot(self) -> MapSlot:
        """Buffers for single operations."""
        slot: MapSlot = self.core.slot_type(self.core, self._readable, self._writable)
        return slot

    def element_calls(self, key: str, value: str) -> ElementCalls | None:
        """None: the slots' calls are quick."""
        return None

    def lookup_batch(
        self,
        token_in: bytearray | None,
        token_out: bytearray,
        keys: Buffer,
        values: Buffer,
        count: int,
        flags: int,
        delete: bool,
    ) -> tuple[int, int]:
        """BPF_MAP_LOOKUP_BATCH or, with `delete`, BPF_MAP_LOOKUP_AND_DELETE_BATCH."""
        core = self._core
        if core is None:
            return -EBADF, count
        if not self._readable or (delete and (not self._writable or core.frozen)):
            return -EPERM, count
        if core.batch == "none" or (delete and core.batch != "buckets"):
            return -ENOTSUPP, count
        if core.by_hand and core.batch == "indices":
            return self._read_by_hand(token_in, token_out, keys, values, count, flags)
        with core.engine.lock:
            return core.lookup_batch(token_in, token_out, keys, values, count, flags, delete)

    def _read_by_hand(
        self, token_in: bytearray | None, token_out: bytearray, keys: Buffer, values: Buffer, count: int, flags: int
    ) -> tuple[int, int]:
        if flags & ~LOCK or (flags & LOCK and not self.core.fields.lock):
            return -EINVAL, count
        if not count:
            return 0, 0
        slot, done, first = self.slot(), 0, token_in is None
        if token_in is not None:
            slot.key[:] = token_in[:4]
        while done < count:
            result = slot.get_next_key(first)
            if result:
                if done:
                    token_out[:4] = slot.key
                return result, done
            slot.key[:], first = slot.next_key, False
            if slot.lookup() == 0:  # indices where nothing is stored are left out
                keys[4 * done : 4 * done + 4] = slot.key
                values[4 * done : 4 * done + 4] = slot.value
                done += 1
        token_out[:4] = slot.key
        return 0, done

    def update_batch(self, keys: Buffer, values: Buffer, count: int, flags: int) -> tuple[int, int]:
        """BPF_MAP_UPDATE_BATCH."""
        refused = self._refuse_batch(count, flags)
        if refused is not None:
            return refused
        core = self.core
        if core.by_hand:
            return self._one_by_one(keys, values, count, flags)
        with core.engine.lock:
            return core.write_batch("sys_update_batch", keys, values, count, flags)

    def delete_batch(self, keys: Buffer, count: int, flags: int) -> tuple[int, int]:
        """BPF_MAP_DELETE_BATCH."""
        refused = self._refuse_batch(count, flags, delete=True)
        if refused is not None:
            return refused
        core = self.core
        if core.by_hand:
            return self._one_by_one(keys, None, count, 0)
        with core.engine.lock:
            return core.write_batch("sys_delete_batch", keys, None, count, 0)

    def _one_by_one(self, keys: Buffer, values: Buffer, count: int, flags: int) -> tuple[int, int]:
        slot, size, width = self.slot(), self.info.key_size, self.core.value_bytes
        key_bytes = memoryview(keys).cast("B")
        for done in range(count):
            slot.key[:] = key_bytes[done * size : done * size + size]
            if values is not None:
                slot.value[:] = memoryview(values).cast("B")[done * width : done * width + width]
            result = slot.update(flags) if values is not None else slot.delete()
            if result:
                return result, done
        return 0, count

    def _refuse_batch(self, count: int, flags: int, delete: bool = False) -> tuple[int, int] | None:
        core = self._core
        if core is None:
            return -EBADF, count
        if not self._writable or core.frozen:
            return -EPERM, count
        if core.batch == "none" or (delete and core.batch == "indices"):
            return -ENOTSUPP, count
        wrong = core.takes_flags(flags, CPU | ALL_CPUS)
        if wrong:
            return wrong, count
        return None if count else (0, 0)

    def count(self) -> int | None:
        """Elements, where the map keeps count."""
        return self.core.count if self.info.type in COUNTED else None

    def freeze(self) -> int:
        """BPF_MAP_FREEZE."""
        core = self._core
        if core is None:
            return -EBADF
        if self.info.type == MapType.STRUCT_OPS or core.fields.places:
            return -ENOTSUPP
        # Linux 6.5 came to ask for a writable descriptor, which that of a frozen map is not.
        if core.engine.version >= (6, 5) and (not self._writable or core.frozen):
            return -EPERM
        if core.writable_mappings or core.frozen:
            return -EBUSY
        core.freeze()
        return 0

    def pin(self, path: str) -> int:
        """Raises NotSupported: there is no file system for it."""
        raise no_pins(f"map {self.info.name}: pin")

    def opened_at(self, path: str) -> EngineMap:
        """Raises NotSupported: there is no file system for pins."""
        raise no_pins(path)

    def mmap(self, length: int, writable: bool, offset: int = 0) -> Buffer:
        """The map's memory itself, as a buffer that keeps the map alive. Raises OSError."""
        core = self._core
        if core is None:
            raise OSError(EBADF, "the map is closed")
        if writable and not self._writable:
            raise OSError(EPERM, "the map was opened read-only")
        address = core.map_memory(length, writable, offset)
        mapping = (ctypes.c_char * length).from_buffer(core.engine.memory.view[address : address + length])
        core.writable_mappings += writable
        weakref.finalize(mapping, _unmapped, core, writable).atexit = False
        return mapping

    @property
    def identity(self) -> Hashable:
        """What is equal for all handles of the same map."""
        return self.core

    @property
    def page_size(self) -> int:
        """Bytes of a page of the simulated machine, whatever this one's have."""
        return PAGE

    @property
    def online_cpus(self) -> list[int]:
        """CPUs that run programs, whose perf buffers a reader opens."""
        return list(range(self.possible_cpus))

    def event_source(self) -> RingEvents:
        """What a reader of this RINGBUF waits for; the caller closes it."""
        return RingEvents(self.core)

    def open_held(self, ident: int) -> tuple[EngineMap, MapSpec]:
        """The inner map with this id, of those a map of maps holds, and its definition. Raises BpfOSError (ENOENT)."""
        for key, found in self.core.held.items():
            if key and isinstance(found, MapCore) and found.info.id == ident:
                return EngineMap(found), found.spec
        raise BpfOSError(
            f"map id {ident}: open: map {self.info.name} does not hold it", errno=ENOENT, command="BPF_MAP_GET_FD_BY_ID"
        )

    def key_of_value(self, address: int) -> tuple[int, int]:
        """(address of the key, address of the value) of the element an address lies in, as callbacks get them."""
        return self.core.key_of_value(address)

    def perf_output(self, cpu: int, data: bytes, _now: int = 0) -> int:
        """What bpf_perf_event_output() does to the buffer of a CPU; -ENOENT where nobody reads."""
        return self.core.perf_output(cpu, data)

    def open_perf_buffer(self, pages: int, cpu: int, overwritable: bool, wakeup: tuple[int, bool]) -> PerfBuffer:
        """A buffer for a CPU's entry of this PERF_EVENT_ARRAY; the caller stores its number and closes it."""
        return PerfBuffer(self.core.engine, pages, cpu, overwritable, wakeup)

    def duplicate(self) -> EngineMap:
        """Another descriptor of the same map."""
        if self._core is None:
            raise OSError(EBADF, "the map is closed")
        return EngineMap(self._core, self._mode)

    def close(self) -> None:
        """Close the descriptor; closing twice is harmless."""
        number, self._fd = self._fd, -1
        core, self._core = self._core, None
        if core is None:
            return
        core.engine.maps.pop(number, None)
        core.users -= 1
        if not core.users:
            core.unused()

    def __del__(self, exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        if self._fd >= 0 and not exiting():
            self.close()

    def __repr__(self) -> str:
        return f"<EngineMap {self.info.name} fd={self._fd} id={self.info.id}>"


def _unmapped(core: MapCore, writable: bool) -> None:
    core.writable_mappings -= writable


if TYPE_CHECKING:

    def _proof(handle: EngineMap) -> MapHandle:
        return handle
