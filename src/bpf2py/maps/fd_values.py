"""Maps whose values are other kernel objects: programs, maps, cgroups, sockets, devices, CPUs.

They are set by descriptor, or by what has one: a `Program`, a `Map`, a socket, an open file, a path.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any, Generic, TypeVar, overload
from bpf2py.btf.codec import BytesCodec, Codec
from bpf2py.btf.codec_for import codec_for
from bpf2py.errors import EncodeError, KeyExists, KeyNotFound
from bpf2py.maps import batch
from bpf2py.maps.base import NOEXIST, K
from bpf2py.maps.mapping import MappingMap
from bpf2py.spec.map_spec import MapSpec
from bpf2py.uapi.errno import ENOENT
from bpf2py.uapi.map_types import type_info

if TYPE_CHECKING:
    import socket

    from bpf2py.maps.base import AnyMap
else:
    socket = module("socket")

D = TypeVar("D")
E = TypeVar("E")
_MISSING: Any = object()


@contextmanager
def descriptor(value: object, open_path: Callable[[str], int] | None = None) -> Iterator[int]:
    """The descriptor of a value: an int, an object with fileno(), or with `open_path` a path, opened meanwhile."""
    if isinstance(value, int):
        if not 0 <= value < 1 << 31:
            raise EncodeError(f"{value} is not a descriptor")
        yield value
    elif hasattr(value, "fileno"):
        yield value.fileno()
    elif open_path is not None and isinstance(value, str | os.PathLike):
        fd = open_path(os.fspath(value))
        try:
            yield fd
        finally:
            os.close(fd)
    else:
        raise EncodeError(f"{value!r} is not a descriptor and has none")


def _open_directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


class _OneByOne(MappingMap[K, Any]):
    """Maps whose values are read as something else than they are written as, and have no batch commands."""

    def setdefault(self, key: K, default: object, /) -> Any:  # type: ignore[override]
        """What reading gives for a key, set first if nothing is stored there: by BPF_NOEXIST where the type is a hash.

        Types with indices take BPF_NOEXIST for none of them: lookup, then update, which may replace what is stored in between.
        """
        if type_info(self._info.type).key != "index":
            try:
                self.put(key, default, NOEXIST)
            except KeyExists:
                pass
        elif self.get(key, _MISSING) is _MISSING:
            self[key] = default
        return self[key]

    def pop(self, key: K, default: object = _MISSING, /) -> Any:
        """Remove what is stored and return what reading it gave: lookup, then delete."""
        try:
            found = self[key]
            self._delete(key)
        except KeyNotFound:
            if default is _MISSING:
                raise
            return default
        return found

    def _update_many(self, pairs: list[tuple[Any, Any]], flags: int = 0) -> None:
        for key, value in pairs:
            self.put(key, value, flags)


class FdValueMap(_OneByOne[K]):
    """Keys to descriptors; reading gives the kernel's id of what is stored, where the type lets user space read.

    Iteration skips indices where nothing is stored.
    """

    def __setitem__(self, key: K, value: object) -> None:
        self.put(key, value)

    def put(self, key: K, value: object, flags: int = 0) -> None:
        """Store an object with update flags."""
        with ExitStack() as stack:
            try:
                fd = stack.enter_context(self._descriptor(value))
            except EncodeError as error:
                raise EncodeError(f"map {self.name}: update: value: {error.message}") from None
            self._update(key, fd.to_bytes(4, "little").ljust(self.value_size, b"\0"), int(flags))

    def _descriptor(self, value: Any) -> Any:
        return descriptor(value)

    def _put_value(self, slot: Any, value: Any, operation: str) -> None:
        slot.value[:] = value  # encoded by put()

    def __getitem__(self, key: K) -> int:
        return int.from_bytes(self._raw(key), "little")

    @overload
    def get(self, key: K, /) -> int | None: ...
    @overload
    def get(self, key: K, default: int | D, /) -> int | D: ...
    def get(self, key: K, default: Any = None, /) -> Any:
        """The id of what is stored, or `default`."""
        if key not in self:
            return default
        return self[key]

    def _raw(self, key: K) -> bytes:
        slot = self._slot()
        try:
            self._put_key(slot, key, "lookup")
            self._check("lookup", slot.lookup(), key)
            return bytes(slot.value)
        finally:
            self._slots.append(slot)

    def _chunks(self, delete: bool = False, small: bool = False) -> Iterator[batch.Chunk]:
        self.fileno()
        raise batch.BatchUnsupported

    def _occupied(self) -> Iterator[K]:
        """Keys under which something is stored."""
        slot = self._handle.slot()
        for key in batch.walk(self.name, self._handle):
            slot.key[:] = key
            result = slot.lookup()
            if result == -ENOENT:
                continue
            self._check("lookup", result, key)
            yield self._decode_key(key)

    def __iter__(self) -> Iterator[K]:
        return self._occupied()

    def _iter_items(self) -> Iterator[tuple[K, Any]]:
        for key in self._occupied():
            yield key, self[key]

    def count(self) -> int:
        """Number of keys under which something is stored, found by looking at each."""
        return sum(1 for _ in self._occupied())

    def __bool__(self) -> bool:
        return any(True for _ in self._occupied())

    def clear(self) -> None:
        """Remove everything stored."""
        for key in list(self._occupied()):
            self._delete(key)


class ProgArrayMap(FdValueMap[int]):
    """PROG_ARRAY (Linux 4.2): programs for bpf_tail_call(); ``array[0] = obj.programs["next"]``; reading gives program ids."""


class CgroupArrayMap(FdValueMap[int]):
    """CGROUP_ARRAY (Linux 4.8): cgroups v2 by path or descriptor; cannot be read back."""

    def _descriptor(self, value: Any) -> Any:
        return descriptor(value, _open_directory)


class PerfEventArrayMap(FdValueMap[int], Generic[E]):
    """PERF_EVENT_ARRAY (Linux 4.3): perf events by CPU number; `bpf2py.PerfReader` reads the `E` that programs put into it."""


class SockMap(FdValueMap[K]):
    """SOCKMAP (4.14), SOCKHASH (4.18) and REUSEPORT_SOCKARRAY (4.19): sockets, to redirect to or to choose from.

    Values are sockets or descriptors. Reading gives the socket's cookie, which takes values of 8 bytes (Linux 5.5).
    """


class XskMap(FdValueMap[int]):
    """XSKMAP (Linux 4.18): AF_XDP sockets by queue; cannot be read back."""


class MapOfMaps(FdValueMap[K]):
    """ARRAY_OF_MAPS and HASH_OF_MAPS (Linux 4.12): ``outer[key] = inner``; reading opens the inner map.

    An inner map must have the type, sizes, flags (and, but for HASH-like types and arrays with BPF_F_INNER_MAP, max_entries) of the
    definition the outer map was created with. Reading needs CAP_SYS_ADMIN; `ids()` does not open the maps.
    """

    def __getitem__(self, key: K) -> AnyMap:
        return self._open(super().__getitem__(key))

    def _open(self, ident: int) -> AnyMap:
        inner: MapSpec | None = self.spec.inner if self.spec is not None else None
        from bpf2py.maps.base import wrap

        handle, found = self._handle.open_held(ident)
        if inner is None or (inner.btf is None and inner.key is None):
            return wrap(handle, found)
        spec = inner.copy()
        spec.name = f"{self.name}[{ident}]"
        return wrap(handle, spec)

    def ids(self) -> dict[K, int]:
        """The inner maps' ids by key."""
        return {key: FdValueMap.__getitem__(self, key) for key in self._occupied()}


