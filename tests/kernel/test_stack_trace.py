from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapFlags, MapType

pytestmark = pytest.mark.kernel

SOURCE = """
struct {
    __uint(type, BPF_MAP_TYPE_STACK_TRACE);
    __uint(max_entries, 64);
    __uint(key_size, 4);
    __uint(value_size, 127 * 8);
} stacks SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_STACK_TRACE);
    __uint(max_entries, 64);
    __uint(key_size, 4);
    __uint(value_size, 32 * 10);
    __uint(map_flags, BPF_F_STACK_BUILD_ID);
} build_ids SEC(".maps");
long kernel_stack = -1, user_stack = -1;
__u32 pid;
SEC("raw_tp/sys_enter")
int use(void *ctx)
{
    if (bpf_get_current_pid_tgid() >> 32 != pid)
        return 0;
    if (kernel_stack < 0)
        kernel_stack = bpf_get_stackid(ctx, &stacks, 0);
    if (user_stack < 0)
        user_stack = bpf_get_stackid(ctx, &build_ids, BPF_F_USER_STACK);
    return 0;
}
"""


@pytest.fixture
def obj(build: Callable[[str], bpf2py.ObjectSpec], tracefs: object) -> Any:
    spec = build(SOURCE)
    spec.variables["pid"].value = os.getpid()
    with bpf2py.load(spec) as loaded:
        loaded.attach()
        os.getppid()
        yield loaded


def test_stacks_programs_stored(obj: bpf2py.Object) -> None:
    stacks = obj.maps["stacks"]
    number = obj.variables["kernel_stack"].value
    assert number >= 0
    frames = stacks[number]
    assert frames
    assert all(frame > 1 << 63 for frame in frames), [hex(frame) for frame in frames]
    assert dict(stacks.items()) == {number: frames}
    assert number in stacks
    assert stacks.count() == 1


def test_stacks_as_build_ids(obj: bpf2py.Object) -> None:
    frames = obj.maps["build_ids"][obj.variables["user_stack"].value]
    assert frames
    first = frames[0]
    assert first.offset > 0
    assert first.build_id == "" or len(first.build_id) == 40


def test_deleting(obj: bpf2py.Object, refused: Callable[..., Any]) -> None:
    stacks, number = obj.maps["stacks"], obj.variables["kernel_stack"].value
    del stacks[number]
    with refused(bpf2py.KeyNotFound, errno.ENOENT, f"map stacks: lookup: no key {number}"):
        stacks[number]
    with refused(bpf2py.KeyNotFound, errno.ENOENT, f"map stacks: delete: no key {number}"):
        del stacks[number]
    obj.variables["kernel_stack"].value = -1
    os.getppid()
    assert stacks.count() == 1
    stacks.clear()
    assert stacks.count() == 0


def test_only_programs_store(obj: bpf2py.Object) -> None:
    with pytest.raises(bpf2py.BpfError, match="map stacks: update"):
        obj.maps["stacks"][1] = bytes(127 * 8)


@pytest.mark.parametrize(("flags", "size"), [(MapFlags(0), 8), (MapFlags.STACK_BUILD_ID, 32)])
def test_created_by_hand(flags: MapFlags, size: int) -> None:
    with Map.create(MapType.STACK_TRACE, 4, 10 * size, 16, flags, name="stacks") as made:
        assert dict(made.items()) == {}
        assert made.get(1) is None
