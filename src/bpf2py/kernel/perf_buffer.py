"""Perf buffers: what is behind an entry of a PERF_EVENT_ARRAY (Linux 4.3) while somebody reads it, one for each CPU."""

from __future__ import annotations

import ctypes
import mmap
import os
from functools import cache

from bpf2py.errors import BpfOSError
from bpf2py.kernel.link import PERF_EVENT_IOC_DISABLE
from bpf2py.kernel.perf_event import PERF_TYPE_SOFTWARE, open_event
from bpf2py.kernel.syscall import Fd, libc
from bpf2py.owned import Owned
from bpf2py.shared_memory import Copies, new_fence

PERF_COUNT_SW_BPF_OUTPUT = 10
WATERMARK_BIT, WRITE_BACKWARD_BIT = 1 << 14, 1 << 27
# struct perf_event_mmap_page (include/uapi/linux/perf_event.h).
_HEAD, _TAIL = 1024, 1032


@cache
def _copies(size: int) -> Copies:
    """Memory for copies out of all buffers of a size: there may be one for each of hundreds of CPUs."""
    return Copies(size)


class DescriptorSource(Owned):
    """A descriptor that is readable while there is something to read; see `bpf2py.seam.protocol.EventSource`."""

    def __init__(self, fd: Fd) -> None:
        self.fd = fd

    def fileno(self) -> int:
        """The descriptor, negative once closed."""
        return self.fd.number

    def acknowledge(self) -> None:
        """Nothing to do: the kernel looks at the buffer itself."""

    def close(self) -> None:
        """Close the descriptor; closing twice is harmless."""
        self.fd.close()


class PerfBuffer(DescriptorSource):
    """The mapped buffer of one CPU: programs write, a reader takes.

    Attributes:
        fd: the perf event, which is stored in the map.
        cpu: the CPU whose programs write to it.
        size: bytes of the buffer, a power of two.
    """

    def __init__(self, what: str, pages: int, cpu: int, overwritable: bool, wakeup: tuple[int, bool]) -> None:
        number, of_bytes = wakeup
        super().__init__(
            open_event(
                what,
                PERF_TYPE_SOFTWARE,
                PERF_COUNT_SW_BPF_OUTPUT,
                wakeup_events=number,
                bits=(WRITE_BACKWARD_BIT if overwritable else 0) | (WATERMARK_BIT if of_bytes else 0),
                cpu=cpu,
            )
        )
        self.cpu = cpu
        self.size = pages * mmap.PAGESIZE
        self._owner = os.getpid()
        protection = mmap.PROT_READ if overwritable else mmap.PROT_READ | mmap.PROT_WRITE
        try:
            self._memory = mmap.mmap(self.fd.number, self.size + mmap.PAGESIZE, mmap.MAP_SHARED, protection)
        except (OSError, ValueError, OverflowError) as error:
            self.fd.close()
            raise BpfOSError(
                f"{what}: CPU {cpu}: {pages} pages cannot be mapped: {error} (see RLIMIT_MEMLOCK and "
                "kernel.perf_event_mlock_kb for processes without CAP_IPC_LOCK)",
                errno=getattr(error, "errno", None),
                command="mmap",
            ) from None
        view = memoryview(self._memory)
        self._head = view[_HEAD : _HEAD + 8].cast("Q")
        self._tail = view[_TAIL : _TAIL + 8].cast("Q")
        self._data = view[mmap.PAGESIZE :]
        self._fence = new_fence()
        self._copies = _copies(self.size)

    def control(self, request: int, argument: int) -> None:
        """An ioctl, one of PERF_EVENT_IOC_*. Raises BpfOSError."""
        if libc().ioctl(self.fd.number, request, argument) < 0:
            raise BpfOSError(f"PerfReader: CPU {self.cpu}: ioctl failed", errno=ctypes.get_errno(), command="ioctl")

    def take(self) -> bytes | memoryview:
        """Everything written since the last time, in order; the space is free again."""
        head, tail = self._head[0], self._tail[0]
        if head == tail:
            return b""
        self._fence()  # what the kernel wrote before the head is read after it
        data = self._linear(tail, head)
        self._fence()  # the space is free only after it was read
        self._tail[0] = head
        return data

    def snapshot(self) -> bytes:
        """The newest records of an overwritable buffer, newest first, while output is paused."""
        head = self._head[0]
        self._fence()
        start = head % self.size
        # Records grow downwards: the newest one starts at head.
        return bytes(self._data[start:]) + bytes(self._data[:start])

    def _linear(self, start: int, end: int) -> memoryview:
        first, last = start % self.size, end % self.size
        if first < last:
            return self._copies.copy(self._data[first:last])
        return self._copies.copy(self._data[first:], self._data[:last])

    def close(self) -> None:
        """Stop recording and unmap; closing twice is harmless. In a forked child the event, which is its parent's, goes on."""
        if self.fd.closed:
            return
        if os.getpid() == self._owner:
            libc().ioctl(self.fd.number, PERF_EVENT_IOC_DISABLE, 0)
        for view in (self._head, self._tail, self._data):
            view.release()
        self._memory.close()
        super().close()
