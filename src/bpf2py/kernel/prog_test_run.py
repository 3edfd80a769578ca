"""BPF_PROG_TEST_RUN: run a program once, or many times, on data of our own (Linux 4.12)."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping, Sequence

from bpf2py._typing import SupportsBytes, TypeGuard
from bpf2py.errors import BpfOSError, EncodeError, NotSupported
from bpf2py.kernel.syscall import ATTR_SIZE, bpf_inout, error_for, older_than
from bpf2py.seam.info import TestRunResult
from bpf2py.uapi.commands import Command
from bpf2py.uapi.errno import EBADF, EINVAL, ENOSPC, ENOTSUPP, EOPNOTSUPP, EPERM

BPF_F_TEST_RUN_ON_CPU, BPF_F_TEST_XDP_LIVE_FRAMES = 1, 2
_ATTR = struct.Struct("<IIIIQQIIIIQQIII")
MAX_DATA_OUT = 1 << 16
MOST_STRUCT = 256  # bytes: more than any context's struct has


def run(
    what: str,
    fd: int,
    data: bytes = b"",
    context: bytes = b"",
    repeat: int = 1,
    cpu: int | None = None,
    flags: int = 0,
    batch_size: int = 0,
) -> TestRunResult:
    """Run the program with this descriptor; see `Program.test_run`."""
    data_in = ctypes.create_string_buffer(data, len(data)) if data else None
    live = bool(flags & BPF_F_TEST_XDP_LIVE_FRAMES)  # frames that went on cannot be given back
    out_size = len(data) + 256 if data and not live else 0
    data_out = ctypes.create_string_buffer(out_size) if out_size else None
    context_in = ctypes.create_string_buffer(context, len(context)) if context else None
    # The kernel gives back the whole struct, also where less of it was given; too little room would cost another run.
    context_room = max(len(context), MOST_STRUCT) if context and not live else 0
    context_out = ctypes.create_string_buffer(context_room) if context_room else None
    if cpu is not None:
        flags |= BPF_F_TEST_RUN_ON_CPU
    while True:
        attr = _ATTR.pack(
            fd & 0xFFFFFFFF,
            0,
            len(data),
            out_size,
            ctypes.addressof(data_in) if data_in is not None else 0,
            ctypes.addressof(data_out) if data_out is not None else 0,
            repeat if repeat > 1 else 0,  # programs without data refuse even a 1
            0,
            len(context),
            context_room if context_out is not None else 0,
            ctypes.addressof(context_in) if context_in is not None else 0,
            ctypes.addressof(context_out) if context_out is not None else 0,
            flags,
            cpu or 0,
            batch_size,
        )
        buffer = ctypes.create_string_buffer(attr, ATTR_SIZE)
        result = bpf_inout(Command.PROG_TEST_RUN, buffer)
        if result == -EINVAL and context_out is not None:
            context_out = None  # system call programs change the context in place, tracing programs give none back
            continue
        if result == -ENOSPC and out_size and out_size < MAX_DATA_OUT:
            out_size = MAX_DATA_OUT
            data_out = ctypes.create_string_buffer(out_size)
            continue
        break
    if result < 0:
        raise _error(what, -result, live)
    fields = _ATTR.unpack_from(buffer.raw)
    left = context_in.raw if context_in is not None else b""
    if context_out is not None and fields[9] < context_room:  # else nothing was given back
        left = context_out.raw[: fields[9]]
    return TestRunResult(fields[1], data_out.raw[: fields[3]] if data_out is not None else b"", left, fields[7])


def _error(what: str, errno: int, live: bool) -> Exception:
    if live and errno == EINVAL:
        if older_than("5.18"):
            return NotSupported(
                f"{what}: live frames need Linux 5.18", feature="BPF_F_TEST_XDP_LIVE_FRAMES", since="5.18", errno=errno,
                command="BPF_PROG_TEST_RUN",
            )  # fmt: skip
        text = "live frames are for XDP programs, of at least 14 bytes and at most a page less headers, in batches of up to 256"
        return BpfOSError(f"{what}: {text}", errno=errno, command="BPF_PROG_TEST_RUN")
    if errno in (ENOTSUPP, EOPNOTSUPP):
        return NotSupported(
            f"{what}: programs of this type cannot be run by BPF_PROG_TEST_RUN on this kernel",
            feature="BPF_PROG_TEST_RUN",
            errno=errno,
            command="BPF_PROG_TEST_RUN",
        )
    if errno in (EPERM, EBADF):
        return error_for(errno, Command.PROG_TEST_RUN, what)
    text = "the kernel refused the data or context (packets need at least 14 bytes; contexts the size of the program's)"
    return BpfOSError(
        f"{what}: {text}" if errno == EINVAL else f"{what}: failed", errno=errno, command="BPF_PROG_TEST_RUN"
    )


def context_bytes(name: str, context: object, arguments: Sequence[object], fields: Mapping[str, object]) -> bytes:
    """A context from bytes, or from numbers, 8 bytes each. Raises EncodeError for what only the engine makes contexts of."""
    if isinstance(context, Sequence) and not isinstance(context, bytes | bytearray | memoryview):
        arguments, context = (*context, *arguments), None
    raw = b"" if context is None else bytes(context) if _has_bytes(context) else None
    numbers = [item for item in arguments if isinstance(item, int)]
    if raw is None or fields or len(numbers) < len(arguments):
        raise EncodeError(
            f"program {name}: run: the kernel takes a context as bytes or as numbers; "
            'members and structs are made by the engine: load(..., backend="engine")'
        )
    return raw + b"".join((item & (1 << 64) - 1).to_bytes(8, "little") for item in numbers)


def _has_bytes(context: object) -> TypeGuard[bytes | SupportsBytes]:
    return isinstance(context, bytes | bytearray | memoryview) or hasattr(context, "__bytes__")
