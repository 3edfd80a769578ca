"""What programs write with bpf_stream_printk(), and what the kernel writes about them (Linux 6.17)."""

from __future__ import annotations

import ctypes
import os
import struct

from bpf2py.errors import NotSupported
from bpf2py.kernel.syscall import bpf, check, command_known
from bpf2py.uapi.commands import SINCE, Command
from bpf2py.uapi.errno import EINVAL

# A stream holds up to 100,000 bytes (kernel/bpf/stream.c); what is written beyond is lost.
_CHUNK = 1 << 17


def read_stream(what: str, fd: int, stream: int) -> bytes:
    """BPF_PROG_STREAM_READ_BY_FD until nothing is left. Raises NotSupported or BpfOSError."""
    if not command_known(Command.PROG_STREAM_READ_BY_FD):
        since = SINCE[Command.PROG_STREAM_READ_BY_FD]
        raise NotSupported(
            f"{what}: program streams need Linux {since}, this is {os.uname().release}",
            feature="program streams",
            since=since,
            errno=EINVAL,
            command="BPF_PROG_STREAM_READ_BY_FD",
        )
    buffer = ctypes.create_string_buffer(_CHUNK)
    attr = struct.pack("<QIII", ctypes.addressof(buffer), _CHUNK, stream, fd & 0xFFFFFFFF)
    parts = []
    while size := check(bpf(Command.PROG_STREAM_READ_BY_FD, attr), Command.PROG_STREAM_READ_BY_FD, what):
        parts.append(buffer.raw[:size])
    return b"".join(parts)
