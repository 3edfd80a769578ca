"""Links: attachments of programs to hooks, held by descriptors."""

from __future__ import annotations

import os
import struct

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.errors import AttachError, BpfError
from bpf2py.kernel.objects import must_be, open_pinned, pin
from bpf2py.kernel.syscall import Fd, bpf, bpf_open, error_for, libc
from bpf2py.owned import Owned
from bpf2py.uapi.commands import Command
from bpf2py.uapi.errno import EACCES, EINVAL, EPERM

if TYPE_CHECKING:
    from bpf2py.kernel.program_fd import ProgramFd
    from bpf2py.seam.protocol import LinkHandle

BPF_F_REPLACE = 1 << 2
PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_DISABLE, PERF_EVENT_IOC_SET_BPF = 0x2400, 0x2401, 0x40042408


class KernelLink(Owned):
    """An attachment; closing it detaches, unless it is pinned.

    A process that was forked off has the descriptors, too: closing the link there closes these alone, and does nothing to
    the attachment, which is its parent's.

    Attributes:
        hook: where it is attached, for messages.
        is_link: whether the kernel has a link object (else the attachment is the perf event's).
    """

    __slots__ = ("_fd", "_owner", "_perf", "hook", "is_link")

    def __init__(self, fd: Fd | None, hook: str, perf: Fd | None = None) -> None:
        self._fd = fd
        self._perf = perf
        self._owner = os.getpid()
        self.hook = hook
        self.is_link = fd is not None

    @property
    def fd(self) -> int:
        """The link's descriptor, or that of the perf event, negative once closed."""
        owner = self._fd if self._fd is not None else self._perf
        return owner.number if owner is not None else -1

    def close(self) -> None:
        """Detach and close the descriptors; closing twice is harmless."""
        try:
            if self.fd >= 0 and os.getpid() == self._owner:
                self._undo()
        finally:
            self._close_descriptors()

    def _undo(self) -> None:
        """Detach, where closing the descriptors does not do so by itself. Only called in the process that attached."""
        if self._perf is not None and self._fd is None:
            libc().ioctl(self._perf.number, PERF_EVENT_IOC_DISABLE, 0)

    def _close_descriptors(self) -> None:
        for owner in (self._fd, self._perf):
            if owner is not None:
                owner.close()

    def release(self) -> tuple[Fd | None, Fd | None]:
        """Hand the descriptors of the link and the perf event over to another object."""
        owned, self._fd, self._perf = (self._fd, self._perf), None, None
        return owned

    def detach(self) -> int:
        """BPF_LINK_DETACH (Linux 5.9): detach even if the link is pinned or open elsewhere."""
        if self._fd is None:
            self.close()
            return 0
        held = self._fd.hold()
        return bpf(Command.LINK_DETACH, struct.pack("<I", held.value & 0xFFFFFFFF))

    def pin(self, path: str) -> int:
        """BPF_OBJ_PIN: the attachment then outlives the process."""
        if self._fd is None:
            return -EINVAL
        held = self._fd.hold()
        return pin(held.value, path)

    def opened_at(self, path: str) -> KernelLink:
        """The link that is pinned at a path. Raises PermissionDenied or BpfOSError."""
        return open_link_pin(path)

    def update(self, program_fd: int, old_fd: int | None) -> int:
        """BPF_LINK_UPDATE (Linux 5.7): put another program in place, only if `old_fd` is there where it is given."""
        if self._fd is None:
            return -EINVAL
        flags, old = (BPF_F_REPLACE, old_fd) if old_fd is not None else (0, 0)
        held = self._fd.hold()
        return bpf(
            Command.LINK_UPDATE, struct.pack("<IIII", held.value & 0xFFFFFFFF, program_fd & 0xFFFFFFFF, flags, old or 0)
        )

    def iterate(self) -> int:
        """BPF_ITER_CREATE (Linux 5.8): a descriptor to read from, or -errno."""
        if self._fd is None:
            return -EINVAL
        held = self._fd.hold()
        return bpf(Command.ITER_CREATE, struct.pack("<II", held.value & 0xFFFFFFFF, 0))

    def info(self) -> dict[str, Any]:
        """Type, id, program id and what belongs to the type (Linux 5.8); empty without a link object."""
        if self._fd is None:
            return {}
        from bpf2py.kernel.link_info import link_info

        held = self._fd.hold()
        try:
            found = link_info(held.value)
        except BpfError:
            return {}
        return {"type": found.type, "id": found.id, "prog_id": found.program_id, **found.details}

    def __repr__(self) -> str:
        return f"<KernelLink {self.hook}{'' if self.fd >= 0 else ' (detached)'}>"


class ProgAttachment(KernelLink):
    """A program put on a descriptor by BPF_PROG_ATTACH; closing it takes the program off again.

    Raises AttachError or PermissionDenied when the kernel refuses it.
    """

    __slots__ = ("_attach_type", "_program", "_target")

    def __init__(
        self, program: ProgramFd, what: str, target_fd: int, attach_type: int, hook: str, flags: int = 0
    ) -> None:
        super().__init__(None, hook)
        self._target = Fd(os.dup(target_fd))
        self._program = Fd(os.dup(program.fd))
        self._attach_type = attach_type
        result = bpf(
            Command.PROG_ATTACH, struct.pack("<IIII", self._target.number, self._program.number, attach_type, flags)
        )
        if result < 0:
            self._target.close()
            self._program.close()
            if result in (-EPERM, -EACCES):
                raise error_for(-result, Command.PROG_ATTACH, what)
            raise AttachError(f"{what}: {hook} refused the program", errno=-result, command="BPF_PROG_ATTACH")

    @property
    def fd(self) -> int:
        """The descriptor the program was put on, negative once closed."""
        return self._target.number

    def _undo(self) -> None:
        """BPF_PROG_DETACH."""
        attr = struct.pack("<IIII", self._target.number, self._program.number, self._attach_type, 0)
        bpf(Command.PROG_DETACH, attr)

    def _close_descriptors(self) -> None:
        self._target.close()
        self._program.close()


def open_link_pin(path: str) -> KernelLink:
    """A pinned link. Raises PermissionDenied or BpfOSError."""
    what = f"pinned link {path}: open"
    return KernelLink(must_be("link", open_pinned(path, what), what), path)


if TYPE_CHECKING:

    def _proof(handle: KernelLink) -> LinkHandle:
        return handle


def link_create(program_fd: int, target_fd: int, attach_type: int, flags: int = 0, extra: bytes = b"") -> Fd | int:
    """BPF_LINK_CREATE (Linux 5.7): a descriptor, or -errno; `extra` is the part after `flags`."""
    return bpf_open(
        Command.LINK_CREATE,
        struct.pack("<IIII", program_fd & 0xFFFFFFFF, target_fd & 0xFFFFFFFF, attach_type, flags) + extra,
    )
