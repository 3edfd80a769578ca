"""The running kernel's configuration, and the LINUX_* facts programs may ask for."""

from __future__ import annotations

import gzip
import os
import platform
from functools import cache

from bpf2py.btf.types import Enum, Kind
from bpf2py.btf.vmlinux import vmlinux
from bpf2py.errors import BtfError, NotSupported, RelocationError
from bpf2py.kernel.syscall import kernel_version

_SYSCALL_PREFIX = {
    "x86_64": "__x64_sys_",
    "aarch64": "__arm64_sys_",
    "s390x": "__s390x_sys_",
    "riscv64": "__riscv_sys_",
}


def wrapper_prefix() -> str:
    """What this machine's system call wrappers are called by (Linux 4.17): ``__x64_sys_``."""
    return _SYSCALL_PREFIX.get(platform.machine(), "__x64_sys_")


@cache
def options() -> dict[str, str]:
    """Every ``CONFIG_X=value`` of /boot/config-RELEASE or /proc/config.gz. Raises RelocationError when neither is there."""
    release = os.uname().release
    text = None
    for path, opener in ((f"/boot/config-{release}", open), ("/proc/config.gz", gzip.open)):
        try:
            with opener(path, "rt", encoding="utf-8", errors="replace") as file:
                text = str(file.read())
            break
        except OSError:
            continue
    if text is None:
        raise RelocationError(
            f"the kernel's configuration cannot be read: there is no /boot/config-{release} and no /proc/config.gz "
            "(CONFIG_IKCONFIG_PROC); give kconfig={...}, or declare the variables __weak"
        )
    pairs = (line.split("=", 1) for line in text.splitlines() if line.startswith("CONFIG_") and "=" in line)
    return {name: value for name, value in pairs}  # noqa: C416  (pairs are lists)


def lookup(name: str) -> str | None:
    """The text behind ``CONFIG_X=``, None where it is not set."""
    return options().get(name)


def special(name: str) -> int | None:
    """LINUX_KERNEL_VERSION, LINUX_HAS_BPF_COOKIE, LINUX_HAS_SYSCALL_WRAPPER; None for other names."""
    if name == "LINUX_KERNEL_VERSION":
        major, minor, patch = kernel_version()
        return (major << 16) + (minor << 8) + min(patch, 255)
    if name == "LINUX_HAS_SYSCALL_WRAPPER":
        return int(_has_function(wrapper_prefix() + "bpf"))
    if name == "LINUX_HAS_BPF_COOKIE":
        return int(_has_helper("BPF_FUNC_get_attach_cookie"))
    return None


def _has_function(name: str) -> bool:
    try:
        return any(vmlinux().kind(i) == Kind.FUNC for i in vmlinux().ids_by_name(name))
    except NotSupported:
        return kernel_version() >= (4, 17, 0)


def _has_helper(name: str) -> bool:
    try:
        btf = vmlinux()
        return any(isinstance(btf.type(i), Enum) for i in btf.ids_mentioning(name))
    except (NotSupported, BtfError):
        return kernel_version() >= (5, 15, 0)
