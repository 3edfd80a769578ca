"""Single sockets: SEC("socket") (SO_ATTACH_BPF, Linux 3.19) and SEC("sk_reuseport") (SO_ATTACH_REUSEPORT_EBPF, Linux 4.19)."""

from __future__ import annotations

import os
import socket as sockets
import struct

from bpf2py._typing import Any
from bpf2py.errors import AttachError
from bpf2py.kernel.attach import no_more_options, required
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.kernel.syscall import Fd
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.program_types import ProgramType

SO_ATTACH_BPF, SO_DETACH_BPF, SO_ATTACH_REUSEPORT_EBPF, SO_DETACH_REUSEPORT_BPF = 50, 27, 52, 68


class SocketAttachment(KernelLink):
    """A program on a socket; closing it takes the program off, if the socket is still open."""

    __slots__ = ("_detach", "_socket")

    def __init__(self, socket: Fd, hook: str, detach: int) -> None:
        super().__init__(None, hook)
        self._socket = socket
        self._detach = detach

    @property
    def fd(self) -> int:
        """A descriptor of the socket."""
        return self._socket.number

    def _undo(self) -> None:
        """Take the program off."""
        duplicate = sockets.socket(fileno=os.dup(self._socket.number))
        try:
            duplicate.setsockopt(sockets.SOL_SOCKET, self._detach, 0)
        except OSError:
            pass  # it was replaced or removed by somebody else
        finally:
            duplicate.close()

    def _close_descriptors(self) -> None:
        self._socket.close()


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``socket``: a socket object or its descriptor."""
    target = required(spec, options, "socket", "sock")
    no_more_options(spec, options)
    fd = Fd(os.dup(target if isinstance(target, int) else target.fileno()))
    reuseport = spec.type == ProgramType.SK_REUSEPORT
    option = SO_ATTACH_REUSEPORT_EBPF if reuseport else SO_ATTACH_BPF
    detach = SO_DETACH_REUSEPORT_BPF if reuseport else SO_DETACH_BPF
    duplicate = sockets.socket(fileno=os.dup(fd.number))
    try:
        duplicate.setsockopt(sockets.SOL_SOCKET, option, struct.pack("<i", program.fd))
    except OSError as error:
        fd.close()
        raise AttachError(
            f"program {spec.name}: attach: the socket refused the program: {error.strerror}",
            errno=error.errno,
            command="setsockopt",
        ) from None
    finally:
        duplicate.close()
    return [SocketAttachment(fd, spec.section, detach)]
