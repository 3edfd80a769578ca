from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py import Map

pytestmark = pytest.mark.kernel

SOURCE = """
struct { __uint(type, BPF_MAP_TYPE_CGROUP_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u32); }
    groups SEC(".maps");
int within;
SEC("raw_tp/sched_switch")
int use(void *ctx)
{
    within = bpf_current_task_under_cgroup(&groups, 1);
    return 0;
}
"""


@pytest.fixture
def cgroup() -> str:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return place
    raise AssertionError("no cgroup2 is mounted")


def test_cgroups_by_path_and_descriptor(
    cgroup: str, build: Callable[[str], bpf2py.ObjectSpec], assert_no_leaks: Callable[[], Any]
) -> None:
    with assert_no_leaks(), bpf2py.load(build(SOURCE)) as obj:
        groups, use = obj.maps["groups"], obj.programs["use"]
        within = obj.variables["within"]
        use.test_run()
        assert within.value == -errno.EAGAIN  # nothing is stored yet
        groups[1] = cgroup
        use.test_run()
        assert within.value == 1  # all processes are in the root
        del groups[1]
        fd = os.open(cgroup, os.O_RDONLY)
        groups[1] = fd
        os.close(fd)
        use.test_run()
        assert within.value == 1


def test_what_is_refused(cgroup: str, refused: Callable[..., Any]) -> None:
    with Map.create("CGROUP_ARRAY", max_entries=2, name="groups") as groups:
        groups[0] = cgroup
        with refused(bpf2py.IndexOutOfRange, errno.E2BIG, "map groups: update: index 2 >= max_entries 2"):
            groups[2] = cgroup
        with pytest.raises(
            bpf2py.BpfError, match="map groups: update: the value is not an open descriptor of a cgroup"
        ):
            groups[1] = "/tmp"
        with pytest.raises(FileNotFoundError):
            groups[1] = "/nowhere"
        with refused(bpf2py.NotSupported, 524, "CGROUP_ARRAY does not support BPF_MAP_LOOKUP_ELEM"):
            groups[0]
        with refused(bpf2py.NotSupported, 524, "CGROUP_ARRAY does not support BPF_MAP_LOOKUP_ELEM"):
            list(groups)
