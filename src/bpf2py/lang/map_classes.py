"""Maps, for Python: generic in key and value, so that type checkers know what comes out of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bpf2py.lang.memory import Ptr

__all__ = [
    "Arena",
    "Array",
    "ArrayOfMaps",
    "BloomFilter",
    "CgroupArray",
    "CgroupStorage",
    "CgrpStorage",
    "CpuMap",
    "DevMap",
    "DevMapHash",
    "Hash",
    "HashOfMaps",
    "InodeStorage",
    "LpmTrie",
    "LruHash",
    "LruPerCpuHash",
    "MapDef",
    "PerCpuArray",
    "PerCpuCgroupStorage",
    "PerCpuHash",
    "PerfEventArray",
    "ProgArray",
    "Queue",
    "ReuseportSockArray",
    "RingBuf",
    "SkStorage",
    "SockHash",
    "SockMap",
    "Stack",
    "StackTrace",
    "TaskStorage",
    "UserRingBuf",
    "XskMap",
]

K = TypeVar("K")
V = TypeVar("V")
M = TypeVar("M")


class MapDef:
    """Base of all maps of a program."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    if not TYPE_CHECKING:

        def __class_getitem__(cls, item: Any) -> Any:
            return cls


class _Table(MapDef, Generic[K, V]):
    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            max_entries: int = ...,
            flags: int = ...,
            pinning: bool = ...,
            map_extra: int = ...,
            numa_node: int = ...,
        ) -> None: ...

        def get(self, key: K | Ptr[K], cpu: int = ...) -> Ptr[V] | None:
            """Where a value lies, or None. `cpu`: that CPU's value of a per-CPU map (Linux 5.19)."""

        def put(self, key: K | Ptr[K], value: V | Ptr[V], flags: int = 0) -> int:
            """Store; negative on failure, as when BPF_NOEXIST is given and the key is there."""

        def __getitem__(self, key: K) -> V: ...

        def __setitem__(self, key: K | Ptr[K], value: V | Ptr[V]) -> None: ...

        def __contains__(self, key: object) -> bool: ...

        def items(self) -> Iterator[tuple[Any, Any]]:
            """Every key and value, in a loop (Linux 5.13)."""

        def keys(self) -> Iterator[Any]:
            """Every key, in a loop."""

        def values(self) -> Iterator[Any]:
            """Where every value lies, in a loop."""

        def __iter__(self) -> Iterator[Any]: ...

        def for_each(self, callback: Any, ctx: Any = None, flags: int = 0) -> int:
            """Call a function for each element (Linux 5.13)."""


class _Hash(_Table[K, V]):
    if TYPE_CHECKING:

        def __delitem__(self, key: K | Ptr[K]) -> None: ...

        def delete(self, key: K | Ptr[K]) -> int:
            """Remove; negative where the key is not there."""

        def setdefault(self, key: K | Ptr[K], value: Any = None) -> Ptr[V] | None:
            """Where the value lies, which is stored first where there was none; None where the map is full."""


class _Storage(MapDef, Generic[V]):
    if TYPE_CHECKING:

        def __init__(self, *, flags: int = ..., pinning: bool = ...) -> None: ...

        def get(self, owner: Any, create: bool = False, value: Any = None) -> Ptr[V] | None:
            """Where the owner's value lies, or None. `create`: make one, with a first value if one is given."""

        def delete(self, owner: Any) -> int:
            """Remove the owner's value; negative where there is none."""

        def __delitem__(self, owner: Any) -> None: ...


class _Queue(MapDef, Generic[V]):
    if TYPE_CHECKING:

        def __init__(self, *, max_entries: int, flags: int = ..., pinning: bool = ...) -> None: ...

        def push(self, value: V | Ptr[V], flags: int = 0) -> int:
            """Add; negative where the map is full and BPF_EXIST is not given."""

        def pop(self, out: V | Ptr[V]) -> int:
            """Take one out into `out`; negative where there is none."""

        def peek(self, out: V | Ptr[V]) -> int:
            """Copy the next one into `out`; negative where there is none."""


class _Of(MapDef, Generic[K, M]):
    if TYPE_CHECKING:

        def __init__(
            self, *, max_entries: int, inner: M = ..., values: Any = ..., flags: int = ..., pinning: bool = ...
        ) -> None: ...

        def get(self, key: K | Ptr[K]) -> M | None:
            """The inner map, or None."""

        def delete(self, key: K | Ptr[K]) -> int:
            """Remove; negative where the key is not there."""


class _Targets(MapDef, Generic[K, V]):
    if TYPE_CHECKING:

        def __init__(self, *, max_entries: int, flags: int = ..., pinning: bool = ...) -> None: ...

        def redirect(self, key: int, flags: int = 0) -> int:
            """Send the packet there; what the program returns. The flags are what is returned where the key is missing."""

        def get(self, key: K) -> Ptr[V] | None:
            """Where a value lies, or None."""


class _Sockets(MapDef):
    if TYPE_CHECKING:

        def __init__(self, *, max_entries: int, flags: int = ..., pinning: bool = ...) -> None: ...

        def redirect(self, ctx: Any, key: Any, flags: int = 0) -> int:
            """Send the data to a socket of the map."""

        def put(self, key: Any, value: Any, flags: int = 0) -> int:
            """Store the socket of a sock_ops context."""

        def get(self, key: Any) -> Ptr[Any] | None:
            """A socket, to be given back by sk_release(), or None."""

        def delete(self, key: Any) -> int:
            """Remove a socket."""


