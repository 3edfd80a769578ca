"""The running kernel's own types."""

from __future__ import annotations

import errno
import mmap
import os
from functools import cache

from bpf2py._typing import BinaryIO
from bpf2py.btf.reader import Btf
from bpf2py.errors import BpfOSError, NotSupported

VMLINUX = "/sys/kernel/btf/vmlinux"
# Where distributions keep a kernel image with BTF when sysfs has none.
_FALLBACKS = (
    "/boot/vmlinux-{0}",
    "/lib/modules/{0}/vmlinux-{0}",
    "/lib/modules/{0}/build/vmlinux",
    "/usr/lib/debug/boot/vmlinux-{0}",
)


def _content(file: BinaryIO) -> bytes | mmap.mmap:
    """What is in the kernel's file, mapped since Linux 6.16: read() gives a page at a time."""
    try:
        size = os.fstat(file.fileno()).st_size
        return mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    except (OSError, ValueError):
        return file.read()


@cache
def vmlinux() -> Btf:
    """The running kernel's types, read once in a process. Raises NotSupported when the kernel was built without BTF."""
    release = os.uname().release
    for path in (VMLINUX, *(pattern.format(release) for pattern in _FALLBACKS)):
        try:
            with open(path, "rb") as file:
                data = _content(file) if path == VMLINUX else file.read()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise BpfOSError(
                    "the kernel's types cannot be read: too many files are open (RLIMIT_NOFILE)",
                    errno=error.errno,
                    command="open",
                ) from None
            continue
        return Btf.from_elf_or_raw(data, name="vmlinux")
    if not os.path.isdir("/sys/kernel"):
        raise NotSupported(
            f"the kernel's types are not to be found: /sys is not mounted (mount -t sysfs sysfs /sys), so there is no {VMLINUX}; "
            "or give btf=FILE",
            feature="/sys",
        )
    raise NotSupported(
        f"the kernel has no type information: {VMLINUX} is missing; it needs CONFIG_DEBUG_INFO_BTF=y (or give btf=FILE)",
        feature="CONFIG_DEBUG_INFO_BTF",
        since="5.2",
    )
