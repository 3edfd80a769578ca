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
