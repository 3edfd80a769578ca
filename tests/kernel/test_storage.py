from __future__ import annotations

import errno
import os
import platform
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapFlags, MapType, UpdateFlags

pytestmark = pytest.mark.kernel

RELEASE = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
KINDS = ["SK", "INODE", "TASK", *(["CGRP"] if RELEASE >= (6, 2) else [])]
SOURCE = '#include "vmlinux.h"\nstruct my_note { __u64 seen; char who[8]; };' + "".join(
    f"""
    struct {{
        __uint(type, BPF_MAP_TYPE_{kind}_STORAGE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __type(key, int);
        __type(value, struct my_note);
    }} {kind.lower()} SEC(".maps");
    """
    for kind in KINDS
)


def cgroup2() -> str | None:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return place
    return None


@pytest.fixture
def obj(build: Callable[[str], bpf2py.ObjectSpec]) -> Iterator[bpf2py.Object]:
    with bpf2py.load(build(SOURCE)) as loaded:
        yield loaded


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, obj: bpf2py.Object, tmp_path: Path) -> Iterator[tuple[Any, Any, Any]]:
    """(map, an owner, the same owner named in another way)."""
    made = obj.maps[request.param.lower()]
    if request.param == "SK":
        with socket.socket() as owner:
            yield made, owner, owner.fileno()
    elif request.param == "INODE":
        path = tmp_path / "owner"
        path.write_text("")
        with path.open() as file:
            yield made, path, file
    elif request.param == "TASK":
        fd = os.pidfd_open(os.getpid())
        with os.fdopen(fd, "rb") as file:
            yield made, os.getpid(), file
    else:
        place = cgroup2()
        assert place is not None, "no cgroup2 is mounted"
        fd = os.open(place, os.O_RDONLY)
        yield made, place, fd
        os.close(fd)


def test_a_value_for_each_owner(case: tuple[Any, Any, Any], refused: Callable[..., Any]) -> None:
    made, owner, same = case
    assert owner not in made
    assert made.get(owner) is None
    assert made.get(owner, 5) == 5
    with refused(bpf2py.KeyNotFound, errno.ENOENT, f"map {made.name}: lookup: "):
        made[owner]
    made[owner] = {"seen": 1, "who": "me"}
    assert (made[same].seen, made[same].who) == (1, "me")
    assert same in made
    made[same] = (2, "you")
    assert made.get(owner).seen == 2
    with refused(bpf2py.KeyExists, errno.EEXIST, f"map {made.name}: update: "):
        made.put(owner, (3, ""), UpdateFlags.NOEXIST)
    made.put(owner, (4, ""), UpdateFlags.EXIST)
    del made[owner]
    assert same not in made
    with refused(bpf2py.KeyNotFound, errno.ENOENT, f"map {made.name}: delete: "):
        del made[same]
    with refused(bpf2py.KeyNotFound, errno.ENOENT, f"map {made.name}: update: "):
        made.put(owner, (4, ""), UpdateFlags.EXIST)


def test_what_cannot_be_done(case: tuple[Any, Any, Any], refused: Callable[..., Any]) -> None:
    made, owner, _ = case
    with refused(bpf2py.NotSupported, None, f"map {made.name}: a ", "_STORAGE cannot be listed from user space"):
        list(made)
    with refused(bpf2py.EncodeError, None, f"map {made.name}: update: value.seen: "):
        made[owner] = {"seen": -1}
    with refused(bpf2py.EncodeError, None, "1.5 is not a descriptor and has none"):
        made[1.5]
    if made.name != "task":  # numbers are process ids there
        with refused(bpf2py.BpfOSError, errno.EBADF, f"map {made.name}: update: the key is not an open descriptor"):
            made[1 << 20] = (1, "")
    made.close()
    with refused(bpf2py.ClosedError, None, f"map {made.name}: the map is closed"):
        made[owner]


def test_owners_that_are_not_there(obj: bpf2py.Object, refused: Callable[..., Any]) -> None:
    with subprocess.Popen(["/bin/true"]) as gone:
        pass
    with refused(bpf2py.BpfOSError, errno.ESRCH, f"map task: there is no process {gone.pid}"):
        obj.maps["task"][gone.pid]
    with pytest.raises(FileNotFoundError):
        obj.maps["inode"]["/nowhere"]
    with refused(bpf2py.EncodeError, None, "map sk: '/tmp' is not an owner of SK_STORAGE"):
        obj.maps["sk"]["/tmp"]


def test_nothing_leaks(case: tuple[Any, Any, Any], assert_no_leaks: Callable[[], Any]) -> None:
    made, owner, _ = case
    with assert_no_leaks():
        made[owner] = (1, "")
        assert owner in made
        del made[owner]


def test_btf_is_needed(refused: Callable[..., Any]) -> None:
    with refused(bpf2py.MapCreateError, errno.EINVAL, "map owners: create: ", "SK_STORAGE needs BTF"):
        Map.create(MapType.SK_STORAGE, value_size=4, flags=MapFlags.NO_PREALLOC, name="owners")


def test_programs_see_it(build: Callable[[str], bpf2py.ObjectSpec], tracefs: Path) -> None:
    source = """
    struct {
        __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __type(key, int);
        __type(value, __u64);
    } calls SEC(".maps");
    SEC("tp_btf/sys_enter")
    int BPF_PROG(use, struct pt_regs *regs, long number)
    {
        __u64 *count = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, 0);
        if (count)
            (*count)++;
        return 0;
    }
    """
    with bpf2py.load(build('#include "vmlinux.h"\n#include <bpf/bpf_tracing.h>\n' + source)) as obj:
        calls = obj.maps["calls"]
        calls[os.getpid()] = 1000
        obj.attach()
        for _ in range(50):
            os.getppid()
        assert calls[os.getpid()] >= 1050
