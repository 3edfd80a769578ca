"""Counts of a map's buckets as Prometheus has histograms: cumulative, by upper bound.

Source of facts on ``exp2``, ``exp2zero``, ``linear`` and ``fixed``: cloudflare/ebpf_exporter. What that project drops, counts of
buckets outside of those configured, is kept here: below in the first bucket, above in ``+Inf``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from bpf2py.export.config import Buckets

__all__ = ["Exponential", "cumulative", "exponential", "go_number", "number_of_series"]

# Bounds of doubles: 2**-1074 is the smallest, what is above 2**1023 is in the bucket of 2**1024.
LOWEST, HIGHEST = -1074, 1024


class Exponential(NamedTuple):
    """Counts in buckets whose bounds are powers of two: schema 0 of Prometheus' native histograms, scale 0 of OpenTelemetry.

    Attributes:
        first: the exponent of the first bucket's upper bound; each has the values above 2**(n-1) and up to 2**n.
        counts: of the buckets from `first` on.
        zeros: values that are zero.
        middle: the sum of the values, were each in the middle of its bucket: 25 % below the real one to 50 % above it.
        exact: whether the program's own bounds are these; where they are other units, they are the nearest ones.
    """

    first: int
    counts: list[int]
    zeros: int
    exact: bool
    middle: float


def cumulative(buckets: Buckets, counts: Mapping[int, int]) -> tuple[list[tuple[float, int]], int, float | None]:
    """([(upper bound, count up to it)], count in all, sum of the values or None where it is not known) of counts by bucket.

    The bucket after the last one holds the sum, where the program keeps it; ebpf_exporter's histograms have 0 else.
    """
    keys, bounds = _numbered(buckets)
    total = counts.get(int(keys[-1]) + 1, 0) if buckets.type != "log2" else None
    found = [0] * (len(keys) + 1)
    for bucket, count in counts.items():
        if total is None or bucket != int(keys[-1]) + 1:
            found[bisect_left(keys, bucket)] += count
    running, made = 0, []
    for bound, count in zip(bounds, found, strict=False):
        running += count
        made.append((bound, running))
    return made, running + found[-1], total * buckets.multiplier if total is not None else None


def exponential(buckets: Buckets, counts: Mapping[int, int]) -> Exponential | None:
    """Counts by bucket as an exponential histogram; None of buckets that do not double.

    >>> exponential(Buckets("log2", 0, 26), {0: 5, 4: 90})
    Exponential(first=0, counts=[5, 0, 0, 0, 0, 90], zeros=0, exact=True, middle=2117.5)

    A unit that is converted moves the bounds to the nearest powers of two: a microsecond to 2**-20 seconds, 4.6 % less, a
    nanosecond to 2**-30 (6.9 % less), a millisecond to 2**-10 (2.3 % less).
    """
    if buckets.type not in ("log2", "exp2", "exp2zero"):
        return None
    unit = math.log2(buckets.multiplier)
    moved = round(unit)
    own_sum = int(_numbered(buckets)[0][-1]) + 1 if buckets.type != "log2" else None
    found: dict[int, int] = {}
    zeros, middle = 0, 0.0
    for bucket, count in counts.items():
        if bucket == own_sum or count <= 0:
            continue
        if bucket == 0 and buckets.type == "exp2zero":
            zeros += count
            continue
        bound = _exponent(buckets, bucket) + moved
        bound = min(max(bound, LOWEST), HIGHEST)
        found[bound] = found.get(bound, 0) + count
        above = _bound(buckets, min(bucket, HIGHEST - 2))
        below = 2.0 ** min(bucket, HIGHEST - 2) * buckets.multiplier if buckets.type == "log2" and bucket else 0.0
        middle += count * ((below + above) / 2 if buckets.type == "log2" else above * 0.75)
    if not found:
        return Exponential(0, [], zeros, unit == moved, middle)
    first = min(found)
    return Exponential(
        first, [found.get(each, 0) for each in range(first, max(found) + 1)], zeros, unit == moved, middle
    )


def _exponent(buckets: Buckets, bucket: int) -> int:
    """Of the upper bound of a bucket, in the program's unit."""
    if buckets.type == "log2":  # the first has 0 and 1; times that are rounded down are below 2
        return bucket + 1 if bucket or buckets.multiplier != 1 else 0
    return bucket - 1 if buckets.type == "exp2zero" else bucket


def _numbered(buckets: Buckets) -> tuple[list[float], list[float]]:
    """(buckets as the program numbers them, their upper bounds)."""
    if buckets.type == "fixed":
        keys = list(buckets.keys)
        return keys, [key * buckets.multiplier for key in keys]
    numbers = range(buckets.min, buckets.max + 1)
    return list(numbers), [_bound(buckets, number) for number in numbers]


def _bound(buckets: Buckets, bucket: int) -> float:
    kind, multiplier = buckets.type, buckets.multiplier
    if kind == "linear":
        return bucket * multiplier
    if kind == "exp2zero":
        return 2.0 ** (bucket - 1) * multiplier if bucket else 0.0
    if kind == "log2":  # floor(log2(n)): up to 2**(bucket + 1) - 1; a time rounded down is below 2**(bucket + 1) units
        return (2.0 ** (bucket + 1) - (1 if multiplier == 1 else 0)) * multiplier
    return 2.0**bucket * multiplier


def number_of_series(buckets: Buckets) -> int:
    """Series of one histogram: its buckets, +Inf, sum and count."""
    return len(_numbered(buckets)[0]) + 3


def go_number(number: float) -> str:
    """A number as Go's strconv writes it, and so what other exporters have for ``le``: the label is compared as text.

    >>> go_number(1.0), go_number(2e-06), go_number(1048576.0), go_number(0.000128)
    ('1', '2e-06', '1.048576e+06', '0.000128')
    """
    _, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    assert isinstance(exponent, int)
    power = len(digits) + exponent - 1
    if number and not -4 <= power < 6:
        text = "".join(map(str, digits))
        return f"{text[0]}{'.' if text[1:] else ''}{text[1:]}e{power:+03}"
    return f"{Decimal(repr(number)).normalize():f}"
