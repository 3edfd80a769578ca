"""CPU lists of sysfs."""

from __future__ import annotations


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


def online_cpus() -> list[int]:
    """Numbers of the CPUs that are online (/sys/devices/system/cpu/online)."""
    with open("/sys/devices/system/cpu/online") as file:
        return parse_cpu_list(file.read())


def possible_cpus() -> int:
    """Slots of a per-CPU value: one more than the highest possible CPU's number (/sys/devices/system/cpu/possible)."""
    with open("/sys/devices/system/cpu/possible") as file:
        return max(parse_cpu_list(file.read())) + 1
