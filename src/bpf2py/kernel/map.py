"""Maps of the kernel: BPF_MAP_CREATE and the commands on a map's descriptor."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Sequence
from functools import cache, partial

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING
from bpf2py.errors import BpfOSError, MapCreateError, NotSupported
from bpf2py.kernel.objects import map_info, must_be, open_id, open_pinned, pin
from bpf2py.kernel.syscall import (
    ATTR_SIZE,
    BPF_F_TOKEN_FD,
    Fd,
    Number,
    address,
    address_of_bytes,
    bpf,
    bpf_inout,
    bpf_open,
    check_open,
    environment_error,
    error_for,
    libc,
    object_name,
    older_than,
    quick_libc,
    syscall_numbers,
)
from bpf2py.owned import Owned
from bpf2py.seam.info import spec_of
from bpf2py.spec.map_spec import MapSpec
from bpf2py.uapi import cpus
from bpf2py.uapi.commands import Command
from bpf2py.uapi.errno import EACCES, EBADF, EINVAL, EPERM
from bpf2py.uapi.map_types import UNKNOWN_MAP_TYPE, MapFlags, MapType, type_info

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable, Hashable

    from bpf2py.kernel import features, quick_bpf
    from bpf2py.kernel.elem_count import ElemCounter
    from bpf2py.kernel.perf_buffer import DescriptorSource, PerfBuffer
    from bpf2py.seam.element_calls import ElementCalls
    from bpf2py.seam.protocol import Buffer, MapHandle, MapSlot
    from bpf2py.spec import check_map, exclusive
else:
    weakref = module("weakref")
    features = module("bpf2py.kernel.features")
    quick_bpf = module("bpf2py.kernel.quick_bpf")
    check_map = module("bpf2py.spec.check_map")
    exclusive = module("bpf2py.spec.exclusive")

# union bpf_attr of include/uapi/linux/bpf.h, by command.
_CREATE = struct.Struct("<7I16s5IQii")
_EXCLUSIVE = struct.Struct("<QI4x")  # Linux 6.18
_ELEM = struct.Struct("<IxxxxQQQ")
_BATCH = struct.Struct("<QQQQIIQQ")
MAP_FIXED_NOREPLACE = 0x100000  # Linux 4.17; older kernels take the address as a hint
QUICK = 4096  # bytes of a value that are copied without giving up the interpreter lock


@cache
def possible_cpus() -> int:
    """Slots of a per-CPU value on this machine, read once. Raises BpfOSError where /sys does not tell."""
    try:
        return cpus.possible_cpus()
    except OSError as error:
        raise environment_error(error.errno or 0, "possible CPUs", "open") or BpfOSError(
            f"the possible CPUs, one value each, are not known: {error.filename}: {error.strerror}; "
            "/sys must be mounted (mount -t sysfs sysfs /sys)",
            errno=error.errno,
            command="open",
        ) from None


@cache
def possible_cpu_numbers() -> tuple[int, ...]:
    """The CPUs whose values are in these slots, read once."""
    return tuple(cpus.possible_cpu_numbers())


def create_map(
    spec: MapSpec, btf_fd: int, inner_fd: int = 0, token_fd: int = 0, kernel_value: tuple[int, int] = (0, 0)
) -> KernelMap:
    """BPF_MAP_CREATE.

    Raises:
        MapCreateError: the kernel refused the spec; the message says which field is wrong where that is known.
        PermissionDenied: a right is missing.
        NotSupported: the kernel is older than the map type.
    """
    if (spec.key_size | spec.value_size | spec.max_entries | int(spec.flags)) >> 32:
        raise _create_error(spec, EINVAL)  # negative, or more than the kernel's fields hold
    key_id, value_id = (spec.key_type_id, spec.value_type_id) if btf_fd else (0, 0)
    if spec.is_section:
        key_id, value_id = 0, spec.section_type_id if btf_fd else 0
    if type_info(spec.type).fd_value is not None or not value_id:
        key_id = value_id = 0
    if kernel_value[1]:
        spec = spec.copy()
        spec.flags |= MapFlags.VTYPE_BTF_OBJ_FD
    attempts = [(btf_fd if value_id or kernel_value[0] else 0, key_id, value_id)]
    if value_id:
        attempts.append((0, 0, 0))  # some types take no BTF, and kernels differ in which
    errno = EINVAL
    digest = exclusive.exclusive_digest(spec) if spec.exclusive is not None else b""
    for fd, key, value in attempts:
        attr = _CREATE.pack(
            int(spec.type) & 0xFFFFFFFF,
            spec.key_size,
            spec.value_size,
            spec.max_entries,
            int(spec.flags) | (BPF_F_TOKEN_FD if token_fd else 0),
            inner_fd,
            spec.numa_node or 0,
            object_name(spec.name),
            0,
            fd,
            key,
            value,
            kernel_value[0],
            spec.map_extra,
            kernel_value[1],
            token_fd,
        )
        if digest:
            attr += _EXCLUSIVE.pack(address_of_bytes(digest), len(digest))
        result = bpf_open(Command.MAP_CREATE, attr)
        if isinstance(result, Fd):
            return KernelMap(result)
        errno = -result
    raise _create_error(spec, errno)


def _create_error(spec: MapSpec, errno: int) -> Exception:
    what = f"map {spec.name}: create"
    elsewhere = environment_error(errno, what, "BPF_MAP_CREATE")
    if elsewhere is not None:
        return elsewhere
    info = type_info(spec.type)
    too_new = info is not UNKNOWN_MAP_TYPE and older_than(info.since)  # what is wrong with it besides comes second
    reason = check_map.explain_create(spec, page_size=mmap.PAGESIZE) if not too_new else None
    if reason is None and errno in (EPERM, EACCES):
        return error_for(errno, Command.MAP_CREATE, what)
    if reason is None and spec.exclusive is not None and older_than(exclusive.EXCLUSIVE_SINCE):
        return exclusive.no_exclusive_maps(what, os.uname().release)
    if reason is None:
        missing = features.explain_map_type(spec)
        if missing is not None:
            since, text = missing
            return NotSupported(
                f"{what}: {text}", feature=spec.type_name, since=since, errno=errno, command="BPF_MAP_CREATE"
            )
        reason = f"the kernel refused {spec!r}"
    return MapCreateError(f"{what}: {reason}", errno=errno, command="BPF_MAP_CREATE")


class KernelMap(Owned):
    """A map descriptor."""

    __slots__ = ("_counter", "_fd", "info", "possible_cpus", "value_bytes")

    def __init__(self, fd: Fd) -> None:
        self._fd = fd
        self._counter: ElemCounter | None = None
        self.info = map_info(fd.number)
        per_cpu = type_info(self.info.type).per_cpu
        try:
            self.possible_cpus = possible_cpus()
        except BpfOSError:  # no /sys, which other maps do without
            if per_cpu:
                raise
            self.possible_cpus = 1
        size = self.info.value_size
        self.value_bytes = (size + 7) // 8 * 8 * self.possible_cpus if per_cpu else size

    @property
    def fd(self) -> int:
        """The descriptor's number, negative once closed."""
        return self._fd.number

    @property
    def cpu_numbers(self) -> Sequence[int]:
        """The CPU each slot of a per-CPU value belongs to."""
        return possible_cpu_numbers()

    @property
    def zeroes_other_cpus(self) -> bool:
        """Whether an element made for one CPU has zeros for the others."""
        return not older_than("7.2")

    def hold(self) -> Number:
        """The descriptor's number, not used for anything else as long as the result is kept; see `Fd.hold`."""
        return self._fd.hold()

    def release(self) -> Fd:
        """Hand the descriptor over to another object."""
        return self._fd

    def slot(self) -> KernelSlot:
        """Buffers for single operations."""
        return KernelSlot(self._fd, self.info.key_size, self.value_bytes)

    def element_calls(self, key: str, value: str) -> ElementCalls | None:
        """The commands on single elements of a map of plain integers."""
        return quick_bpf.element_calls(self._fd.hold(), key, value)

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
        """BPF_MAP_LOOKUP_BATCH or BPF_MAP_LOOKUP_AND_DELETE_BATCH (Linux 5.6)."""
        command = Command.MAP_LOOKUP_AND_DELETE_BATCH if delete else Command.MAP_LOOKUP_BATCH
        token = address(token_in) if token_in is not None else 0
        return self._batch(command, token, address(token_out), address(keys), address(values), count, flags)

    def update_batch(self, keys: Buffer, values: Buffer, count: int, flags: int) -> tuple[int, int]:
        """BPF_MAP_UPDATE_BATCH (Linux 5.6)."""
        return self._batch(Command.MAP_UPDATE_BATCH, 0, 0, _readable(keys), _readable(values), count, flags)

    def delete_batch(self, keys: Buffer, count: int, flags: int) -> tuple[int, int]:
        """BPF_MAP_DELETE_BATCH (Linux 5.6)."""
        return self._batch(Command.MAP_DELETE_BATCH, 0, 0, _readable(keys), 0, count, flags)

    def _batch(
        self, command: int, token_in: int, token_out: int, keys: int, values: int, count: int, flags: int
    ) -> tuple[int, int]:
        held = self._fd.hold()  # another thread may close the map meanwhile
        attr = _BATCH.pack(token_in, token_out, keys, values, count, held.value & 0xFFFFFFFF, flags, 0)
        buffer = ctypes.create_string_buffer(attr, ATTR_SIZE)
        result = bpf_inout(command, buffer)
        return result, int.from_bytes(buffer.raw[32:36], "little")

    def count(self) -> int | None:
        """Elements by the kernel's own counters (hash maps, Linux 6.6), None where they cannot be read."""
        if self._counter is None:
            from bpf2py.kernel.elem_count import COUNTED, ElemCounter

            if self.info.type not in COUNTED:
                return None
            self._counter = ElemCounter(self._fd)
        return self._counter.count()

    def freeze(self) -> int:
        """BPF_MAP_FREEZE (Linux 5.2)."""
        held = self._fd.hold()
        return bpf(Command.MAP_FREEZE, struct.pack("<I", held.value & 0xFFFFFFFF))

    def pin(self, path: str) -> int:
        """BPF_OBJ_PIN (Linux 4.4)."""
        held = self._fd.hold()
        return pin(held.value, path)

    def opened_at(self, path: str) -> KernelMap:
        """The map that is pinned at a path. Raises PermissionDenied or BpfOSError."""
        return open_map_pin(path)

    def mmap(self, length: int, writable: bool, offset: int = 0) -> Buffer:
        """Map the map's memory (BPF_F_MMAPABLE arrays, rings, arenas; an arena with map_extra at that address)."""
        held = self._fd.hold()
        if held.value < 0:
            raise OSError(EBADF, os.strerror(EBADF))  # mmap.mmap(-1) would map anonymous memory
        if self.info.type == MapType.ARENA and self.info.map_extra:
            return mmap_at(held.value, length, self.info.map_extra)
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        return mmap.mmap(held.value, length, mmap.MAP_SHARED, protection, offset=offset)

    @property
    def identity(self) -> Hashable:
        """What is equal for all handles of the same map."""
        return "kernel", self.info.id

    @property
    def page_size(self) -> int:
        """Bytes of a page of the map's memory."""
        return mmap.PAGESIZE

    @property
    def online_cpus(self) -> list[int]:
        """CPUs that run programs now, whose perf buffers a reader opens."""
        return cpus.online_cpus()

    def event_source(self) -> DescriptorSource:
        """What a reader of this RINGBUF waits for; the caller closes it."""
        from bpf2py.kernel.perf_buffer import DescriptorSource

        held = self._fd.hold()
        return DescriptorSource(Fd(os.dup(held.value)))

    def open_perf_buffer(self, pages: int, cpu: int, overwritable: bool, wakeup: tuple[int, bool]) -> PerfBuffer:
        """A buffer for a CPU's entry of this PERF_EVENT_ARRAY; the caller stores its `fd` and closes it."""
        from bpf2py.kernel.perf_buffer import PerfBuffer

        return PerfBuffer(f"map {self.info.name}: PerfReader", pages, cpu, overwritable, wakeup)

    def open_held(self, ident: int) -> tuple[KernelMap, MapSpec]:
        """The inner map with this id, and what the kernel tells of its definition. Raises PermissionDenied or BpfOSError."""
        from bpf2py.kernel.btf import btf_by_id

        found = check_open(open_id(Command.MAP_GET_FD_BY_ID, ident), Command.MAP_GET_FD_BY_ID, f"map id {ident}: open")
        inner = KernelMap(found)
        return inner, spec_of(inner.info, btf_by_id(inner.info.btf_id) if inner.info.btf_id else None)

    def duplicate(self) -> KernelMap:
        """Another descriptor of the same map."""
        held = self._fd.hold()
        new = KernelMap.__new__(KernelMap)
        new._fd = Fd(os.dup(held.value))
        new._counter = None
        new.info, new.possible_cpus, new.value_bytes = self.info, self.possible_cpus, self.value_bytes
        return new

    def close(self) -> None:
        """Close the descriptor."""
        if self._counter is not None:
            self._counter.close()
        self._fd.close()


