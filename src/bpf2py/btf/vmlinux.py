"""The running kernel's own types."""

from __future__ import annotations

import os
from functools import cache

from bpf2py.btf.reader import Btf
from bpf2py.errors import NotSupported

VMLINUX = "/sys/kernel/btf/vmlinux"
# Where distributions keep a kernel image with BTF when sysfs has none.
_FALLBACKS = (
    "/boot/vmlinux-{0}",
    "/lib/modules/{0}/vmlinux-{0}",
    "/lib/modules/{0}/build/vmlinux",
    "/usr/lib/debug/boot/vmlinux-{0}",
)


@cache
def vmlinux() -> Btf:
    """The running kernel's types, read once in a process. Raises NotSupported when the kernel was built without BTF."""
    release = os.uname().release
    for path in (VMLINUX, *(pattern.format(release) for pattern in _FALLBACKS)):
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError:
            continue
        return Btf.from_elf_or_raw(data, name="vmlinux")
    raise NotSupported(
        f"the kernel has no type information: {VMLINUX} is missing; it needs CONFIG_DEBUG_INFO_BTF=y (or give btf=FILE)",
        feature="CONFIG_DEBUG_INFO_BTF",
        since="5.2",
    )
