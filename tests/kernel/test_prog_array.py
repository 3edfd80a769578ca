from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapType, UpdateFlags

pytestmark = pytest.mark.kernel

SOURCE = """
int one(void *ctx), two(void *ctx);
struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, 5);
    __uint(key_size, 4);
    __array(values, int(void *));
} jumps SEC(".maps") = { .values = { [1] = (void *)&one, [3] = (void *)&two } };
int went, where;
SEC("raw_tp/sched_switch") int one(void *ctx) { went = 1; return 0; }
SEC("raw_tp/sched_switch") int two(void *ctx) { went = 2; return 0; }
SEC("raw_tp/sched_switch")
int use(void *ctx)
{
    went = -1;
    bpf_tail_call(ctx, &jumps, where);
    return 0;
}
"""


@pytest.fixture
def obj(build: Callable[[str], bpf2py.ObjectSpec]) -> Iterator[bpf2py.Object]:
    with bpf2py.load(build(SOURCE)) as loaded:
        yield loaded


def jump(obj: bpf2py.Object, where: int) -> int:
    obj.variables["where"].value = where
    obj.programs["use"].test_run()
    went: int = obj.variables["went"].value
    return went


def test_filled_by_the_object(obj: bpf2py.Object) -> None:
    jumps, programs = obj.maps["jumps"], obj.programs
    assert [jump(obj, where) for where in range(6)] == [-1, 1, -1, 2, -1, -1]
    assert dict(jumps.items()) == {1: programs["one"].info.id, 3: programs["two"].info.id}
    assert list(jumps) == [1, 3]
    assert (len(jumps), jumps.count(), bool(jumps)) == (2, 2, True)


def test_changed_from_python(obj: bpf2py.Object, refused: Callable[..., Any]) -> None:
    jumps, programs = obj.maps["jumps"], obj.programs
    jumps[0] = programs["two"]
    jumps[2] = programs["one"].fileno()
    del jumps[1]
    assert [jump(obj, where) for where in range(5)] == [2, -1, 1, 2, -1]
    assert 1 not in jumps
    assert (jumps.get(1), jumps.get(0)) == (None, programs["two"].info.id)
    with refused(bpf2py.KeyNotFound, errno.ENOENT, "map jumps: lookup: nothing is stored at index 1"):
        jumps[1]
    with refused(bpf2py.KeyNotFound, errno.ENOENT, "map jumps: delete: nothing is stored at index 1"):
        del jumps[1]
    jumps.clear()
    assert dict(jumps.items()) == {}
    assert jump(obj, 3) == -1


def test_what_is_refused(obj: bpf2py.Object, refused: Callable[..., Any]) -> None:
    jumps, one = obj.maps["jumps"], obj.programs["one"]
    with refused(bpf2py.IndexOutOfRange, errno.E2BIG, "map jumps: update: index 5 >= max_entries 5"):
        jumps[5] = one
    with refused(bpf2py.EncodeError, None, "map jumps: update", "'one' is not a descriptor and has none"):
        jumps[0] = "one"
    with refused(bpf2py.EncodeError, None, "map jumps: update: key: -1"):
        jumps[-1] = one
    with pytest.raises(bpf2py.BpfError, match="map jumps: update: "):
        jumps[0] = 999_999
    with pytest.raises(bpf2py.BpfError, match="map jumps: update: "):
        jumps[0] = jumps  # a map is not a program
    with refused(bpf2py.BpfOSError, errno.EINVAL, "map jumps: update: flags 0x1 are not allowed for PROG_ARRAY"):
        jumps.put(0, one, UpdateFlags.NOEXIST)
    one.close()
    with refused(bpf2py.ClosedError, None, "program one: the program is closed"):
        jumps[0] = one


def test_created_by_hand(obj: bpf2py.Object) -> None:
    with Map.create(MapType.PROG_ARRAY, max_entries=3) as made:
        made[2] = obj.programs["one"]
        assert made.snapshot() == {2: obj.programs["one"].info.id}
        assert (made.key_size, made.value_size) == (4, 4)