class DevMap(_OneByOne[K]):
    """DEVMAP (4.14) and DEVMAP_HASH (5.4): network devices to redirect to.

    Values are interface names or indices; with values of 8 bytes also a pair (device, XDP program) (Linux 5.8).
    Reading gives the index, or the pair (index, program id).
    """

    def _put_value(self, slot: Any, value: Any, operation: str) -> None:
        device, program = value if isinstance(value, tuple) else (value, None)
        if isinstance(device, str):
            try:
                device = socket.if_nametoindex(device)
            except OSError:
                raise EncodeError(f"map {self.name}: {operation}: there is no network device {device!r}") from None
        else:
            try:
                socket.if_indextoname(device)
            except (OSError, OverflowError, TypeError):
                raise EncodeError(f"map {self.name}: {operation}: there is no network device {device!r}") from None
        self._put_pair(slot, int(device), program, operation)

    def _put_pair(self, slot: Any, first: int, program: Any, operation: str) -> None:
        fd = -1
        if program is not None:
            fd = program.fileno() if hasattr(program, "fileno") else int(program)
        if program is not None and self.value_size < 8:
            raise EncodeError(
                f"map {self.name}: {operation}: a program needs values of 8 bytes (struct bpf_devmap_val)"
            )
        raw = first.to_bytes(4, "little")
        slot.value[:] = raw + (fd & 0xFFFFFFFF).to_bytes(4, "little") if self.value_size == 8 else raw

    def __getitem__(self, key: K) -> int | tuple[int, int]:
        return self._lookup(key)

    def _lookup(self, key: Any, flags: int = 0) -> int | tuple[int, int]:
        slot = self._slot()
        try:
            self._put_key(slot, key, "lookup")
            self._check("lookup", slot.lookup(flags), key)
            return self._pair(bytes(slot.value))
        finally:
            self._slots.append(slot)

    @overload
    def get(self, key: K, /) -> int | tuple[int, int] | None: ...
    @overload
    def get(self, key: K, default: int | tuple[int, int] | D, /) -> int | tuple[int, int] | D: ...
    def get(self, key: K, default: Any = None, /) -> Any:
        """The device, or `default`."""
        return self._lookup(key) if key in self else default

    @staticmethod
    def _pair(raw: bytes) -> int | tuple[int, int]:
        first = int.from_bytes(raw[:4], "little")
        return first if len(raw) == 4 else (first, int.from_bytes(raw[4:8], "little"))

    def _chunks(self, delete: bool = False, small: bool = False) -> Iterator[batch.Chunk]:
        self.fileno()
        raise batch.BatchUnsupported

    def _iter_items(self) -> Iterator[tuple[K, Any]]:
        for raw in batch.walk(self.name, self._handle):
            key = self._decode_key(raw)
            if key in self:
                yield key, self._lookup(key)

    def __iter__(self) -> Iterator[K]:
        return (key for key, _ in self._iter_items())

    def count(self) -> int:
        """Number of keys with a device, found by looking at each."""
        return sum(1 for _ in self._iter_items())

    def __bool__(self) -> bool:
        return any(True for _ in self._iter_items())

    def clear(self) -> None:
        """Remove all devices."""
        for key in list(self):
            self._delete(key)


class CpuMap(DevMap[int]):
    """CPUMAP (Linux 4.15): CPUs to redirect to; values are queue sizes, or pairs (queue size, XDP program) (Linux 5.9)."""

    def _put_value(self, slot: Any, value: Any, operation: str) -> None:
        size, program = value if isinstance(value, tuple) else (value, None)
        if not isinstance(size, int) or not 0 <= size < 1 << 32:
            raise EncodeError(f"map {self.name}: {operation}: a queue size is wanted, not {size!r}")
        self._put_pair(slot, size, program, operation)


def event_codec_of(spec: MapSpec | None) -> Codec[Any]:
    """The codec of what programs send through a PERF_EVENT_ARRAY, whose own values are descriptors."""
    if spec is not None and spec.btf is not None and spec.value_type_id:
        return codec_for(spec.btf, spec.value_type_id)
    return BytesCodec(0)
