"""Keyrings by number (include/uapi/linux/keyctl.h, include/linux/verification.h)."""

from __future__ import annotations

from bpf2py._typing import IntEnum

__all__ = ["Keyring"]


class Keyring(IntEnum):
    """Whose keys a signature is checked with: those built into the kernel, or of a keyring of this process.

    BUILTIN: the kernel's own; SECONDARY: these and those they vouch for; PLATFORM: the firmware's. The others are the keyrings of
    keyctl(2), such as ``@s``, the session's. A keyring's serial number does as well.
    """

    BUILTIN = 0
    SECONDARY = 1
    PLATFORM = 2
    THREAD = -1
    PROCESS = -2
    SESSION = -3
    USER = -4
    USER_SESSION = -5
