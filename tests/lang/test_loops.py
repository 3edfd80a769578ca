"""Loops whose bounds are not known: counted by the kernel's iterator, or, where it has none, called by bpf_loop()."""

from __future__ import annotations

from pathlib import Path

import pytest

import bpf2py
from bpf2py.lang.kernel_types import KernelTypes
from bpf2py.lang.translate import to_c

TEXT = """from bpf2py.lang import *

n: s32 = 0
m: u32 = 0
out = Array[u32, s64](max_entries=4)


def find(limit: u32) -> s32:
    for i in range(limit):
        if i * i > 50:
            return s32(i)
    return -1


@syscall
def f(ctx: Context) -> int:
    total: s64 = 0
    for i in range(n):
        if i == 3:
            continue
        if i > 9:
            break
        total += i
    out[0] = total
    total = 0
    for down in range(m, 2, -3):
        total = total * 5 + down
        for j in range(down):
            total += j
    out[1] = total
    total = 0
    for k in range(n, 40, 7):
        total = total * 3 + k
    out[2] = total
    last: u32 = 0
    for z in range(m):
        last = z
    out[3] = last
    return find(m)
"""


def computed(n: int, m: int) -> tuple[list[int], int]:
    """What CPython makes of the program."""
    first = sum(i for i in range(min(n, 10)) if i != 3)
    second = third = last = 0
    for down in range(m, 2, -3):
        second = second * 5 + down
        for j in range(down):
            second += j
    for k in range(n, 40, 7):
        third = third * 3 + k
    for z in range(m):
        last = z
    found = next((i for i in range(m) if i * i > 50), -1)
    return [first, second, third, last], found & 0xFFFFFFFF


@pytest.mark.kernel
@pytest.mark.parametrize("backend", ["engine", "kernel"])
@pytest.mark.parametrize("iterators", [True, False])
def test_rounds_are_pythons(iterators: bool, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KernelTypes, "counts", iterators)
    monkeypatch.setattr("bpf2py.lang.translate._types", None)
    assert ("bpf_loop(" in to_c(TEXT, "loops.py")) == (not iterators)
    path = tmp_path / "loops.py"
    path.write_text(TEXT)
    with bpf2py.load(bpf2py.compile(path, cache=False), backend) as obj:
        for n, m in ((0, 0), (5, 4), (20, 9), (-3, 1), (41, 12), (39, 30)):
            obj.variables["n"].value, obj.variables["m"].value = n, m
            result = obj.programs["f"].test_run().return_value
            assert ([obj.maps["out"][i] for i in range(4)], result) == computed(n, m)
