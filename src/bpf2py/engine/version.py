"""Versions of kernels, and what differs between them."""

from __future__ import annotations

from bpf2py.errors import EncodeError

__all__ = ["NEWEST_PATCH", "has_fixed_lru", "parse_version"]

NEWEST_PATCH = 255  # of a series that is named without one


def parse_version(text: str) -> tuple[int, int, int]:
    """``"6.12"`` or ``"6.12.30+deb13-amd64"`` as numbers; without a patch level the newest. Raises EncodeError."""
    parts = text.split("-")[0].split("+")[0].split(".")
    try:
        numbers = [int(part) for part in parts]
        if not 2 <= len(numbers) <= 3 or min(numbers) < 0:
            raise ValueError
    except ValueError:
        raise EncodeError(f'engine: kernel must be a version such as "6.12" or "6.12.30", is {text!r}') from None
    return numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else NEWEST_PATCH


def has_fixed_lru(version: tuple[int, int, int]) -> bool:
    """Whether LRU maps have local lists of 128 whatever their size: before commit d4adf1c9ee77 and its backports."""
    if version >= (6, 16, 0):
        return False
    since = {(6, 15): 7, (6, 12): 39, (6, 6): 99}.get(version[:2])
    return since is None or version[2] < since