def mmap_at(fd: int, length: int, address: int) -> Buffer:
    """Shared writable memory at an address, as a buffer that is unmapped when nobody refers to it. Raises OSError."""
    library = libc()
    function = library.mmap
    function.restype = ctypes.c_void_p
    at = function(
        ctypes.c_void_p(address),
        ctypes.c_size_t(length),
        mmap.PROT_READ | mmap.PROT_WRITE,
        mmap.MAP_SHARED | MAP_FIXED_NOREPLACE,
        fd,
        ctypes.c_long(0),
    )
    if at is None or at == ctypes.c_void_p(-1).value:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    buffer = (ctypes.c_char * length).from_address(at)
    weakref.finalize(buffer, library.munmap, ctypes.c_void_p(at), ctypes.c_size_t(length))
    return buffer


def _readable(buffer: Buffer) -> int:
    return address_of_bytes(buffer) if isinstance(buffer, bytes) else address(buffer)


class KernelSlot(Owned):
    """Preset bpf_attr and buffers for the single-element commands."""

    __slots__ = (
        "_attr",
        "_attr_bytes",
        "_held",
        "_keep",
        "_number",
        "_syscall",
        "_value_address",
        "fast_lookup",
        "fast_update",
        "key",
        "key_view",
        "next_key",
        "value",
        "value_view",
    )

    def __init__(self, fd: Fd, key_size: int, value_bytes: int) -> None:
        held = fd.hold()
        self.key = bytearray(max(key_size, 1))
        self.value = bytearray(max(value_bytes, 1))
        self.next_key = bytearray(max(key_size, 1))
        holders = [(ctypes.c_char * len(b)).from_buffer(b) for b in (self.key, self.value, self.next_key)]
        if key_size == 0:
            self.key = bytearray()
        self._attr_bytes = bytearray(32)
        self._attr = (ctypes.c_char * 32).from_buffer(self._attr_bytes)
        self._keep = holders
        self._held = held  # the number below is not another map's as long as these buffers are there
        key_address = ctypes.addressof(holders[0]) if key_size else 0
        self._value_address = ctypes.addressof(holders[1])
        _ELEM.pack_into(self._attr_bytes, 0, held.value & 0xFFFFFFFF, key_address, self._value_address, 0)
        self._number = syscall_numbers()[0]
        self._syscall = libc().syscall
        reference = ctypes.byref(self._attr)
        call = quick_libc().syscall if value_bytes <= QUICK else self._syscall
        self.fast_lookup: Callable[[], int] = partial(call, self._number, 1, reference, 32)
        self.fast_update: Callable[[], int] = partial(call, self._number, 2, reference, 32)
        self.key_view = self.value_view = None

    def hasten(self) -> None:
        """Let `fast_lookup` and `fast_update` go by machine code, where there is such."""
        if len(self.value) <= QUICK:
            calls = quick_bpf.plain_calls(bytes(self._attr_bytes))
            if calls is not None:
                self.fast_lookup, self.fast_update = calls

    def _call(self, command: int, flags: int) -> int:
        if flags:
            self._attr_bytes[24:32] = flags.to_bytes(8, "little")
        result: int = self._syscall(self._number, command, self._attr, 32)
        if flags:
            self._attr_bytes[24:32] = bytes(8)
        return result if result == 0 else -ctypes.get_errno()

    def lookup(self, flags: int = 0) -> int:
        """BPF_MAP_LOOKUP_ELEM."""
        if flags:
            return self._call(1, flags)
        return 0 if self._syscall(self._number, 1, self._attr, 32) == 0 else -ctypes.get_errno()

    def update(self, flags: int = 0) -> int:
        """BPF_MAP_UPDATE_ELEM."""
        if flags:
            return self._call(2, flags)
        return 0 if self._syscall(self._number, 2, self._attr, 32) == 0 else -ctypes.get_errno()

    def delete(self) -> int:
        """BPF_MAP_DELETE_ELEM."""
        # The kernel insists that fields a command does not use are zero.
        self._attr_bytes[16:24] = bytes(8)
        try:
            return self._call(3, 0)
        finally:
            self._attr_bytes[16:24] = self._value_address.to_bytes(8, "little")

    def lookup_and_delete(self, flags: int = 0) -> int:
        """BPF_MAP_LOOKUP_AND_DELETE_ELEM (Linux 4.20; hash maps 5.14)."""
        return self._call(21, flags)

    def get_next_key(self, first: bool) -> int:
        """BPF_MAP_GET_NEXT_KEY."""
        key = b"" if first else self._attr_bytes[8:16]
        attr = bytearray(self._attr_bytes)
        attr[8:16] = bytes(8) if first else key
        attr[16:24] = ctypes.addressof(self._keep[2]).to_bytes(8, "little")
        buffer = (ctypes.c_char * 32).from_buffer(attr)
        result: int = self._syscall(self._number, 4, buffer, 32)
        return result if result == 0 else -ctypes.get_errno()


def open_map_pin(path: str, read_only: bool = False) -> KernelMap:
    """A pinned map. Raises PermissionDenied or BpfOSError."""
    what = f"pinned map {path}: open"
    return KernelMap(must_be("map", open_pinned(path, what, MapFlags.RDONLY if read_only else 0), what))


if TYPE_CHECKING:

    def _proof(handle: KernelMap) -> MapHandle:
        return handle

    def _proof_of_slots(slot: KernelSlot) -> MapSlot:
        return slot
