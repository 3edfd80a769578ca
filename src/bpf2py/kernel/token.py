"""BPF tokens (Linux 6.9): rights the owner of a user namespace was given by the options of a bpffs mount.

Whoever may (CAP_SYS_ADMIN outside) mounts a BPF file system for the namespace with ``delegate_cmds``, ``delegate_maps``,
``delegate_progs`` and ``delegate_attachs``; a process inside makes a token of it and hands it to bpf() with each command.
"""

from __future__ import annotations

import os
import struct

from bpf2py.errors import BpfOSError, NotSupported, PermissionDenied
from bpf2py.kernel.syscall import TOKEN_PATH, Fd, bpf_open, command_known
from bpf2py.uapi.commands import SINCE, Command
from bpf2py.uapi.errno import EACCES, EINVAL, ENOENT, EOPNOTSUPP, EPERM

_REASONS = {
    EINVAL: "this is not the root of a BPF file system",
    ENOENT: "the BPF file system was mounted without delegate_cmds=, delegate_maps= or the like: it delegates nothing",
    EOPNOTSUPP: "tokens are for user namespaces; outside of them the process' capabilities count",
    EPERM: "the BPF file system belongs to another user namespace, or the process lacks CAP_BPF in its own",
    EACCES: "the directory may not be written to",
}


def open_token(path: str | os.PathLike[str] | None) -> Fd | None:
    """BPF_TOKEN_CREATE for a mount point, by default the one the environment names; None where neither names any.

    Raises:
        NotSupported: the kernel is older than 6.9.
        PermissionDenied, BpfOSError: the mount point gives no token.
    """
    path = os.fspath(path) if path is not None else os.environ.get(TOKEN_PATH, "")
    if not path:
        return None
    what = f"BPF token of {path}"
    if not command_known(Command.TOKEN_CREATE):
        since = SINCE[Command.TOKEN_CREATE]
        raise NotSupported(
            f"{what}: BPF tokens need Linux {since}, this is {os.uname().release}",
            feature="BPF token",
            since=since,
            command="BPF_TOKEN_CREATE",
        )
    try:
        directory = Fd(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        raise BpfOSError(f"{what}: {error.strerror}", errno=error.errno, command="open") from None
    result = bpf_open(Command.TOKEN_CREATE, struct.pack("<II", 0, directory.number))
    directory.close()
    if isinstance(result, Fd):
        return result
    refused = PermissionDenied if -result in (EPERM, EACCES) else BpfOSError
    reason = _REASONS.get(-result, "the kernel gave none")
    raise refused(f"{what}: {reason}", errno=-result, command="BPF_TOKEN_CREATE")