class _Handles(MapDef):
    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            max_entries: int = ...,
            values: Sequence[Any] | Mapping[int, Any] = ...,
            flags: int = ...,
            pinning: bool = ...,
        ) -> None: ...


class ProgArray(_Handles):
    """Programs to jump to."""

    def tail_call(self, ctx: Any, index: int) -> None:
        """Go on in another program; returns only where there is none at this index."""


class PerfEventArray(_Handles):
    """Events by CPU."""

    def output(self, ctx: Any, data: Any, flags: int = 0xFFFFFFFF, size: int = 0) -> int:
        """Send data to the reader of this CPU."""
        raise NotImplementedError


class StackTrace(_Handles):
    """Stack traces by their ids."""

    def stackid(self, ctx: Any, flags: int = 0) -> int:
        """The id of the stack trace at this point, or negative."""
        raise NotImplementedError


class RingBuf(MapDef, Generic[V]):
    """Records in order, for one reader."""

    if TYPE_CHECKING:

        def __init__(
            self, *, size: int = ..., max_entries: int = ..., flags: int = ..., pinning: bool = ...
        ) -> None: ...

        def reserve(self, size: int = 0) -> Ptr[V] | None:
            """Room for a record, or None where the buffer is full; every way from here submits or discards it."""

        def submit(self, record: Ptr[V], flags: int = 0) -> None:
            """Hand a record to the reader."""

        def discard(self, record: Ptr[V], flags: int = 0) -> None:
            """Give a record up: the reader does not see it."""

        def output(self, data: Any, size: int = 0, flags: int = 0) -> int:
            """Copy data into the buffer; negative where it is full."""

        def query(self, flags: int) -> int:
            """A fact of the buffer, such as BPF_RB_AVAIL_DATA."""

        def reserve_dynptr(self, size: int, out: Any, flags: int = 0) -> int:
            """Room for a record of a size that is known only now (Linux 5.19); submitted or discarded in any case."""


class UserRingBuf(MapDef, Generic[V]):
    """Records from user space, in order."""

    if TYPE_CHECKING:

        def __init__(
            self, *, size: int = ..., max_entries: int = ..., flags: int = ..., pinning: bool = ...
        ) -> None: ...

        def drain(self, callback: Any, ctx: Any = None, flags: int = 0) -> int:
            """Call a function for each record that waits; how many, or negative."""


class BloomFilter(MapDef, Generic[V]):
    """Whether something was added: maybe, or certainly not."""

    if TYPE_CHECKING:

        def __init__(self, *, max_entries: int, hashes: int = ..., flags: int = ..., pinning: bool = ...) -> None: ...

        def push(self, value: V | Ptr[V], flags: int = 0) -> int:
            """Add."""

        def __contains__(self, value: object) -> bool: ...


class CgroupStorage(MapDef, Generic[K, V]):
    """A value for each control group that a program is attached to."""

    if TYPE_CHECKING:

        def __init__(self, *, flags: int = ...) -> None: ...

        def get(self) -> Ptr[V]:
            """Where the value of the program's group lies."""
            raise NotImplementedError


class Hash(_Hash[K, V]):
    """Values by key."""


class PerCpuHash(_Hash[K, V]):
    """Values by key, one on each CPU."""


class LruHash(_Hash[K, V]):
    """Values by key; what was not used for long makes room."""


class LruPerCpuHash(_Hash[K, V]):
    """Values by key, one on each CPU; what was not used for long makes room."""


class LpmTrie(_Hash[K, V]):
    """Values by prefix: the longest one that matches is found."""


class Array(_Table[K, V]):
    """Values by index."""


class PerCpuArray(_Table[K, V]):
    """Values by index, one on each CPU."""


class SkStorage(_Storage[V]):
    """A value for each socket."""


class InodeStorage(_Storage[V]):
    """A value for each inode."""


class TaskStorage(_Storage[V]):
    """A value for each thread."""


class CgrpStorage(_Storage[V]):
    """A value for each control group."""


class Queue(_Queue[V]):
    """First in, first out."""


class Stack(_Queue[V]):
    """Last in, first out."""


class ArrayOfMaps(_Of[K, M]):
    """Maps by index."""


class HashOfMaps(_Of[K, M]):
    """Maps by key."""


class DevMap(_Targets[K, V]):
    """Network devices by index."""


class DevMapHash(_Targets[K, V]):
    """Network devices by key."""


class CpuMap(_Targets[K, V]):
    """CPUs to redirect packets to."""


class SockMap(_Sockets):
    """Sockets by index."""


class CgroupArray(_Handles):
    """Control groups by index."""


class ReuseportSockArray(_Handles):
    """Sockets of a reuseport group by index."""


class Arena(_Handles):
    """Memory that programs and user space share (Linux 6.9)."""


class PerCpuCgroupStorage(CgroupStorage[K, V]):
    """A value for each control group and CPU."""


class XskMap(_Handles):
    """AF_XDP sockets by index."""

    def get(self, key: int) -> Ptr[int] | None:
        """Whether a socket is there (Linux 5.3)."""
        raise NotImplementedError

    def redirect(self, key: int, flags: int = 0) -> int:
        """Send the packet to a socket."""
        raise NotImplementedError


class SockHash(_Sockets, Generic[K]):
    """Sockets by key."""
