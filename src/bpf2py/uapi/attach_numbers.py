"""The numbers among the options of `Program.attach`: what the kernel's fields for them hold."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from operator import index
from typing import Any

from bpf2py.errors import AttachError

_PID = (-1, (1 << 31) - 1)
_U32, _U64 = (0, (1 << 32) - 1), (0, (1 << 64) - 1)
RANGES = {
    "cookie": _U64, "cookies": _U64, "offset": _U64, "offsets": _U64, "ref_ctr_offset": _U32, "breakpoint": _U64,
    "pid": _PID, "tid": _PID, "cpu": _PID, "priority": (-(1 << 31), (1 << 31) - 1), "handle": _U32,
    "period": (1, (1 << 63) - 1), "frequency": (1, (1 << 63) - 1), "length": (1, 8), "ifindex": (1, (1 << 31) - 1),
}  # fmt: skip
_LISTS = ("cookies", "offsets")


def check(what: str, options: Mapping[str, Any]) -> None:
    """Raise AttachError for an option that is not a number, or one no field of the kernel holds."""
    for name, given in options.items():
        if name not in RANGES or given is None:
            continue
        low, high = RANGES[name]
        for number in given if name in _LISTS and isinstance(given, Iterable) else [given]:
            try:
                value = index(number)
            except TypeError:
                raise AttachError(f"{what}: {name} must be an integer, is {number!r}", errno=errno.EINVAL) from None
            if not low <= value <= high:
                raise AttachError(f"{what}: {name} must be {low}..{high}, is {value}", errno=errno.EINVAL)
