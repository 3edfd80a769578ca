"""Why the kernel refused the signature of a program (bpf_prog_verify_signature() in kernel/bpf/syscall.c)."""

from __future__ import annotations

import os

from bpf2py.errors import BpfError, NotSupported, PermissionDenied
from bpf2py.kernel.syscall import older_than
from bpf2py.uapi.errno import E2BIG, EBADMSG, EINVAL, EKEYEXPIRED, EKEYREJECTED, EKEYREVOKED, ENOKEY, ENOPKG, EOPNOTSUPP
from bpf2py.uapi.keyrings import Keyring

SINCE = "6.18"
_WHY = {
    EBADMSG: "it is not a PKCS#7 message in DER",
    EKEYEXPIRED: "its key has expired",
    EKEYREVOKED: "its key is revoked",
    ENOPKG: "the kernel was built without the algorithm it is made with",
}
_REJECTED = "it is not of these instructions, or its form is not what the kernel takes: detached, without attributes"


def refused(errno: int, what: str, keyring: int) -> BpfError | None:
    """The exception for an errno that speaks of the signature, None for others."""
    if older_than(SINCE) and errno in (E2BIG, EINVAL):
        return NotSupported(
            f"{what}: signed programs came with Linux {SINCE}, this is {os.uname().release}",
            feature="signed programs",
            since=SINCE,
            errno=errno,
            command="BPF_PROG_LOAD",
        )
    if errno == EOPNOTSUPP:
        return NotSupported(
            f"{what}: this kernel was built without CONFIG_SYSTEM_DATA_VERIFICATION, which signatures are checked by",
            feature="signed programs",
            errno=errno,
            command="BPF_PROG_LOAD",
        )
    where = f"keyring {keyring}" if keyring not in list(Keyring) else f"the {Keyring(keyring).name} keyring"
    if errno == ENOKEY:
        return _denied(
            f"{what}: {where} has no key that its signature was made with, or there is no such keyring", errno
        )
    if errno == EKEYREJECTED:
        return _denied(f"{what}: the signature was rejected: {_REJECTED}", errno)
    if errno in _WHY:
        return _denied(f"{what}: the signature was refused: {_WHY[errno]}", errno)
    return None


def _denied(text: str, errno: int) -> PermissionDenied:
    return PermissionDenied(text, errno=errno, command="BPF_PROG_LOAD")
