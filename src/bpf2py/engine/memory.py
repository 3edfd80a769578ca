"""The engine's memory: one mapping that holds everything programs and maps address.

An address is an offset into it. The first half GiB is private: structures of maps, which programs cannot reach; what
follows is public: keys and values, stacks, contexts, packets. Nothing of the process lies in it, so that whatever a program
computes as an address, it reads and writes here or is stopped.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

from bpf2py.errors import BpfOSError
from bpf2py.owned import Owned

__all__ = [
    "CONTROL",
    "ENGINE",
    "FUNCTIONS",
    "HEADER",
    "HEADERS",
    "MAX_FUNCTIONS",
    "OPS_STACK",
    "PUBLIC",
    "STACK",
    "STACKS",
    "Memory",
    "anonymous",
]

PUBLIC = 512 << 20  # as in sources/engine.h
LARGEST = 0x7FE0_0000  # addresses fit a signed 32-bit displacement, and numbers of functions follow them
SMALLEST = PUBLIC + (64 << 20)
FUNCTIONS = 0x7FF0_0000  # what a program sees as a function's address: this plus the function's number
MAX_FUNCTIONS = 1 << 16
ENGINE = 0x100  # struct engine of sources/engine.h
FIRST = 0x1000  # first address handed out
HEADERS = FIRST  # where the headers of maps are, see sources/engine.h
HEADER = 256  # bytes
MAX_MAPS = 1 << 13
STACK = 1 << 16  # bytes of the stack of a run; runs within runs have their own
NESTING = 8
STACKS = PUBLIC + FIRST  # the highest is the one of the library's own operations
OPS_STACK = STACKS + (NESTING + 1) * STACK  # its top
CONTROL = 1 << 16  # bytes in front of address 0 for the code itself; programs have no addresses for them
MAP_NORESERVE = (
    0x4000 if sys.platform == "linux" else 0
)  # include/uapi/asm-generic/mman-common.h; in Python from 3.13 on
_TABLE = MAX_FUNCTIONS * 8
_4G = 1 << 32
_FRONT = CONTROL + _TABLE
_LINE = 64


class Memory(Owned):
    """A zeroed mapping with an allocator for its two parts.

    Attributes:
        size: bytes that can be addressed.
        base: where address 0 is in the process: at a multiple of 4 GiB where there is that much address space, so that an address
            is the lower half of a pointer in the process, which is what arenas need.
        view, u32, u64: the bytes, and as numbers (index: address divided by their size).
        control: 64-bit numbers in front of address 0: see `bpf2py.engine.code.native`.
    """

    __slots__ = (
        "__weakref__",
        "_at",
        "_blocks",
        "_free",
        "_headers",
        "_map",
        "_next",
        "_next_header",
        "base",
        "control",
        "size",
        "table",
        "u32",
        "u64",
        "view",
    )

    def __init__(self, size: int = LARGEST) -> None:
        spare = _4G if MAP_NORESERVE else 0
        while True:
            try:
                self._map = anonymous(_FRONT + size + spare)
                break
            except (OSError, ValueError) as error:
                if spare:
                    spare = 0
                    continue
                if size // 2 < SMALLEST:
                    raise BpfOSError(
                        f"engine: no address space for {size >> 20} MiB of memory; raise `ulimit -v`",
                        errno=getattr(error, "errno", None),
                        command="mmap",
                    ) from None
                size = size // 2 & -4096
        anchor = (ctypes.c_char * 1).from_buffer(self._map)
        start = ctypes.addressof(anchor)
        del anchor
        self._at = _FRONT + (-(start + _FRONT) % _4G if spare else 0)
        self.base = start + self._at
        whole = memoryview(self._map)[self._at - _FRONT : self._at + size]
        self.table = whole[:_TABLE].cast("Q")
        self.control = whole[_TABLE:_FRONT].cast("Q")
        self.view = whole[_FRONT:]
        self.u32 = self.view[: size & -8].cast("I")
        self.u64 = self.view[: size & -8].cast("Q")
        self.size = size
        self._next = {True: HEADERS + MAX_MAPS * HEADER, False: OPS_STACK}
        self._free: dict[tuple[bool, int], list[int]] = {}
        self._blocks: dict[int, tuple[bool, int]] = {}
        self._headers: list[int] = []
        self._next_header = HEADERS

    def allocate(self, size: int, private: bool = False) -> int:
        """The address of so many zeroed bytes, at a multiple of 64 (of 4096 from a page on). Raises BpfOSError (ENOMEM)."""
        size = _rounded(size)
        block = (private, size)
        reusable = self._free.get(block, [])
        unit = mmap.PAGESIZE if size >= 4096 else _LINE
        end = PUBLIC if private else self.size
        # Threads, signal handlers and finalizers may all be here at once: each step of this either succeeds as a whole or not.
        while True:
            try:
                address = reusable.pop()
                break
            except IndexError:
                pass
            before = self._next[private]
            address = (before + unit - 1) // unit * unit
            after = address + size
            if after > end:
                raise BpfOSError(
                    f"engine: its {'private' if private else 'public'} memory is used up: {size} bytes asked for",
                    errno=12,
                    command="mmap",
                )
            if self._next[private] == before:  # nothing else runs between this line and the next
                self._next[private] = after
                break
        self._blocks[address] = block
        return address

    def free(self, address: int) -> None:
        """Give a block back; it is zeroed at once."""
        private, size = self._blocks.pop(address)
        self.zero(address, size)
        self._free.setdefault((private, size), []).append(address)

    def zero(self, address: int, size: int) -> None:
        """Clear bytes, and give whole pages of many back to the system."""
        start, end = self._at + address, self._at + address + size
        # Whole pages alone: of others the kernel would take the neighbours' bytes, too.
        first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if size < 1 << 16 or first >= last or not hasattr(self._map, "madvise") or not hasattr(mmap, "MADV_DONTNEED"):
            self.view[address : address + size] = bytes(size)
            return
        self._map.madvise(mmap.MADV_DONTNEED, first, last - first)
        self.view[address : first - self._at] = bytes(first - start)
        self.view[last - self._at : address + size] = bytes(end - last)

    @property
    def header_bounds(self) -> tuple[int, int]:
        """Where headers of maps are: first address and end."""
        return HEADERS, HEADERS + MAX_MAPS * HEADER

    def new_header(self) -> int:
        """The address of a zeroed map header. Raises BpfOSError (ENFILE) when there are too many maps."""
        try:
            return self._headers.pop()
        except IndexError:
            pass
        if self._next_header >= HEADERS + MAX_MAPS * HEADER:
            raise BpfOSError(f"engine: at most {MAX_MAPS} maps can exist at once", errno=23, command="BPF_MAP_CREATE")
        self._next_header += HEADER
        return self._next_header - HEADER

    def free_header(self, address: int) -> None:
        """Give a header back."""
        self.view[address : address + HEADER] = bytes(HEADER)
        self._headers.append(address)

    def read(self, address: int, size: int) -> bytes:
        """A copy of some bytes."""
        return bytes(self.view[address : address + size])

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Store bytes."""
        self.view[address : address + len(data)] = data


def anonymous(size: int) -> mmap.mmap:
    """Zeroed memory, of which only what is written takes any. Raises OSError or ValueError."""
    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    return mmap.mmap(-1, size)  # Windows, which reserves all of it: less if it will not


def _rounded(size: int) -> int:
    # Few different sizes, so that freed blocks fit again: a quarter of a power of two apart.
    if size <= _LINE:
        return _LINE
    step = max(1 << max(size.bit_length() - 3, 6), _LINE)
    if size >= 4096:
        step = max(step, 4096) if size < 1 << 20 else 4096
    return (size + step - 1) // step * step
