"""Reading whole maps: in batches where the map has them, key by key where it has not.

The batch commands hand out whole hash buckets, each under its lock, and a cursor that only moves forward: no key comes
twice and the walk ends, whatever programs do meanwhile. A walk by BPF_MAP_GET_NEXT_KEY starts again whenever its key has
been deleted; here it never yields a key twice and gives up with `IterationAborted` after a budget of steps.
"""

from __future__ import annotations

from collections.abc import Iterator

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, NamedTuple
from bpf2py.errors import ENOTSUPP, IterationAborted
from bpf2py.uapi.errno import EBADF, EINTR, EINVAL, ENOENT, ENOSPC, EOPNOTSUPP

if TYPE_CHECKING:
    from bpf2py.maps import errors as map_errors
    from bpf2py.seam.protocol import MapHandle
else:
    map_errors = module("bpf2py.maps.errors")

SMALL_BATCH, FIRST_BATCH, LAST_BATCH = 32, 4096, 1 << 16
MAX_BUFFER = 64 << 20  # bytes of a batch: large values are read in smaller numbers

STEPS_PER_ELEMENT = 8


class Chunk(NamedTuple):
    """Elements as the kernel wrote them: `count` keys and values back to back."""

    keys: memoryview
    values: memoryview
    count: int  # type: ignore[assignment]


EMPTY = Chunk(memoryview(b""), memoryview(b""), 0)


class BatchUnsupported(Exception):
    """The map type or kernel has no batch command; nothing was read yet."""


def read_chunks(
    name: str,
    handle: MapHandle,
    flags: int = 0,
    delete: bool = False,
    small: bool = False,
    value_bytes: int | None = None,
) -> Iterator[Chunk]:
    """All elements, a batch at a time; with `delete` they are removed as they are read, none is lost.

    With `small` the batches start with few elements and stay below FIRST_BATCH: for who may stop after any of them. The
    buffers of a chunk are used again for the next one. `value_bytes`: of a value, where `flags` ask for less than all CPUs'.

    Raises:
        BatchUnsupported: on the first step, when the map has no such command.
        BpfError: what the kernel answered.
    """
    info = handle.info
    width = handle.value_bytes if value_bytes is None else value_bytes
    element = info.key_size + width
    most = max(1, MAX_BUFFER // element)
    room = min(max(info.max_entries, 1), SMALL_BATCH if small else LAST_BATCH, most)
    keys, values = bytearray(room * info.key_size), bytearray(room * width)
    tokens = [bytearray(max(4, info.key_size)), bytearray(max(4, info.key_size))]
    token: bytearray | None = None
    operation = "drain" if delete else "lookup batch"
    interruptions = 1000
    while True:
        out = tokens[0] if token is tokens[1] else tokens[1]
        result, count = handle.lookup_batch(token, out, keys, values, room, flags, delete)
        if result == -ENOSPC:
            # One bucket holds more elements than there is room for.
            if room >= max(info.max_entries, 1) * 2 and room * element > MAX_BUFFER:
                raise map_errors.map_error(name, info, operation, ENOSPC)
            room *= 2
            keys, values = bytearray(room * info.key_size), bytearray(room * width)
            continue
        if result < 0 and result != -ENOENT:
            if token is None and -result in (EINVAL, ENOTSUPP, EOPNOTSUPP):
                raise BatchUnsupported
            if result == -EINTR and interruptions:
                interruptions -= 1  # a generic batch met a key that was deleted meanwhile
                continue
            if result == -EINTR:
                raise IterationAborted(
                    f"map {name}: {operation}: keys were deleted under every attempt to read them",
                    command="BPF_MAP_LOOKUP_BATCH",
                )
            raise map_errors.map_error(name, info, operation, -result)
        if count:
            yield Chunk(memoryview(keys)[: count * info.key_size], memoryview(values)[: count * width], count)
        if result == -ENOENT:
            return
        token = out
        if small and room < FIRST_BATCH:
            room = min(room * 2, most)
            keys, values = bytearray(room * info.key_size), bytearray(room * width)


def walk(name: str, handle: MapHandle) -> Iterator[bytes]:
    """Keys one by one with BPF_MAP_GET_NEXT_KEY, each once. Raises IterationAborted when programs never let it finish."""
    slot = handle.slot()
    seen: set[bytes] = set()
    order: list[bytes] = []  # the keys yielded; slot.key is order[at] unless the walk started again
    at = 0
    steps = STEPS_PER_ELEMENT * max(handle.info.max_entries, 1024)
    first = True
    for _ in range(steps):
        if handle.fd < 0:  # closed meanwhile; the descriptor's number may be another map's by now
            raise map_errors.map_error(name, handle.info, "iterate", EBADF)
        result = slot.get_next_key(first)
        if result == -ENOENT:
            return
        if result < 0:
            raise map_errors.map_error(name, handle.info, "iterate", -result)
        first = False
        key = bytes(slot.next_key)
        if key not in seen:
            slot.key[:] = key
            at = len(order)
            seen.add(key)
            order.append(key)
            yield key
        elif at > 0:
            # The key was deleted, so the kernel started again at the first one: go on behind the last one still there.
            at -= 1
            slot.key[:] = order[at]
        else:
            slot.key[:] = key
    raise IterationAborted(
        f"map {name}: iterate: keys were deleted so fast that {len(seen)} keys took {steps} steps; "
        "read it again, or pause the programs",
        command="BPF_MAP_GET_NEXT_KEY",
    )
