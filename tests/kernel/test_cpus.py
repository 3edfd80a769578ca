"""Machines whose possible CPUs have gaps between their numbers: as many values as CPUs, perf buffers by number."""

from __future__ import annotations

from collections.abc import Callable
from mmap import PAGESIZE

import pytest

import bpf2py
from bpf2py.kernel import map as kernel_map
from bpf2py.uapi import cpus

PERF = """
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __type(key, int); __type(value, int); } events SEC(".maps");
struct inner { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); };
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 2); __type(key, int); __array(values, struct inner); }
    nested SEC(".maps");
SEC("socket") int p(void *ctx) { return 0; }
"""


@pytest.mark.parametrize(
    ("text", "slots", "numbers"),
    [("0", 1, [0]), ("0-3", 4, [0, 1, 2, 3]), ("0,2", 2, [0, 2]), ("0-1,4-5,9", 5, [0, 1, 4, 5, 9])],
)
def test_as_many_values_as_the_mask_has_bits(
    text: str, slots: int, numbers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpus, "_read", lambda name: cpus.parse_cpu_list(text) if name == "possible" else [])
    assert cpus.possible_cpus() == slots
    assert cpus.possible_cpu_numbers() == numbers


@pytest.mark.kernel
@pytest.mark.skipif(cpus.possible_cpus() < 2, reason="the values of one CPU cannot be mixed up")
def test_a_cpu_s_value_is_found_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    known = kernel_map.possible_cpu_numbers()
    gaps = tuple(number * 2 for number in known)
    with bpf2py.Map.create("PERCPU_HASH", key="u32", value="u64", max_entries=4) as made:
        made[1] = [10 + number for number in known]
        assert made.lookup_cpu(1, known[1]) == 10 + known[1]
        monkeypatch.setattr(kernel_map, "possible_cpu_numbers", lambda: gaps)
        assert made.lookup_cpu(1, gaps[1]) == 10 + known[1]
        for nobody in (1, gaps[-1] + 1, -1):
            with pytest.raises(bpf2py.IndexOutOfRange, match=f"CPU {nobody} is not one of the {len(known)} possible"):
                made.lookup_cpu(1, nobody)
        assert made[1].sum() == sum(10 + number for number in known)


@pytest.mark.kernel
def test_perf_buffers_have_a_place_for_every_number(
    build: Callable[[str], bpf2py.ObjectSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    with bpf2py.load(build(PERF)) as obj:
        assert obj.maps["events"].max_entries == max(kernel_map.possible_cpu_numbers()) + 1
    monkeypatch.setattr("bpf2py.kernel.backend.possible_cpu_numbers", lambda: (0, 2, 7))
    with bpf2py.load(build(PERF)) as obj:
        assert obj.maps["events"].max_entries == 8
        assert obj.spec.maps["nested"].inner is not None
        assert obj.spec.maps["nested"].inner.max_entries == 8


RINGS = """
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1000); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_USER_RINGBUF); __uint(max_entries, 4097); } user SEC(".maps");
struct inner { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 20000); } one SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 2); __type(key, int); __array(values, struct inner); }
    nested SEC(".maps") = { .values = { [1] = &one } };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 8192); } exact SEC(".maps");
SEC("socket") int p(void *ctx) { return 0; }
"""


@pytest.mark.parametrize("backend", [pytest.param("kernel", marks=pytest.mark.kernel), "engine"])
def test_rings_get_the_next_size_there_can_be(build: Callable[[str], bpf2py.ObjectSpec], backend: str) -> None:
    page = PAGESIZE
    with bpf2py.load(build(RINGS), backend) as obj:
        sizes = {name: obj.maps[name].max_entries for name in ("ring", "user", "one", "exact")}
        if page == 4096:
            assert sizes == {"ring": 4096, "user": 8192, "one": 32768, "exact": 8192}
        assert all(size % page == 0 for size in sizes.values())
        assert obj.maps["nested"][1].max_entries == sizes["one"]
    spec = build(RINGS)
    spec.maps["ring"].max_entries = 0
    with pytest.raises(bpf2py.MapCreateError, match="max_entries must not be 0"):
        bpf2py.load(spec, backend)
