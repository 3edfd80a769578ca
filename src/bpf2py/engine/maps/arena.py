"""ARENA: pages programs allocate, and point to with pointers that hold in the process as well.

A pointer of an arena is the address of its byte in the process. Its lower half is the address in the engine's memory, which
begins at a multiple of 4 GiB; casts between the two cut the upper half off and add it. Source of facts: kernel/bpf/arena.c,
kernel/bpf/range_tree.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.engine.maps.core import MapCore, MapSystem
from bpf2py.engine.maps.fields import Fields
from bpf2py.errors import NotSupported
from bpf2py.uapi.errno import EBUSY, EINVAL, EOPNOTSUPP

if TYPE_CHECKING:
    from bpf2py.spec.map_spec import MapSpec

__all__ = ["Pages", "build_arena", "pages_of"]

PAGE = 4096
_PAGES = b"pages"  # in `held` of an arena, which has no keys
_LOW = (1 << 32) - 1
_NOTHING = bytes(PAGE)


class Pages:
    """Which pages of an arena are free.

    What a program allocates is zero. Pages user space has written to are not given to programs, as on the kernel; those it has
    only read are not known here, and are given.
    """

    def __init__(self, core: MapCore, count: int, best_fit: bool) -> None:
        self._memory = core.engine.memory
        self._address = core.data_address
        self._count = count
        self._best_fit = best_fit
        self._free: list[tuple[int, int]] = [(0, count)]  # first page and end, the newest last

    def allocate(self, pointer: int, count: int) -> int:
        """A pointer to so many pages, at the place asked for unless that is 0; null where there are none."""
        if not 0 < count <= self._count:
            return 0
        if pointer:
            if pointer % PAGE:
                return 0
            first = self._page(pointer)
            if first > self._count - count or not self._is_free(first, first + count):
                return 0
            return self._take(first, count)
        while True:
            fitting = [free for free in self._free if free[1] - free[0] >= count]
            if not fitting:
                return 0
            smallest = min(
                reversed(fitting), key=lambda free: free[1] - free[0]
            )  # of those the newest: since Linux 6.13
            first = smallest[0] if self._best_fit else min(fitting)[0]
            if self._is_free(first, first + count):
                return self._take(first, count)

    def free(self, pointer: int, count: int) -> None:
        """Clear pages, which are free from now on; those outside of the arena are left out."""
        first = self._page(pointer & -PAGE)
        end = min(self._count, first + count)
        if first >= end:
            return
        self._memory.zero(self._address + first * PAGE, (end - first) * PAGE)
        self.mark(first, end)
        while True:  # neighbours become one
            before = next((free for free in self._free if free[1] == first), None)
            after = next((free for free in self._free if free[0] == end), None)
            if before is None and after is None:
                break
            for free in (before, after):
                if free is not None:
                    self._free.remove(free)
                    first, end = min(first, free[0]), max(end, free[1])
        self._free.append((first, end))

    def reserve(self, pointer: int, count: int) -> int:
        """Take pages out of those that can be allocated: 0, -EINVAL outside of the arena, -EBUSY where one is not free."""
        if not count or pointer % PAGE:
            return 0
        first = self._page(pointer)
        if first + count > self._count:
            return -EINVAL
        if not self._is_free(first, first + count):
            return -EBUSY
        self.mark(first, first + count)
        return 0

    def mark(self, first: int, end: int) -> None:
        """Say that pages are not free."""
        kept: list[tuple[int, int]] = []
        for low, high in self._free:
            if high <= first or low >= end:
                kept.append((low, high))
                continue
            if low < first:
                kept.append((low, first))
            if high > end:
                kept.append((end, high))
        self._free = kept

    def _page(self, pointer: int) -> int:
        return (pointer - self._address & _LOW) // PAGE

    def _is_free(self, first: int, end: int) -> bool:
        """Whether all these are free; those user space has written to meanwhile are not."""
        if not any(low <= first and end <= high for low, high in self._free):
            return False
        touched = [page for page in range(first, end) if self._touched(page)]
        for page in touched:
            self.mark(page, page + 1)
        return not touched

    def _touched(self, page: int) -> bool:
        at = self._address + page * PAGE
        return self._memory.view[at : at + PAGE] != _NOTHING

    def _take(self, first: int, count: int) -> int:
        self._memory.zero(self._address + first * PAGE, count * PAGE)
        self.mark(first, first + count)
        return self._memory.base + self._address + first * PAGE


def pages_of(core: MapCore) -> Pages | None:
    """The pages of an arena; None for other maps."""
    found = core.held.get(_PAGES)
    return found if isinstance(found, Pages) else None


def build_arena(engine: MapSystem, spec: MapSpec, fields: Fields) -> MapCore:
    """ARENA. The address `map_extra` asks for is not honoured: pointers hold in this process, wherever its memory is."""
    if engine.memory.base & _LOW:
        raise NotSupported(
            f"map {spec.name}: create: an ARENA needs 6 GiB of address space for the engine; raise `ulimit -v`",
            feature="ARENA",
        )
    core = MapCore(engine, spec)
    size = spec.max_entries * PAGE
    core.describe(0, 0, core.allocate(size))
    core.names = {
        "lookup": -EINVAL,
        "take": -EOPNOTSUPP,
        "update": -EOPNOTSUPP,
        "delete": -EOPNOTSUPP,
        "next_key": -EOPNOTSUPP,
    }
    pages = core.held[_PAGES] = Pages(core, spec.max_entries, engine.version >= (6, 13))
    pages.mark(0, -(-(spec.data_size or 0) // PAGE))  # variables, which the loader writes
    address = core.data_address

    def place(length: int, writable: bool, offset: int) -> int:
        if offset or length > size:
            raise OSError(EINVAL, "an arena is mapped from its beginning, and not beyond its end")
        return address

    core.map_memory = place
    return core
