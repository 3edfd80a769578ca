"""`Probes`: what bpf() says when it is asked, with three harmless calls."""

from __future__ import annotations

import os
import struct

from bpf2py._typing import NamedTuple
from bpf2py.errors import NotSupported
from bpf2py.kernel.syscall import address_of_bytes, bpf
from bpf2py.uapi.commands import Command
from bpf2py.uapi.errno import ENOSYS, EPERM
from bpf2py.uapi.map_types import MapType
from bpf2py.uapi.program_types import AttachType, ProgramType

__all__ = ["Probes"]


class Probes(NamedTuple):
    """What the kernel answered when asked; errno 0 is success.

    Attributes:
        map_create: errno of creating an array map.
        prog_load: errno of loading a two-instruction tracepoint program.
        trampolines: whether fentry, fexit, fmod_ret and LSM programs are accepted; None when programs are not.
    """

    map_create: int
    prog_load: int
    trampolines: bool | None

    @classmethod
    def run(cls) -> Probes:
        """Create a map and load a program (both closed at once)."""
        map_create = _attempt(Command.MAP_CREATE, struct.pack("<4I", MapType.ARRAY, 4, 4, 1))
        prog_load = _load(ProgramType.TRACEPOINT, 0)
        if prog_load:
            return cls(map_create, prog_load, None)
        # Without a target the verifier says EINVAL where trampolines are possible; where the kernel refuses them all it
        # says EPERM before it even looks.
        fentry = _load(ProgramType.TRACING, AttachType.TRACE_FENTRY)
        return cls(map_create, prog_load, fentry != EPERM)

    @property
    def kernel_usable(self) -> bool:
        """Whether the kernel backend can be used."""
        return self.map_create == 0 and self.prog_load == 0


def _attempt(command: Command, attr: bytes) -> int:
    """Run a bpf() command that returns a descriptor, close it, and return the errno (0: it worked)."""
    try:
        fd = bpf(command, attr)
    except NotSupported:  # no Linux, or a CPU without a bpf() number
        return ENOSYS
    if fd < 0:
        return -fd
    os.close(fd)
    return 0


def _load(program_type: ProgramType, expected_attach_type: int) -> int:
    """Load ``r0 = 0; exit`` as a program type and return the errno."""
    code, gpl = bytes.fromhex("b7000000000000009500000000000000"), b"GPL\0"
    # union bpf_attr for BPF_PROG_LOAD: prog_type, insn_cnt, insns, license, ..., expected_attach_type at byte 68.
    attr = struct.pack(
        "<IIQQ44xI", program_type, 2, address_of_bytes(code), address_of_bytes(gpl), expected_attach_type
    )
    return _attempt(Command.PROG_LOAD, attr)
