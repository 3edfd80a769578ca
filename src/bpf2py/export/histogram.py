"""Counts of a map's buckets as Prometheus has histograms: cumulative, by upper bound.

Source of facts on ``exp2``, ``exp2zero``, ``linear`` and ``fixed``: cloudflare/ebpf_exporter. What that project drops, counts of
buckets outside of those configured, is kept here: below in the first bucket, above in ``+Inf``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from decimal import Decimal

from bpf2py.export.config import Buckets

__all__ = ["cumulative", "go_number", "number_of_series"]


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
