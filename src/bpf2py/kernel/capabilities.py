"""Capabilities of the calling thread given away: capset(2), and prctl(PR_SET_NO_NEW_PRIVS)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from bpf2py.errors import BpfOSError, EncodeError
from bpf2py.kernel.environment import CAPABILITIES
from bpf2py.kernel.syscall import libc

__all__ = ["keep_capabilities"]

LINUX_CAPABILITY_VERSION_3 = 0x20080522  # include/uapi/linux/capability.h
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4  # include/uapi/linux/prctl.h


def keep_capabilities(names: Iterable[str]) -> None:
    """Give away all capabilities but these, for good. Threads that are there already keep theirs, new ones have the caller's.

    Args:
        names: such as ``"CAP_SYSLOG"``, or ``"syslog"``.

    Raises EncodeError for a name that is none, BpfOSError.
    """
    wanted = 0
    for name in names:
        full = name.strip().upper()
        full = full if full.startswith("CAP_") else f"CAP_{full}"
        if full not in CAPABILITIES:
            raise EncodeError(f"{name!r} is not a capability")
        wanted |= 1 << CAPABILITIES.index(full)
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, of the lower 32 and of the upper ones
    if libc().capget(header, held) == 0:
        for half in (0, 1):
            bits = wanted >> 32 * half & 0xFFFFFFFF & held[3 * half + 1]
            held[3 * half], held[3 * half + 1], held[3 * half + 2] = bits, bits, 0
        libc().prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        if libc().capset(header, held) == 0 and libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
            return
    raise BpfOSError("capabilities cannot be given away", errno=ctypes.get_errno(), command="capset")
