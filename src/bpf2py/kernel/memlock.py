"""RLIMIT_MEMLOCK, to which kernels before 5.11 charge maps and programs.

It is 64 KiB where nobody raised it, which a single ring buffer exceeds, and the kernel says EPERM. libbpf and other loaders lift it
for the process, too. From 5.11 on the memory is charged to the control group (kernel/bpf/syscall.c), and the limit is left alone.
"""

from __future__ import annotations

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING

if TYPE_CHECKING:
    import resource
else:
    resource = module("resource")

__all__ = ["MEMLOCK_UNTIL", "lift"]

MEMLOCK_UNTIL = (5, 11)


def lift(version: tuple[int, ...]) -> bool:
    """Lift this process' limit as far as it may be; whether that changed anything, so that what was refused can be tried again.

    Args:
        version: the running kernel's.
    """
    if version >= MEMLOCK_UNTIL:
        return False
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    for wanted in ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), (hard, hard)):
        if wanted == (soft, hard):
            return False
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, wanted)
        except (ValueError, OSError):  # only CAP_SYS_RESOURCE raises the hard limit
            continue
        return True
    return False
