"""Loading and closing, ten thousand times: no descriptor and no memory stays behind."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

import bpf2py
from bpf2py.errors import BpfError

CYCLES = 10_000 if os.environ.get("BPF2PY_EMULATED") != "1" else 300
MEGABYTES, QUARTERS = 4, 4

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct key { __u32 id; char name[4]; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, struct key); __type(value, __u64); } m SEC(".maps");
int counter = 1;
SEC("socket") int count(void *ctx) {
    struct key key = {};
    __u64 *value = bpf_map_lookup_elem(&m, &key);
    if (value) *value += counter++;
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""
REFUSED = SOURCE.replace("if (value) ", "")  # a null pointer is followed: the verifier says no


def resident_kilobytes() -> int:
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1])


def check(cycle: Callable[[], None], cycles: int) -> None:
    for _ in range(cycles // 10):  # caches and the allocator's arenas reach their size
        cycle()
    gc.collect()
    descriptors, memory = len(os.listdir("/proc/self/fd")), [resident_kilobytes()]
    for _ in range(QUARTERS):
        for _ in range(cycles // QUARTERS):
            cycle()
        gc.collect()
        memory.append(resident_kilobytes())
    assert len(os.listdir("/proc/self/fd")) <= descriptors  # fewer: what an earlier test left was collected
    # What leaks grows in each quarter; the allocator of a process that has run thousands of tests grows now and then.
    growth = [after - before for before, after in pairwise(memory)]
    assert min(growth) * QUARTERS < MEGABYTES * 1024, growth


@pytest.mark.kernel
def test_load_and_close(compile_bpf: Callable[[str], bytes]) -> None:
    data = compile_bpf(SOURCE)

    def cycle() -> None:
        with bpf2py.load(data) as obj:
            obj.maps["m"][{"id": 1, "name": "a"}] = obj.variables["counter"].value

    check(cycle, CYCLES)


@pytest.mark.kernel
def test_load_of_a_program_the_verifier_refuses(compile_bpf: Callable[[str], bytes]) -> None:
    data = compile_bpf(REFUSED)

    def cycle() -> None:
        with pytest.raises(BpfError):
            bpf2py.load(data)

    check(cycle, CYCLES // 10)


def test_specs(compile_bpf: Callable[[str], bytes]) -> None:
    data = compile_bpf(SOURCE)

    def cycle() -> None:
        spec = bpf2py.ObjectSpec.from_bytes(data).copy()
        assert spec.variables["counter"].value == 1

    check(cycle, CYCLES // 5)
