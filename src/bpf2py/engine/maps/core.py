"""`MapCore`: a map in the engine's memory, whoever uses it; and the slots its commands go through."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from bpf2py.engine.maps.fields import NO_FIELDS, Fields
from bpf2py.engine.system import System
from bpf2py.owned import Owned
from bpf2py.seam.info import MapInfo
from bpf2py.uapi.errno import (
    EINVAL,
    ENOENT,
    ENOSPC,
    ENOTSUPP,
    EOPNOTSUPP,
    EPERM,
    ERANGE,
)
from bpf2py.uapi.map_types import MapFlags, MapType, type_info

if TYPE_CHECKING:
    import weakref

    from bpf2py.engine.memory import Memory
    from bpf2py.engine.sockets import XdpSocket
    from bpf2py.owned import Closable
    from bpf2py.seam.protocol import Buffer
    from bpf2py.spec.map_spec import MapSpec
    from bpf2py.spec.program_spec import ProgramSpec
    from bpf2py.uapi.program_types import ProgramType

__all__ = [
    "EINVAL",
    "ENOTSUPP",
    "EOPNOTSUPP",
    "EPERM",
    "OWNER",
    "TEMPLATE",
    "MapCore",
    "MapSystem",
    "Slot",
    "StorableProgram",
    "constant",
]


# struct map of sources/engine.h: up to `own`.
HEADER = struct.Struct("<8IQQIIQII")
STRIDE, SLOT, FROZEN, COUNT = 24, 28, 48, 52  # offsets
OWN = 72
_BATCH = struct.Struct("<QQIIIIQQ")
_LINE = 64
LOCK, CPU, ALL_CPUS = 4, 8, 16  # BPF_F_LOCK, BPF_F_CPU, BPF_F_ALL_CPUS
MODE = int(MapFlags.RDONLY | MapFlags.WRONLY)
KEEP = 16 << 20  # bytes of batch buffers that are kept for the next call


def constant(result: int) -> Callable[..., int]:
    """A command that gives always the same."""
    return lambda *_: result


def _denied_read(_key: int, _value: int, flags: int, _: int) -> int:
    return -EINVAL if flags & ~LOCK else -EPERM


class Descriptor(Protocol):
    """Of a map: see `EngineMap`."""

    @property
    def core(self) -> MapCore: ...


class StorableProgram(Protocol):
    """What maps ask of a program they hold: see `LoadedProgram`."""

    @property
    def ident(self) -> int: ...

    @property
    def number(self) -> int: ...

    @property
    def type(self) -> ProgramType: ...

    @property
    def spec(self) -> ProgramSpec: ...

    def duplicate(self) -> Closable: ...


class PerfOutput(Protocol):
    """The buffer in an entry of a PERF_EVENT_ARRAY: see `PerfBuffer`."""

    @property
    def address(self) -> int: ...

    def output(self, data: bytes) -> int: ...


class Waiting(Protocol):
    """Who waits for a ring: see `RingEvents`."""

    def signal(self) -> None: ...


class ValueTimers(Protocol):
    """The timers in values of maps: see `Timers`."""

    def drop_map(self, header: int) -> None: ...


class MapSystem(System):
    """A system with maps, and what they can hold: the part of a `Machine` that maps know, which makes it.

    Attributes:
        maps: their descriptors, by number. Weak: one that nobody has any more is closed.
        cores: the maps themselves, by the addresses of their headers.
        programs: by number.
        sockets: simulated ones, by number.
        events: perf buffers, by number.
        ring_events: readers of ring and perf buffers that wait.
        timers: of their values.
    """

    maps: weakref.WeakValueDictionary[int, Descriptor]
    cores: weakref.WeakValueDictionary[int, MapCore]
    programs: Mapping[int, StorableProgram]
    sockets: weakref.WeakValueDictionary[int, XdpSocket]
    events: dict[int, PerfOutput]
    ring_events: list[Waiting]
    timers: ValueTimers


class MapCore(Owned):
    """A map: its header and blocks of memory, which go when nobody refers to it any more.

    Attributes:
        header: address of the header, which is what programs know the map by.
        info: facts, as the kernel would tell them.
        value_bytes: bytes of a value as commands transfer it.
        data_address: where elements are.
        names: the library's functions for commands, by command; an int instead is what the command always gives.
        batch: ``"buckets"`` (the token is a bucket's number), ``"keys"`` (it is a key), ``"indices"`` (it is an index, and nothing
            can be deleted) or ``"none"``.
        by_hand: batches go through single commands, which are not the library's alone.
        fields: members of the value that are the kernel's.
        held: what the map holds, by key: the maps, programs or others that must stay alive.
        slot_type: what `slot()` gives.
        map_memory: from (length, writable, offset) to the address a mapping starts at; raises OSError.
        writable_mappings: how many there are.
        users: descriptors there are; what programs and other maps hold is not counted.
        at_free: called before the memory is given back.
    """

    __slots__ = (
        "__weakref__", "_args", "_blocks", "_buffers", "_index", "at_free", "batch", "by_hand", "data_address",
        "engine", "fields", "header", "held", "info", "map_memory", "names", "slot_type", "spec", "users",
        "value_bytes", "writable_mappings",
    )  # fmt: skip

    def __init__(self, engine: MapSystem, spec: MapSpec, max_entries: int | None = None) -> None:
        self.engine = engine
        self.spec = spec
        self.users = 0
        self._blocks: list[int] = []
        self.held: dict[bytes, Any] = {}
        self.at_free: list[Callable[[], None]] = []
        self.header = 0
        self.header = engine.memory.new_header()
        engine.cores[self.header] = self
        kind = int(spec.type)
        name = "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in spec.name)[:15]
        entries = spec.max_entries if max_entries is None else max_entries
        flags = int(spec.flags) & ~MODE  # these two stay with the descriptor
        self.info = MapInfo(
            kind, engine.next_id(), spec.key_size, spec.value_size, entries, flags, name, spec.map_extra
        )
        if spec.btf is not None and spec.value_type_id and type_info(kind).fd_value is None:
            self.info = self.info._replace(
                btf_id=self.info.id, btf_key_type_id=spec.key_type_id, btf_value_type_id=spec.value_type_id
            )
        per_cpu = type_info(kind).per_cpu
        self.value_bytes = (spec.value_size + 7) // 8 * 8 * engine.possible_cpus if per_cpu else spec.value_size
        self.data_address = 0
        self.names: dict[str, str | int] = {}
        self.batch = "none"
        self.by_hand = False
        self.fields = NO_FIELDS
        self.slot_type: Callable[[MapCore, bool, bool], Any] = Slot
        self.map_memory: Callable[[int, bool, int], int] = _not_mappable
        self.writable_mappings = 0
        self._args = self._index = 0
        self._buffers = (0, 0, 0)

    def __del__(self, exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        if self.header and not exiting():
            self.engine.when_idle(_free, self.engine.memory, self.header, self._blocks, self.held, self.at_free)

    def unused(self) -> None:
        """The last descriptor is closed: a PROG_ARRAY is emptied, for its programs may hold it (bpf_map_put_uref())."""
        if self.info.type == MapType.PROG_ARRAY:
            self.empty()
        if self.fields.places:
            self.engine.timers.drop_map(self.header)

    def empty(self) -> None:
        """Drop what an array of objects holds."""
        words = self.data_address >> 3
        self.engine.memory.u64[words : words + self.info.max_entries] = memoryview(
            bytes(8 * self.info.max_entries)
        ).cast("Q")
        while self.held:
            key, found = self.held.popitem()
            if key != OWNER:
                release(found)

    def allocate(self, size: int, private: bool = False) -> int:
        """Zeroed memory that goes with the map. Raises BpfOSError (ENOMEM)."""
        address = self.engine.memory.allocate(size, private)
        self._blocks.append(address)
        return address

    def describe(self, stride: int, slot: int = 0, data: int = 0, meta: int = 0, fields: Fields = NO_FIELDS) -> None:
        """Fill in the header."""
        info, memory = self.info, self.engine.memory
        place = 0
        if fields.places:
            place = self.allocate(8 * len(fields.places), True)
            for i, (offset, size) in enumerate(fields.places):
                struct.pack_into("<II", memory.view, place + 8 * i, offset, size)
        HEADER.pack_into(
            memory.view, self.header, info.type, info.flags, info.key_size, info.value_size, info.max_entries, info.id,
            stride, slot, data, meta, 0, 0, place, len(fields.places), int(fields.lock),
        )  # fmt: skip
        self.data_address = data
        self.fields = fields

    def own(self, layout: str, *values: int) -> None:
        """Fill in what the type lays out itself, a `struct` format."""
        struct.pack_into("<" + layout, self.engine.memory.view, self.header + OWN, *values)

    @property
    def frozen(self) -> bool:
        """Whether user space may no longer write."""
        return bool(self.engine.memory.u32[self.header + FROZEN >> 2])

    def freeze(self) -> None:
        """User space may no longer write."""
        self.engine.memory.u32[self.header + FROZEN >> 2] = 1

    @property
    def count(self) -> int:
        """Elements, where the library counts them."""
        return self.engine.memory.u32[self.header + COUNT >> 2]

    @property
    def stride(self) -> int:
        """Bytes from one element to the next."""
        return self.engine.memory.u32[self.header + STRIDE >> 2]

    @property
    def slot_size(self) -> int:
        """Bytes from one CPU's value to the next, of maps with one for each."""
        return self.engine.memory.u32[self.header + SLOT >> 2]

    def perf_output(self, cpu: int, data: bytes) -> int:
        """What bpf_perf_event_output() does to the buffer of a CPU; -ENOENT where nobody reads."""
        output = self.held.get(cpu.to_bytes(4, "little"))
        if output is None:
            return -ENOENT
        result: int = output(data)
        return result

    def key_of_value(self, address: int) -> tuple[int, int]:
        """(address of the key, address of the value) of the element an address lies in."""
        memory, header = self.engine.memory, self.header
        stride = memory.u32[header + STRIDE >> 2]
        index = (address - self.data_address) // stride
        start = self.data_address + index * stride
        if type_info(self.info.type).key != "index":
            return start, start + (self.info.key_size + 7 & -8)
        if not self._index:
            self._index = self.allocate(8)  # callbacks get a pointer to the index
        memory.u32[self._index >> 2] = index
        return self._index, start

    def value_bytes_with(self, flags: int) -> int:
        """Bytes of a value as commands with these flags transfer it."""
        return self.info.value_size if flags & (CPU | ALL_CPUS) else self.value_bytes

    def takes_flags(self, flags: int, allowed: int) -> int:
        """0, or the -errno a command of user space with these flags is refused with (bpf_map_check_op_flags())."""
        by_cpu = flags & (CPU | ALL_CPUS) and self.engine.version >= (7, 0) and type_info(self.info.type).per_cpu
        if not by_cpu:
            return -EINVAL if flags & ~LOCK or (flags and not self.fields.lock) else 0
        low, cpu = flags & 0xFFFFFFFF, flags >> 32
        if low & ~allowed or low & LOCK or low & (CPU | ALL_CPUS) == CPU | ALL_CPUS or (cpu and not low & CPU):
            return -EINVAL
        return 0 if cpu < self.engine.possible_cpus else -ERANGE

    def command(self, name: str) -> Callable[..., int]:
        """The library's function for a command, or one that gives the errno the type answers it with."""
        found = self.names.get(name, -ENOTSUPP)
        if isinstance(found, str):
            return partial(self.engine.operation(found), self.header)
        if name in ("next_key", "lookup_batch"):
            return constant(found)
        refuse: dict[str, Callable[..., int]] = {
            "lookup": self._refuse_read,
            "take": self._refuse_take,
            "delete": self._refuse_delete,
        }
        return partial(refuse.get(name, self._refuse_write), found)

    def _refuse_read(self, result: int, _key: int, _value: int, flags: int, _: int) -> int:
        return -EINVAL if flags & ~LOCK or (flags and not self.fields.lock) else result

    def _refuse_take(self, result: int, key: int, value: int, flags: int, _: int) -> int:
        if self.frozen and not flags & ~LOCK:
            return -EPERM
        return self._refuse_read(result, key, value, flags, 0)

    def _refuse_write(self, result: int, _key: int, _value: int, flags: int, _: int) -> int:
        if self.frozen:
            return -EPERM
        return -EINVAL if flags & LOCK and not self.fields.lock else result

    def _refuse_delete(self, result: int, *_: int) -> int:
        return -EPERM if self.frozen else result

    def lookup_batch(
        self,
        token: bytearray | None,
        token_out: bytearray,
        keys: Buffer,
        values: Buffer,
        count: int,
        flags: int,
        delete: bool,
    ) -> tuple[int, int]:
        """A whole batch by one call of the library: (result, elements)."""
        key_size, value_bytes = self.info.key_size, self.value_bytes_with(flags)
        memory = self.engine.memory
        place, keys_at, values_at = self._batch_buffers(count * key_size, count * value_bytes)
        width = 4 if self.batch == "buckets" else key_size
        cursor = place + _LINE
        if token is not None:
            memory.view[cursor : cursor + width] = token[:width]
        _BATCH.pack_into(memory.view, place, keys_at, values_at, count, count, token is None, delete, flags, cursor)
        result = self.command("lookup_batch")(place, 0, 0, 0)
        done: int = memory.u32[place + 20 >> 2]
        if result in (0, -ENOENT, -ENOSPC) and count:
            if done:
                _into(keys, memory.view[keys_at : keys_at + done * key_size])
                _into(values, memory.view[values_at : values_at + done * value_bytes])
            if memory.u32[place + 24 >> 2] == 2:
                token_out[:width] = memory.view[cursor : cursor + width]
        self._trim()
        return result, done

    def write_batch(self, name: str, keys: Buffer, values: Buffer, count: int, flags: int) -> tuple[int, int]:
        """BPF_MAP_UPDATE_BATCH or BPF_MAP_DELETE_BATCH by one call of the library: (result, elements done)."""
        each = self.value_bytes_with(flags)
        memory, key_bytes, value_bytes = self.engine.memory, count * self.info.key_size, count * each
        place, keys_at, values_at = self._batch_buffers(key_bytes, value_bytes if values is not None else 0)
        memory.view[keys_at : keys_at + key_bytes] = memoryview(keys).cast("B")[:key_bytes]
        if values is not None:
            memory.view[values_at : values_at + value_bytes] = memoryview(values).cast("B")[:value_bytes]
        _BATCH.pack_into(memory.view, place, keys_at, values_at, count, 0, 0, 0, flags, 0)
        result = self.engine.operation(name)(self.header, place, each, 0, 0)
        done: int = memory.u32[place + 20 >> 2]
        self._trim()
        return result, done

    def _batch_buffers(self, key_bytes: int, value_bytes: int) -> tuple[int, int, int]:
        """(arguments, keys, values): kept for the next call unless they are large."""
        memory = self.engine.memory
        if not self._args:
            self._args = self.allocate(_LINE + max(self.info.key_size, 4) + 8, True)
        wanted = key_bytes + value_bytes + 16
        keys, size, _ = self._buffers
        if size < wanted:
            if keys:
                self._blocks.remove(keys)
                memory.free(keys)
            self._buffers = (0, 0, 0)
            keys = self.allocate(wanted)
            self._buffers = (keys, wanted, 0)
        return self._args, keys, keys + (key_bytes + 7 & -8)

    def _trim(self) -> None:
        keys, size, _ = self._buffers
        if size > KEEP:
            self._blocks.remove(keys)
            self.engine.memory.free(keys)
            self._buffers = (0, 0, 0)


