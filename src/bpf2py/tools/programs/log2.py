"""Slots of histograms."""

from bpf2py.lang import *


def log2(value: u64) -> u32:
    """The highest bit that is set."""
    result: u32 = 0
    for shift in (32, 16, 8, 4, 2, 1):
        if value >> shift:
            value >>= shift
            result += shift
    return result
