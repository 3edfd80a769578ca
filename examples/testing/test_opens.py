"""Unit tests of an eBPF program: no root, no kernel, a few milliseconds each. Run them with ``pytest examples/testing``."""

from __future__ import annotations

import pytest

from bpf2py.engine import Task
from bpf2py.testing.plugin import Bpf2py

OPENAT = "tracepoint/syscalls/sys_enter_openat"


def test_opens_are_counted(bpf2py: Bpf2py) -> None:
    obj = bpf2py.load("opens.bpf.c")
    bpf2py.fire(OPENAT, filename="/etc/passwd")
    bpf2py.fire(OPENAT, filename="/etc/group")
    assert obj.maps["opens"][1000].count == 2
    assert obj.maps["opens"][1000].newest == "/etc/group"


def test_processes_are_told_apart(bpf2py: Bpf2py) -> None:
    obj = bpf2py.load("opens.bpf.c")
    for pid in (1, 2, 2):
        bpf2py.task = Task(pid)
        bpf2py.fire(OPENAT, filename="/dev/null")
    assert {pid: opens.count for pid, opens in obj.maps["opens"].items()} == {1: 1, 2: 2}


def test_a_full_map_is_survived(bpf2py: Bpf2py) -> None:
    obj = bpf2py.load("opens.bpf.c")
    for pid in range(1030):
        bpf2py.task = Task(pid)
        bpf2py.fire(OPENAT, filename="/dev/null")
    assert len(obj.maps["opens"]) == 1024


@pytest.mark.bpf2py(possible_cpus=1, kernel="6.1")
def test_long_names_are_cut(bpf2py: Bpf2py) -> None:
    obj = bpf2py.load("opens.bpf.c")
    bpf2py.fire(OPENAT, filename="/a" * 100)
    assert obj.maps["opens"][1000].newest == "/a" * 15 + "/"
