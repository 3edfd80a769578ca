"""Slots of the map that tells USDT programs where a probe's arguments are (include/bpf/usdt.bpf.h)."""

from __future__ import annotations

import threading
import weakref

from bpf2py._typing import TYPE_CHECKING
from bpf2py.errors import AttachError, BpfOSError, NotSupported
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.syscall import Fd, older_than
from bpf2py.uapi.usdt import SPEC_SIZE, SPECS_MAP, encode_spec

if TYPE_CHECKING:
    from bpf2py.kernel.usdt_args import Arg
    from bpf2py.seam.protocol import MapHandle

# uprobe.multi came with 6.6; before 6.10 its filter by process compared threads.
MULTI_SINCE = "6.10"
COOKIE_SINCE = "5.15"


def uses_multi() -> bool:
    """Whether this kernel attaches all locations of a probe by one link."""
    return not older_than(MULTI_SINCE)


def encode(args: tuple[Arg, ...], cookie: int) -> bytes:
    """A struct __bpf_usdt_spec."""
    rows = [
        (arg.value, arg.where | arg.index_register << 8 | arg.scale << 20, arg.register, arg.signed, 64 - 8 * arg.size)
        for arg in args
    ]
    return encode_spec(rows, cookie)


class SpecPool:
    """Which slots of one spec map are used; attachments with the same arguments and cookie share a slot."""

    def __init__(self, handle: MapHandle) -> None:
        self._size = handle.info.max_entries
        self._slots: dict[bytes, int] = {}
        self._users: dict[int, int] = {}
        self._lock = threading.Lock()

    def take(self, what: str, handle: MapHandle, value: bytes) -> int:
        """The slot that holds `value`. Raises AttachError when all are used."""
        with self._lock:
            number = self._slots.get(value)
            if number is None:
                number = next((i for i in range(self._size) if i not in self._users), None)
                if number is None:
                    raise AttachError(
                        f"{what}: all {self._size} slots for argument lists are used; "
                        "define a larger BPF_USDT_MAX_SPEC_CNT before including <bpf/usdt.bpf.h>"
                    )
                slot = handle.slot()
                slot.key[:] = number.to_bytes(4, "little")
                slot.value[:] = value
                result = slot.update()
                if result < 0:
                    raise BpfOSError(
                        f"{what}: map {SPECS_MAP} did not take the arguments",
                        errno=-result,
                        command="BPF_MAP_UPDATE_ELEM",
                    )
                self._slots[value] = number
            self._users[number] = self._users.get(number, 0) + 1
            return number

    def give_back(self, numbers: list[int]) -> None:
        """End uses of slots; the last end of each makes it free."""
        with self._lock:
            for number in numbers:
                self._users[number] -= 1
                if not self._users[number]:
                    del self._users[number]
                    self._slots = {value: slot for value, slot in self._slots.items() if slot != number}


# By map id: links keep their pool alive, and a map without links has all slots free.
_pools: weakref.WeakValueDictionary[int, SpecPool] = weakref.WeakValueDictionary()
_pinned: list[SpecPool] = []


def pool_of(what: str, handle: MapHandle | None) -> SpecPool:
    """The pool of a loaded object's spec map. Raises AttachError when the object has none, or one of another layout."""
    if handle is None:
        raise AttachError(f"{what}: the object has no map {SPECS_MAP}; #include <bpf/usdt.bpf.h> in its source")
    if handle.info.value_size != SPEC_SIZE or handle.info.key_size != 4:
        raise AttachError(
            f"{what}: map {SPECS_MAP} has values of {handle.info.value_size} bytes instead of {SPEC_SIZE}: "
            "another version of <bpf/usdt.bpf.h> was used"
        )
    if older_than(COOKIE_SINCE):
        raise NotSupported(
            f"{what}: USDT needs attach cookies, which came with Linux {COOKIE_SINCE}",
            feature="usdt",
            since=COOKIE_SINCE,
        )
    pool = _pools.get(handle.info.id)
    if pool is None:
        pool = _pools[handle.info.id] = SpecPool(handle)
    return pool


class UsdtLink(KernelLink):
    """An attachment to one or all locations of a probe; closing it frees its slots."""

    __slots__ = ("_pool", "_slots")

    def __init__(self, fd: Fd | None, hook: str, perf: Fd | None, pool: SpecPool, slots: list[int]) -> None:
        super().__init__(fd, hook, perf)
        self._pool = pool
        self._slots = slots

    def pin(self, path: str) -> int:
        """BPF_OBJ_PIN: the program goes on using its slots when this process closes the link."""
        result = super().pin(path)
        if result >= 0:
            _pinned.append(self._pool)
            self._slots = []
        return result

    def close(self) -> None:
        """Detach and free the slots."""
        super().close()
        slots, self._slots = self._slots, []
        self._pool.give_back(slots)
