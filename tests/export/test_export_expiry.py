"""Elements of processes and cgroups that went: removed, without a counter that goes on ever decreasing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.export.test_export_programs import config_of

from bpf2py.engine import Engine
from bpf2py.export.config import Source
from bpf2py.export.decoders import Decoders, Names
from bpf2py.export.expiry import Expiry
from bpf2py.export.exported import Exported
from bpf2py.export.names import Cgroups
from bpf2py.spec.object_spec import ObjectSpec

pytest.importorskip("yaml")

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct by_pid { __u32 pid, bucket; };
#define MAP(name, kind, k) \\
    struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, 1000); __type(key, k); __type(value, __u64); } name SEC(".maps")
MAP(by_pid, PERCPU_HASH, struct by_pid);
MAP(by_cgroup, LRU_HASH, __u64);
SEC("syscall") int nothing(void *ctx) { return 0; }
char LICENSE[] SEC("license") = "GPL";
"""
CONFIG = """
metrics:
  counters:
    - {name: by_cgroup, labels: [{name: cgroup, size: 8, decoders: [{name: uint}, {name: cgroup}]}]}
  histograms:
    - name: by_pid
      bucket_type: linear
      bucket_max: 9
      labels:
        - name: pid
          size: 4
          expires: process
          decoders: [{name: uint}, {name: static_map, static_map: {8: same, 9: same}, allow_unknown: true}]
        - {name: bucket, size: 4, decoders: [{name: uint}]}
"""


class World:
    """An exporter, and who is there."""

    def __init__(self, compile_bpf: Callable[[str], bytes], cgroups: Cgroups) -> None:
        self.now, self.processes = 0.0, {4_000_001, 8, 9}
        self.expiry = Expiry(10, cgroups, processes=lambda: self.processes, clock=lambda: self.now)
        self.exported = Exported(
            config_of(CONFIG), ObjectSpec.from_bytes(compile_bpf(SOURCE)), Engine(possible_cpus=2),
            decoders=Decoders(Names(cgroups)), expiry=self.expiry,
        )  # fmt: skip
        self.maps: Any = self.exported.obj.maps

    def source(self, name: str) -> Source:
        return next(source for source in self.exported.config.sources if source.map == name)

    def read(self, name: str) -> dict[tuple[str, ...], list[int]]:
        self.expiry.begin()
        return self.exported.read(self.source(name))


@pytest.fixture
def world(compile_bpf: Callable[[str], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(
        os.path, "exists", lambda path, real=os.path.exists: not str(path).startswith("/proc/") and real(path)
    )
    return World(compile_bpf, Cgroups(str(tmp_path)))


def test_an_element_stays_while_its_process_does_and_a_while_longer(world: World) -> None:
    key = {"pid": 4_000_001, "bucket": 1}
    world.maps["by_pid"][key] = [1, 2]
    assert world.read("by_pid") == {("4000001", "1"): [3]}
    world.processes.clear()
    assert world.read("by_pid") == {("4000001", "1"): [3]}
    world.now = 9
    world.maps["by_pid"][key] = [5, 5]
    assert world.read("by_pid") == {("4000001", "1"): [10]}
    world.now = 10
    assert world.read("by_pid") == {("4000001", "1"): [10]}  # told once more, and removed
    assert world.maps["by_pid"].count() == 0
    assert world.expiry.removed == 1
    assert world.read("by_pid") == {}
    assert world.expiry.carried == {"by_pid": {}}


def test_a_process_that_comes_again_meanwhile_keeps_its_element(world: World) -> None:
    world.maps["by_pid"][{"pid": 4_000_001, "bucket": 1}] = [1, 2]
    world.processes.clear()
    world.read("by_pid")
    world.now, world.processes = 9, {4_000_001}
    world.read("by_pid")
    world.now, world.processes = 18, set()
    world.read("by_pid")
    assert world.maps["by_pid"].count() == 1  # gone since 18, not since 0


def test_counts_of_the_same_labels_go_on(world: World) -> None:
    """Two processes with one label: what the one counted stays in the sum when it is gone, by bucket."""
    for pid, bucket, count in ((8, 1, 10), (8, 2, 20), (9, 1, 1)):
        world.maps["by_pid"][{"pid": pid, "bucket": bucket}] = [count, 0]
    before = world.read("by_pid")
    assert before == {("same", "1"): [11], ("same", "2"): [20]}
    world.processes = {9}
    world.read("by_pid")
    world.now = 10
    world.read("by_pid")
    assert world.maps["by_pid"].count() == 1
    assert world.read("by_pid") == before
    world.maps["by_pid"][{"pid": 9, "bucket": 1}] = [2, 0]
    assert world.read("by_pid") == {("same", "1"): [12], ("same", "2"): [20]}
    world.processes = set()
    world.read("by_pid")
    world.now = 20
    world.read("by_pid")
    assert world.read("by_pid") == {}  # all of them are gone: nothing is kept for ever


def test_cgroups_expire_by_their_label(world: World, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    ident = os.stat(tmp_path / "web").st_ino
    world.maps["by_cgroup"][ident] = 5
    labels = (str(tmp_path / "web"),)
    assert world.read("by_cgroup") == {labels: [5]}
    (tmp_path / "web").rmdir()
    assert world.read("by_cgroup") == {labels: [5]}
    world.now = 10
    assert world.read("by_cgroup") == {labels: [5]}
    assert world.read("by_cgroup") == {}


def test_many_short_lived_processes_stay_bounded(world: World) -> None:
    """Every second 50 new processes: the map never holds more than those of the last 10 seconds."""
    pid = 5_000_000
    for second in range(60):
        world.now = second
        world.processes = set(range(pid, pid + 50))
        for each in world.processes:
            world.maps["by_pid"][{"pid": each, "bucket": 0}] = [1, 0]
        pid += 50
        assert len(world.read("by_pid")) <= 600
    assert world.expiry.removed >= 60 * 50 - 600
    assert world.expiry.errors == 0
    assert sum(len(gone) for gone in world.expiry.gone.values()) <= 600
    assert len(world.expiry.carried["by_pid"]) <= 50
