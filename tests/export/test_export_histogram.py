"""Buckets of maps as cumulative buckets of Prometheus."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpf2py.export.config import Buckets
from bpf2py.export.histogram import HIGHEST, cumulative, exponential, go_number, number_of_series


def test_exp2() -> None:
    bounds, count, total = cumulative(Buckets("exp2", 0, 3, 1e-6), {0: 1, 2: 5, 4: 777})
    assert bounds == [(1e-6, 1), (2e-6, 1), (4e-6, 6), (8e-6, 6)]
    assert count == 6
    assert total == pytest.approx(777e-6)  # the bucket after the last is the sum


def test_exp2zero_has_a_bucket_of_zeros() -> None:
    bounds, count, _ = cumulative(Buckets("exp2zero", 0, 3), {0: 1, 1: 2, 3: 4})
    assert bounds == [(0, 1), (1, 3), (2, 3), (4, 7)]
    assert count == 7


def test_linear_counts_from_where_it_starts() -> None:
    bounds, _, _ = cumulative(Buckets("linear", 2, 4, 10), {2: 1, 4: 1})
    assert bounds == [(20, 1), (30, 1), (40, 2)]


def test_fixed_keys() -> None:
    bounds, count, total = cumulative(Buckets("fixed", 0, 0, 2, (1, 10, 100)), {1: 1, 10: 2, 100: 3, 101: 50})
    assert bounds == [(2, 1), (20, 3), (200, 6)]
    assert (count, total) == (6, 100)


def test_a_program_that_keeps_no_sum_has_zero() -> None:
    assert cumulative(Buckets("exp2", 0, 3), {0: 1})[2] == 0


def test_log2_slots_have_exact_bounds() -> None:
    """Slot i has the whole numbers from 2**i to 2**(i+1) - 1; a time in it, rounded down, is below 2**(i+1)."""
    values = [0, 1, 2, 3, 4, 7, 8, 100]
    counts: dict[int, int] = {}
    for value in values:
        slot = max(0, value.bit_length() - 1)
        counts[slot] = counts.get(slot, 0) + 1
    bounds, count, total = cumulative(Buckets("log2", 0, 7), counts)
    assert [(bound, sum(value <= bound for value in values)) for bound, _ in bounds] == bounds
    assert (count, total) == (len(values), None)
    assert [bound for bound, _ in cumulative(Buckets("log2", 0, 2, 1e-9), {})[0]] == [2e-9, 4e-9, 8e-9]


@given(
    st.sampled_from([Buckets("exp2", 3, 9), Buckets("exp2zero", 0, 9), Buckets("linear", 2, 5, 3), Buckets("log2", 0, 5),
                     Buckets("fixed", 0, 0, 1, (1, 5, 6.5, 20))]),
    st.dictionaries(st.integers(0, 40), st.integers(0, 1 << 40), max_size=20),
)  # fmt: skip
def test_no_count_is_lost_and_none_doubled(buckets: Buckets, counts: dict[int, int]) -> None:
    last = int(buckets.keys[-1]) if buckets.keys else buckets.max
    bounds, count, _ = cumulative(buckets, counts)
    assert count == sum(n for bucket, n in counts.items() if buckets.type == "log2" or bucket != last + 1)
    assert [n for _, n in bounds] == sorted(n for _, n in bounds)
    assert bounds[-1][1] <= count
    assert number_of_series(buckets) == len(bounds) + 3


def test_numbers_as_go_writes_them() -> None:
    written = {
        0.0: "0", 1.0: "1", 20.0: "20", 0.000128: "0.000128", 1e-06: "1e-06", 1.6e-05: "1.6e-05", 134.217728: "134.217728",
        524288.0: "524288", 1048576.0: "1.048576e+06", 2.0**40: "1.099511627776e+12", 0.5: "0.5",
    }  # fmt: skip
    assert {number: go_number(number) for number in written} == written


def test_log2_slots_are_exponential_buckets() -> None:
    """A slot's bucket is the one its largest value lies in; powers of two are told one higher than where they belong."""
    for value in range(1, 5000):
        slot = value.bit_length() - 1
        made = exponential(Buckets("log2", 0, 26), {slot: 1})
        assert made is not None
        assert made.exact
        assert value <= 2.0**made.first
        assert value > 2.0 ** (made.first - 1) or value == 1 << slot
        assert 0.75 * value <= made.middle <= 1.5 * value or slot == 0  # which has 0 and 1


def test_exponential_buckets_of_other_kinds() -> None:
    assert exponential(Buckets("exp2", 0, 5), {3: 4, 6: 999}) == (3, [4], 0, True, 4 * 6)  # 6 is the sum
    assert exponential(Buckets("exp2zero", 0, 5), {0: 7, 4: 1}) == (3, [1], 7, True, 6)
    assert exponential(Buckets("linear", 0, 5), {1: 1}) is None
    assert exponential(Buckets("log2", 0, 5, 1024), {0: 1, 3: 2}) == (11, [1, 0, 0, 2], 0, True, 1024 + 2 * 12 * 1024)
    for unit, exponent in ((1e-9, -30), (1e-6, -20), (1e-3, -10)):
        made = exponential(Buckets("log2", 0, 26, unit), {0: 1})
        assert made is not None
        assert (made.first, made.exact) == (exponent + 1, False)
    assert exponential(Buckets("log2", 0, 5), {}) == (0, [], 0, True, 0)


@given(st.dictionaries(st.integers(0, 1 << 64), st.integers(-(1 << 63), 1 << 64), max_size=20))
def test_numbers_of_buckets_that_no_program_should_have(counts: dict[int, int]) -> None:
    made = exponential(Buckets("log2", 0, 26), counts)
    assert made is not None
    assert sum(made.counts) == sum(count for count in counts.values() if count > 0)
    assert len(made.counts) <= HIGHEST + 1
