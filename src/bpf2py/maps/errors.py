"""From the errno of a map command to the exception, for every backend alike."""

from __future__ import annotations

import os

from bpf2py import errors
from bpf2py.errors import (
    BpfError,
    BpfOSError,
    ClosedError,
    IndexOutOfRange,
    KeyExists,
    KeyNotFound,
    MapFull,
    NotSupported,
    PermissionDenied,
    QueueEmpty,
)
from bpf2py.seam.info import MapInfo
from bpf2py.uapi.errno import (
    E2BIG,
    EBADF,
    EBUSY,
    EEXIST,
    EINVAL,
    ENOBUFS,
    ENODEV,
    ENOENT,
    ENOMEM,
    ENOPROTOOPT,
    ENOSPC,
    EOPNOTSUPP,
    EOVERFLOW,
    EPERM,
)
from bpf2py.uapi.map_types import MapFlags, MapType, map_type, type_info, type_name

ENOTSUPP = errors.ENOTSUPP


_QUEUES = (MapType.QUEUE, MapType.STACK)
_COMMANDS = {
    "lookup": "BPF_MAP_LOOKUP_ELEM",
    "update": "BPF_MAP_UPDATE_ELEM",
    "delete": "BPF_MAP_DELETE_ELEM",
    "pop": "BPF_MAP_LOOKUP_AND_DELETE_ELEM",
    "iterate": "BPF_MAP_GET_NEXT_KEY",
    "next key": "BPF_MAP_GET_NEXT_KEY",
    "lookup batch": "BPF_MAP_LOOKUP_BATCH",
    "update batch": "BPF_MAP_UPDATE_BATCH",
    "delete batch": "BPF_MAP_DELETE_BATCH",
    "drain": "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
    "freeze": "BPF_MAP_FREEZE",
    "pin": "BPF_OBJ_PIN",
}


def map_error(name: str, info: MapInfo, operation: str, errno: int, key: object = None, flags: int = 0) -> BpfError:
    """The exception for `operation` on a map having answered `errno`; `key` is the key or index concerned."""
    where, command = f"map {name}: {operation}", _COMMANDS.get(operation, operation)
    kind = info.type
    facts = type_info(kind)

    def make(cls: type[BpfError], text: str) -> BpfError:
        return cls(f"{where}: {text}", errno=errno, command=command)

    text = _why_object(info, operation, errno, key) if not flags else None
    if text is not None:
        return make(BpfOSError, text)
    if errno == EBADF:
        return make(ClosedError, "the map is closed")
    if operation == "pin":
        if errno == ENOENT:
            mounted = os.path.ismount("/sys/fs/bpf")
            mount = "" if mounted else ", and no BPF file system is mounted there: mount -t bpf bpf /sys/fs/bpf"
            return make(BpfOSError, f"the directory does not exist{mount}")
        return make(BpfOSError, "the place must be on a BPF file system (mount -t bpf bpf /sys/fs/bpf)")
    if operation == "freeze" and errno == EBUSY:
        return make(BpfOSError, "the map is frozen already, or mapped writable: the mapping must go first")
    if errno == ENOENT and operation == "next key":
        return make(KeyNotFound, f"there is no key behind {key!r}" if key is not None else "the map is empty")
    if errno == ENOENT:
        if kind in _QUEUES:
            return make(QueueEmpty, f"the {type_name(kind)} is empty")
        if facts.key == "index":
            if facts.fd_value is None and kind not in _OBJECTS:
                return make(IndexOutOfRange, f"index {key} >= max_entries {info.max_entries}")
            return make(KeyNotFound, f"nothing is stored at index {key}")
        return make(KeyNotFound, f"no key {key!r}")
    if errno == E2BIG or (errno == ENOSPC and kind == MapType.LPM_TRIE):
        if facts.key == "index":
            return make(IndexOutOfRange, f"index {key} >= max_entries {info.max_entries}")
        return make(MapFull, f"map is full (max_entries={info.max_entries})")
    if errno == EEXIST:
        if facts.key == "index":
            return make(KeyExists, f"index {key} exists: an {type_name(kind)} has all its elements from the start")
        return make(KeyExists, f"key {key!r} is there already")
    if errno == EPERM:
        return make(PermissionDenied, _why_not_permitted(info, operation))
    if errno == ENOMEM:
        return make(BpfOSError, "the kernel has no memory for another element")
    if errno == EBUSY:
        return make(BpfOSError, "the map is busy: a program or another process is using the same bucket; try again")
    if errno in (ENOTSUPP, EOPNOTSUPP):
        return _not_supported(where, command, kind, operation, errno)
    if errno == EINVAL and operation == "delete" and kind == MapType.SOCKMAP:
        return make(KeyNotFound, f"nothing is stored at index {key}")
    if errno == EINVAL:
        text = _why_invalid(info, operation, key, flags)
        if text is None:
            return _not_supported(where, command, kind, operation, errno)
        return make(BpfOSError, text)
    return make(BpfOSError, os.strerror(errno))


