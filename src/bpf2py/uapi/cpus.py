"""CPUs: what this machine's are called, and the lists of them in sysfs."""

from __future__ import annotations

import os
import sys


def host_arch() -> str:
    """The kernel's name for this machine's architecture, as in ``__TARGET_ARCH_x86``; x86 unless it is arm64."""
    if sys.platform == "win32":
        return "arm64" if "ARM64" in os.environ.get("PROCESSOR_ARCHITECTURE", "") else "x86"
    return "arm64" if os.uname().machine in ("aarch64", "arm64") else "x86"


def parse_cpu_list(text: str) -> list[int]:
    """The numbers of a list such as ``0-3,5``.

    >>> parse_cpu_list("0-3,5"), parse_cpu_list("0")
    ([0, 1, 2, 3, 5], [0])
    """
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _read(name: str) -> list[int]:
    with open(f"/sys/devices/system/cpu/{name}") as file:
        return parse_cpu_list(file.read())


def online_cpus() -> list[int]:
    """Numbers of the CPUs that are online (/sys/devices/system/cpu/online)."""
    return _read("online")


def possible_cpu_numbers() -> list[int]:
    """Numbers of the CPUs that may ever be online, in order (/sys/devices/system/cpu/possible); they may have gaps."""
    return _read("possible")


def possible_cpus() -> int:
    """Slots of a per-CPU value: the kernel copies the values of the possible CPUs one after the other, without gaps."""
    return len(possible_cpu_numbers())
