"""How programs are signed when they are loaded."""

from __future__ import annotations

from collections.abc import Callable

from bpf2py._typing import NamedTuple

__all__ = ["Sign", "Signing"]

# From a program's name and instructions to a PKCS#7 signature (DER, detached, without attributes).
Sign = Callable[[str, bytes], bytes]


class Signing(NamedTuple):
    """What BPF_PROG_LOAD needs of a signature (Linux 6.18).

    Attributes:
        sign: makes the signature of a program.
        keyring: the serial of a keyring, or a special number such as -3 for the session's, or 0 to 2 for the system's.
    """

    sign: Sign
    keyring: int