def _into(target: Any, data: memoryview) -> None:
    view = memoryview(target)
    if view.format != "B":
        view = view.cast("B")
    view[: len(data)] = data


def _not_mappable(length: int, writable: bool, offset: int) -> int:
    raise OSError(ENOTSUPP, "this type of map has no memory to be mapped")


def _free(
    memory: Memory, header: int, blocks: list[int], held: dict[bytes, Any], at_free: list[Callable[[], None]]
) -> None:
    for action in at_free:
        action()
    for key, found in held.items():
        if key != OWNER:
            release(found)
    held.clear()
    for block in blocks:
        memory.free(block)
    memory.free_header(header)


def free_block(memory: Memory, block: int, exiting: Callable[[], bool] = sys.is_finalizing) -> None:
    """Give a slot's buffers back: for finalizers, which may run while the interpreter ends."""
    if not exiting():
        memory.free(block)


TEMPLATE = b""  # in `held`: the map that says what others must be like
OWNER = b"owner"  # in `held`, where no key has five bytes: the type of the first program, which the others must have


def release(found: object) -> None:
    """Close what a map held: it had been duplicated for it, except for maps."""
    if not isinstance(found, MapCore) and hasattr(found, "close"):
        found.close()


class Slot:
    """Buffers for one operation, in the engine's memory: what is put there is what the library reads."""

    __slots__ = (
        "_block", "_core", "_delete", "_key", "_lookup", "_memory", "_next", "_next_key", "_take", "_update", "_value",
        "fast_lookup", "fast_update", "key", "key_view", "next_key", "value", "value_view",
    )  # fmt: skip

    def __init__(self, core: MapCore, readable: bool, writable: bool) -> None:
        memory = core.engine.memory
        self._block = 0
        key_size, value_bytes = core.info.key_size, core.value_bytes
        step = (key_size + 7) // 8 * 8
        self._core = core
        self._memory = memory
        block = self._block = memory.allocate(2 * step + value_bytes + 8)
        value = block + 2 * step
        self._key, self._next, self._value = block if key_size else 0, block + step, value
        self.key: Any = memory.view[block : block + key_size]
        self.next_key: Any = memory.view[block + step : block + step + key_size]
        self.value: Any = memory.view[value : value + max(value_bytes, 1)]
        self.key_view: Any = None
        self.value_view: Any = None
        denied = constant(-EPERM)
        self._lookup = core.command("lookup") if readable else _denied_read
        self._update = core.command("update") if writable else denied
        self._delete = core.command("delete") if writable else denied
        self._take = core.command("take") if readable and writable else _denied_read
        self._next_key = core.command("next_key") if readable else denied
        self.fast_lookup = partial(self._lookup, self._key, value, 0, 0)
        self.fast_update = partial(self._update, self._key, value, 0, 0)

    def hasten(self) -> None:
        """They are quick."""

    def lookup(self, flags: int = 0) -> int:
        """BPF_MAP_LOOKUP_ELEM."""
        return self._lookup(self._key, self._value, flags, 0)

    def update(self, flags: int = 0) -> int:
        """BPF_MAP_UPDATE_ELEM."""
        return self._update(self._key, self._value, flags, 0)

    def delete(self) -> int:
        """BPF_MAP_DELETE_ELEM."""
        return self._delete(self._key, 0, 0, 0)

    def lookup_and_delete(self, flags: int = 0) -> int:
        """BPF_MAP_LOOKUP_AND_DELETE_ELEM."""
        return self._take(self._key, self._value, flags, 0)

    def get_next_key(self, first: bool) -> int:
        """BPF_MAP_GET_NEXT_KEY."""
        return self._next_key(0 if first else self._key, self._next, 0, 0)

    def __del__(self, free: Callable[[Memory, int], None] = free_block) -> None:
        if self._block:
            free(self._memory, self._block)
