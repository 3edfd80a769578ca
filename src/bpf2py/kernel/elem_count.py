"""Counting the elements of a hash map in the kernel: the kfunc bpf_map_sum_elem_count(), Linux 6.6.

Hash maps count insertions and deletions for each CPU; only programs can read the sum. So a program of six
instructions, bound to one map, is loaded once and run by BPF_PROG_TEST_RUN: some microseconds, however many elements
there are.
"""

from __future__ import annotations

import ctypes
import struct

from bpf2py.btf.types import Kind
from bpf2py.kernel.ksyms import btf_symbol
from bpf2py.kernel.syscall import Fd, address_of_bytes, bpf, older_than
from bpf2py.uapi.commands import Command
from bpf2py.uapi.map_types import MapType

# Their tables of types and sections take longer to import than all of this.
PROG_TYPE_SYSCALL, BPF_F_SLEEPABLE = 31, 1 << 4
KFUNC = "bpf_map_sum_elem_count"
COUNTED = (
    MapType.HASH,
    MapType.PERCPU_HASH,
    MapType.LRU_HASH,
    MapType.LRU_PERCPU_HASH,
    MapType.HASH_OF_MAPS,
)
_INSN = struct.Struct("<BBhi")


class ElemCounter:
    """Counts the elements of one map. `count()` gives None where the kernel or the rights do not allow it."""

    __slots__ = ("_map_fd", "_program", "_tried")

    def __init__(self, map_fd: Fd) -> None:
        self._map_fd = map_fd
        self._program: Fd | None = None
        self._tried = False

    def count(self) -> int | None:
        """Number of elements now, summed over the CPUs while they go on counting."""
        if not self._tried:
            self._program = self._load()
            self._tried = True
        if self._program is None:
            return None
        held = self._program.hold()
        context = ctypes.create_string_buffer(8)
        attr = bytearray(80)
        struct.pack_into("<I", attr, 0, held.value & 0xFFFFFFFF)
        struct.pack_into("<I", attr, 40, 8)
        struct.pack_into("<Q", attr, 48, ctypes.addressof(context))
        if bpf(Command.PROG_TEST_RUN, attr) < 0:
            return None
        return max(0, int.from_bytes(context.raw, "little", signed=True))

    def _load(self) -> Fd | None:
        if older_than("6.6"):
            return None
        kfunc = btf_symbol(KFUNC, Kind.FUNC)
        if kfunc is None or kfunc.fd:
            return None
        held = self._map_fd.hold()
        code = b"".join(
            _INSN.pack(*row)
            for row in (
                (0xBF, 0x16, 0, 0),  # r6 = r1
                (0x18, 0x11, 0, held.value),  # r1 = map
                (0, 0, 0, 0),
                (0x85, 0x20, 0, kfunc.type_id),  # call bpf_map_sum_elem_count
                (0x7B, 0x06, 0, 0),  # *(u64 *)(r6 + 0) = r0
                (0xB7, 0x00, 0, 0),  # r0 = 0
                (0x95, 0x00, 0, 0),  # exit
            )
        )
        license_text = b"GPL\0"
        attr = bytearray(152)
        struct.pack_into(
            "<IIQQ",
            attr,
            0,
            PROG_TYPE_SYSCALL,
            len(code) // 8,
            address_of_bytes(code),
            address_of_bytes(license_text),
        )
        struct.pack_into("<I", attr, 44, BPF_F_SLEEPABLE)
        attr[48:63] = b"bpf2py_count".ljust(15, b"\0")
        result = bpf(Command.PROG_LOAD, attr)
        return Fd(result) if result >= 0 else None

    def close(self) -> None:
        """Give the program up."""
        if self._program is not None:
            self._program.close()
