"""Memory shared with the kernel: reading and writing it in order, copying out of it quickly."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import threading
import weakref
from collections.abc import Callable

__all__ = ["Copies", "new_fence"]

WARM = 1 << 22  # bytes made ready; larger buffers have time enough
FREE = 2  # blocks that are kept
SMALL = 1 << 16  # bytes up to which a copy into `bytes` is quicker

# os.uname() rather than platform: that module takes longer to import than a map to read.
_ORDERED = sys.platform == "win32" or (hasattr(os, "uname") and os.uname().machine in ("x86_64", "AMD64"))


def new_fence(ordered: bool = _ORDERED) -> Callable[[], None]:
    """What to call between two accesses so that the first is done before the second; for one thread at a time.

    x86-64 keeps loads in order among themselves, and stores in order among themselves and after earlier loads, which
    is all that rings need: nothing is done there. Other CPUs do neither, and Python has no barrier of its own. A lock has
    two halves: what stands before its release is done before it, what stands after its acquisition is done after it, and an
    acquisition comes after the release before it in the same thread (on ARMv8 a load-acquire is never moved before an
    earlier store-release). So to release and acquire a lock again, in this order, keeps everything before the pair before
    everything after it. The other order would not: what is around an acquisition and a following release may move in
    between from both sides.
    """
    if ordered:
        return _nothing
    lock = threading.Lock()
    lock.acquire()

    def fence() -> None:
        lock.release()
        lock.acquire()

    return fence


def _nothing() -> None:
    pass


class Copies:
    """Memory that copies out of a buffer are made in, and others after them when nobody looks at the former ones any more.

    A copy into memory that the process does not have yet waits for a page fault every 4 KiB, in which a program refills what
    was just taken: blocks are of huge pages where there are any, and are used again.
    """

    def __init__(self, buffer_size: int) -> None:
        """Be ready for the first copies out of a buffer of that size."""
        self._free: list[mmap.mmap] = []
        block = _new_block(min(buffer_size, WARM))
        for at in range(0, len(block), mmap.PAGESIZE):
            block[at] = 0
        self._free.append(block)

    def copy(self, *parts: memoryview) -> memoryview:
        """The parts in one piece of memory, which is its own as long as somebody has it or a part of it."""
        size = sum(map(len, parts))
        if size < SMALL:
            return memoryview(b"".join(parts))
        block = self._take(size)
        held = (ctypes.c_char * size).from_buffer(block)
        end = weakref.finalize(held, self._give_back, block)
        end.atexit = False
        view = memoryview(held).cast("B")
        start = 0
        for part in parts:
            view[start : start + len(part)] = part
            start += len(part)
        return view

    def _take(self, size: int) -> mmap.mmap:
        for _ in range(len(self._free)):
            try:
                block = self._free.pop()
            except IndexError:  # another thread has it
                break
            if len(block) >= size:
                return block
        return _new_block(size)

    def _give_back(self, block: mmap.mmap) -> None:
        if len(self._free) < FREE:
            self._free.append(block)


def _new_block(size: int) -> mmap.mmap:
    length = max(mmap.PAGESIZE, 1 << (size - 1).bit_length())
    # Memory that is shared, Python's default, would have no huge pages.
    private = {} if sys.platform == "win32" else {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
    block = mmap.mmap(-1, length, **private)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            block.madvise(mmap.MADV_HUGEPAGE)
        except OSError:
            pass  # the kernel has none
    return block
