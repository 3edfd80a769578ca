"""Storage that belongs to other kernel objects: SK_STORAGE (5.2), INODE_STORAGE (5.10), TASK_STORAGE (5.11), CGRP_STORAGE (6.2)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bpf2py._typing import Any, NoReturn, Protocol, TypeAlias, TypeVar, cast, overload
from bpf2py.errors import BpfOSError, EncodeError, NotSupported
from bpf2py.maps.base import Map, V
from bpf2py.maps.fd_values import descriptor
from bpf2py.uapi.errno import ENOENT
from bpf2py.uapi.map_types import MapType, UpdateFlags, type_name

D = TypeVar("D")
_MISSING: Any = object()


class HasFileno(Protocol):
    """An open socket, file or directory."""

    def fileno(self) -> int:
        """The descriptor."""


# A PID, a path, a descriptor, or what has one.
Owner: TypeAlias = int | str | os.PathLike[str] | HasFileno


class StorageMap(Map[Any, V]):
    """Values kept with sockets, inodes, tasks or cgroups; they go when their owner goes.

    The owner is the key: a socket (SK_STORAGE), a path or open file (INODE_STORAGE), a PID or pidfd object (TASK_STORAGE), a
    cgroup's path or descriptor (CGRP_STORAGE). Such maps cannot be listed from user space: let an iterator program do it.

    Example:
        >>> task_info[os.getpid()]          # doctest: +SKIP
    """

    @contextmanager
    def _owner(self, owner: Any) -> Iterator[int]:
        kind = self._info.type
        if kind == MapType.TASK_STORAGE and isinstance(owner, int):
            try:
                fd = os.pidfd_open(owner)
            except OSError as error:
                raise BpfOSError(
                    f"map {self.name}: there is no process {owner}", errno=error.errno, command="pidfd_open"
                ) from None
            try:
                yield fd
            finally:
                os.close(fd)
            return
        opener = None
        if kind in (MapType.INODE_STORAGE, MapType.CGRP_STORAGE):
            opener = _open
        elif isinstance(owner, str | os.PathLike):
            raise EncodeError(f"map {self.name}: {owner!r} is not an owner of {type_name(kind)}")
        with ExitStack() as stack:
            try:
                fd = stack.enter_context(descriptor(owner, opener))
            except EncodeError as error:
                raise EncodeError(f"map {self.name}: owner: {error.message}") from None
            yield fd

    def __getitem__(self, owner: Owner) -> V:
        with self._owner(owner) as fd:
            return self._lookup(fd.to_bytes(4, "little"))

    def __setitem__(self, owner: Owner, value: V) -> None:
        self.put(owner, value)

    def put(self, owner: Owner, value: V, flags: UpdateFlags | int = 0) -> None:
        """Set an owner's value with update flags. Raises KeyExists, KeyNotFound by the flags."""
        with self._owner(owner) as fd:
            self._update(fd.to_bytes(4, "little"), value, int(flags))

    def __delitem__(self, owner: Owner) -> None:
        with self._owner(owner) as fd:
            self._delete(fd.to_bytes(4, "little"))

    @overload
    def get(self, owner: Owner) -> V | None: ...
    @overload
    def get(self, owner: Owner, default: V | D) -> V | D: ...
    def get(self, owner: Owner, default: Any = None) -> Any:
        """The owner's value, or `default`."""
        with self._owner(owner) as fd:
            slot = self._slot()
            try:
                self._put_key(slot, fd.to_bytes(4, "little"), "lookup")
                result = slot.lookup()
                if result == -ENOENT:
                    return default
                self._check("lookup", result, owner)
                return self._decode_value(slot.value)
            finally:
                self._slots.append(slot)

    def __contains__(self, owner: object) -> bool:
        return self.get(cast("Owner", owner), _MISSING) is not _MISSING

    def __iter__(self) -> NoReturn:
        raise NotSupported(
            f"map {self.name}: a {type_name(self._info.type)} cannot be listed from user space; an iterator program can",
            feature=f"iteration of {type_name(self._info.type)}",
        )


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