def _not_supported(where: str, command: str, kind: int, operation: str, errno: int) -> NotSupported:
    return NotSupported(
        f"{where}: {type_name(kind)} does not support {command} on this kernel",
        feature=f"{command} of {type_name(kind)}",
        errno=errno,
        command=command,
    )


def _why_not_permitted(info: MapInfo, operation: str) -> str:
    reading = operation in ("lookup", "iterate", "lookup batch")
    flags = MapFlags(info.flags)
    if flags & MapFlags.WRONLY and (reading or operation in ("pop", "drain")):
        return "the map is write-only for user space (BPF_F_WRONLY)"
    if flags & MapFlags.RDONLY and not reading:
        return "the map is read-only for user space (BPF_F_RDONLY)"
    if operation == "freeze":
        return "the map is frozen already or was opened read-only, or CAP_BPF is missing"
    if not reading:
        return "the map is frozen, or was opened read-only"
    return "the map was opened write-only, or a right is missing"


def _why_invalid(info: MapInfo, operation: str, key: object, flags: int) -> str | None:
    if operation == "delete" and type_info(info.type).key == "index":
        return f"elements of an {type_name(info.type)} cannot be deleted; set index {key} to zero instead"
    if operation in ("update", "lookup") and flags & 4:
        return "BPF_F_LOCK needs a struct bpf_spin_lock in the value's type"
    if operation in ("update", "lookup") and flags:
        return f"flags {flags:#x} are not allowed for {type_name(info.type)}"
    if operation == "update" and info.type == MapType.LPM_TRIE:
        return f"the prefix length must be at most {(info.key_size - 4) * 8}"
    return None


# What the values of a map must be, beyond open descriptors.
_OBJECTS = {
    MapType.ARRAY_OF_MAPS: "a map that fits the definition the outer map was created with (type, sizes, flags)",
    MapType.HASH_OF_MAPS: "a map that fits the definition the outer map was created with (type, sizes, flags)",
    MapType.PROG_ARRAY: "a program of the same type as the programs that use the map",
    MapType.DEVMAP: 'the index of a network device, with a program of SEC("xdp/devmap") if any',
    MapType.DEVMAP_HASH: 'the index of a network device, with a program of SEC("xdp/devmap") if any',
    MapType.CPUMAP: 'a queue size, with a program of SEC("xdp/cpumap") if any',
    MapType.XSKMAP: "an AF_XDP socket with a receive ring that is bound to a queue",
    MapType.SOCKMAP: "a socket the kernel can redirect to (TCP: connected or listening)",
    MapType.SOCKHASH: "a socket the kernel can redirect to (TCP: connected or listening)",
    MapType.REUSEPORT_SOCKARRAY: "a bound UDP or listening TCP socket with SO_REUSEPORT",
}
_OWNERS = {
    MapType.SK_STORAGE: "socket",
    MapType.INODE_STORAGE: "file",
    MapType.TASK_STORAGE: "process (a pidfd)",
    MapType.CGRP_STORAGE: "cgroup",
}
_COOKIES = (MapType.SOCKMAP, MapType.SOCKHASH, MapType.REUSEPORT_SOCKARRAY)


def _why_object(info: MapInfo, operation: str, errno: int, key: object) -> str | None:
    """What is wrong with a value or key that names another kernel object."""
    kind, facts = map_type(info.type), type_info(info.type)
    if not isinstance(kind, MapType):
        return None
    if errno == EBADF and kind in _OWNERS:
        return f"the key is not an open descriptor of a {_OWNERS[kind]}"
    if errno == EBADF and operation == "update" and (facts.fd_value is not None or kind in _OBJECTS):
        return f"the value is not an open descriptor of a {facts.fd_value or 'program'}"
    if errno == ENOSPC and kind in _COOKIES and operation == "lookup":
        return f"a socket's cookie is read from maps with values of 8 bytes, this one's have {info.value_size}"
    if operation == "update" and kind == MapType.CPUMAP and errno == EOVERFLOW:
        return "the queue size must be at most 16384"
    if operation == "update" and kind == MapType.CPUMAP and errno == ENODEV:
        return f"CPU {key} is not possible on this machine"
    refused = (
        (EINVAL, EOPNOTSUPP, ENOPROTOOPT, ENOBUFS) if kind == MapType.XSKMAP else (EINVAL, EOPNOTSUPP, ENOPROTOOPT)
    )
    if operation == "update" and kind in _OBJECTS and errno in refused:
        return f"the value must be {_OBJECTS[kind]}"
    return None
