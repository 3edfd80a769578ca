"""LRU maps of other kernels: predictions hold there, evictions and uses are counted where the kernel does them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest

import bpf2py
from bpf2py import Map
from bpf2py.engine import Engine
from bpf2py.lab.lru import Setup, hits, survivors
from bpf2py.lab.watch import PROGRAMS
from bpf2py.testing import Guest

CPUS = 2  # of the guest
WATCHING, REPLAYING = "/root/lru.o", "/root/replay.o"


@pytest.fixture(scope="module")
def lab(guest: Guest) -> Callable[..., object]:
    """Calls functions of lru_in_guest.py in the guest, which has the programs."""
    guest.write("/opt/bpf2py/lru_in_guest.py", (Path(__file__).parent / "lru_in_guest.py").read_bytes())
    guest.write(WATCHING, bpf2py.compile(PROGRAMS))
    guest.write(REPLAYING, bpf2py.compile(Path(__file__).parent / "replay.bpf.c"))
    return lambda function, **arguments: guest.call(f"lru_in_guest:{function}", **arguments)


def test_survivors_are_that_kernels(guest: Guest, lab: Callable[..., object]) -> None:
    """Key for key, in two hundred random set-ups."""
    rng = random.Random(guest.kernel.name)
    kernel = guest.release.split("+")[0].split("-")[0]
    tried = []
    for _ in range(200):
        entries = rng.choice((1, 2, 7, 10, 100, 128, 257, 500, rng.randrange(1, 700)))
        inserted = rng.choice((entries, entries + 1, rng.randrange(1, 2 * entries + 2)))
        turns = [rng.randrange(CPUS) for _ in range(rng.randrange(1, 4))]
        tried.append((entries, rng.random() < 0.3, rng.random() < 0.3, inserted, turns))
    real = cast("list[list[list[int]]]", lab("kept", setups=tried))
    for (entries, no_common, per_cpu, inserted, turns), found in zip(tried, real, strict=True):
        setup = Setup(entries, CPUS, kernel, no_common, per_cpu)
        assert survivors(setup, inserted, turns) == found, (setup, inserted, turns)


@pytest.mark.parametrize("entries", [16, 100, 300])
def test_a_trace_hits_as_on_that_kernel(guest: Guest, lab: Callable[..., object], entries: int) -> None:
    rng = np.random.default_rng(entries)
    keys = (rng.zipf(1.3, 2000) % 900).astype(np.uint64)
    cpus = np.repeat(rng.integers(0, CPUS, 20), 100).astype(np.uint16)
    arguments = {"source": REPLAYING, "entries": entries, "keys": keys.tolist(), "cpus": cpus.tolist()}
    real = cast("dict[str, object]", lab("replayed", **arguments))
    kernel = guest.release.split("+")[0].split("-")[0]
    assert hits(Setup(entries, CPUS, kernel), keys, cpus).hits == real["hits"]
    with Map.create("LRU_HASH", 8, 8, entries, backend=Engine(kernel, CPUS)) as lru:
        cast("Engine", lru._handle.core.engine).replay(lru._handle, keys.tobytes(), cpus.tobytes())  # type: ignore[attr-defined]
        assert sorted(int.from_bytes(key, "little") for key in lru) == real["kept"]


@pytest.mark.parametrize("per_cpu", [False, True])
def test_evictions_are_counted_where_the_kernel_evicts(lab: Callable[..., object], guest: Guest, per_cpu: bool) -> None:
    found = cast("dict[str, object]", lab("evictions", source=WATCHING, per_cpu=per_cpu))
    real = cast("int", found["real"])
    assert found["said"] == [real, "exactly", 1000 - real]
    assert found["after deleting"] == 0  # what a process deletes is not evicted


def test_uses_come_in_their_order_with_their_cpu(lab: Callable[..., object], guest: Guest) -> None:
    rng = random.Random(1)
    keys = [rng.choice((rng.randrange(1 << 63), rng.randrange(50))) for _ in range(300)]
    cpus = [rng.randrange(CPUS) for _ in keys]
    found = cast("dict[str, object]", lab("uses", source=WATCHING, program=REPLAYING, keys=keys, cpus=cpus))
    assert found == {"seen": [list(pair) for pair in zip(keys, cpus, strict=True)], "lost": 0}


def test_keys_of_more_than_8_bytes_are_told_apart(lab: Callable[..., object], guest: Guest) -> None:
    assert lab("long_keys", source=WATCHING) == 50


def test_maps_that_do_not_evict(lab: Callable[..., object], guest: Guest) -> None:
    said = cast("list[str]", lab("refused", source=WATCHING))
    assert len(said) == 2
    assert all("it is not an LRU_HASH" in text for text in said)
