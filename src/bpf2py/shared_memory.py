"""Memory shared with the kernel: reading and writing it in order, copying out of it quickly."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

__all__ = ["new_fence", "owned_copy", "warm_up"]

WARM = 1 << 22  # bytes; larger buffers have time enough

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


def owned_copy(*parts: memoryview) -> memoryview:
    """The parts in one piece of memory of its own.

    numpy's allocator asks for huge pages, which makes a copy of megabytes several times faster than one into `bytes`.
    """
    import numpy as np

    copy = np.empty(sum(len(part) for part in parts), np.uint8)
    start = 0
    for part in parts:
        copy[start : start + len(part)] = np.frombuffer(part, np.uint8)
        start += len(part)
    return copy.data


def warm_up(buffer: memoryview) -> None:
    """Make the first copies out of a buffer as quick as later ones.

    A copy into memory that the process does not have yet waits for a page fault every 4 KiB, in which a program refills what
    was just taken. glibc gives a first large block back to the kernel when it is freed, and keeps later ones of that size.
    """
    for _ in range(2):
        owned_copy(buffer[:WARM])
