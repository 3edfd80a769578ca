"""`ProgramFd`: a descriptor of a program, and what the kernel tells of it."""

from __future__ import annotations

import ctypes
import struct

from bpf2py._typing import TYPE_CHECKING
from bpf2py.kernel.objects import object_info, pin
from bpf2py.kernel.syscall import Fd, Number, check
from bpf2py.owned import Owned
from bpf2py.seam.info import ProgramInfo
from bpf2py.uapi.commands import Command

if TYPE_CHECKING:
    from bpf2py.seam.protocol import MapHandle

__all__ = ["PROG_INFO_SIZE", "ProgramFd"]

_PROG_INFO = struct.Struct("<II8sIIQQQIIQ16sII")  # up to gpl_compatible
PROG_INFO_SIZE = 232  # struct bpf_prog_info, all of it


class ProgramFd(Owned):
    """A program descriptor: what attaching a program needs of it.

    Attributes:
        name: the C function's name.
        expected_attach_type: what it was loaded for, 0 where that does not matter.
        usdt_map: for USDT programs: the map that tells them where a probe's arguments are.
        verifier_log: what the verifier wrote when it was loaded, empty unless that was asked for.
        loaded_code: the instructions it was loaded from, empty where another process did.
    """

    __slots__ = ("_fd", "expected_attach_type", "loaded_code", "name", "usdt_map", "verifier_log")

    def __init__(self, fd: Fd, name: str) -> None:
        self._fd = fd
        self.name = name
        self.expected_attach_type = 0
        self.usdt_map: MapHandle | None = None
        self.verifier_log = ""
        self.loaded_code = b""

    @property
    def fd(self) -> int:
        """The descriptor's number, negative once closed."""
        return self._fd.number

    def info(self) -> ProgramInfo:
        """struct bpf_prog_info, read now."""
        held = self.hold()
        return self.info_of(held.value)

    def hold(self) -> Number:
        """The descriptor's number, not used for anything else as long as the result is kept; see `Fd.hold`."""
        return self._fd.hold()

    def info_of(self, fd: int) -> ProgramInfo:
        """struct bpf_prog_info of any program's descriptor."""
        result, buffer = object_info(fd, PROG_INFO_SIZE)
        check(result, Command.OBJ_GET_INFO_BY_FD, f"program {self.name}: info")
        map_count = int.from_bytes(buffer.raw[52:56], "little")
        map_ids = (ctypes.c_uint32 * max(map_count, 1))()
        initial = bytearray(64)
        struct.pack_into("<IQ", initial, 52, map_count, ctypes.addressof(map_ids))
        result, buffer = object_info(fd, PROG_INFO_SIZE, bytes(initial))
        check(result, Command.OBJ_GET_INFO_BY_FD, f"program {self.name}: info")
        raw = buffer.raw
        kind, ident, tag, jited, xlated, _, _, load_time, uid, _n, _ids, name, _ifindex, gpl = _PROG_INFO.unpack_from(
            raw
        )
        btf_id = int.from_bytes(raw[128:132], "little")
        run_time, run_count, misses = struct.unpack_from("<QQQ", raw, 192)
        verified = int.from_bytes(raw[216:220], "little")
        text = name.split(b"\0", 1)[0].decode("ascii", "replace")
        return ProgramInfo(
            kind, ident, text, tag, xlated, jited, tuple(map_ids[:map_count]), btf_id, load_time, run_time, run_count, verified,
            bool(gpl & 1), uid, misses,
        )  # fmt: skip

    def pin(self, path: str) -> int:
        """BPF_OBJ_PIN."""
        held = self.hold()
        return pin(held.value, path)

    def close(self) -> None:
        """Close the descriptor."""
        self._fd.close()
