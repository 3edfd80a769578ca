from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapFlags, MapType

pytestmark = pytest.mark.kernel

KINDS = [MapType.QUEUE, MapType.STACK]
SOURCE = """
struct my_job { __u32 number; char what[4]; };
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 4); __type(value, struct my_job); } jobs SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_STACK); __uint(max_entries, 4); __type(value, __u64); } undo SEC(".maps");
int result;
SEC("raw_tp/sched_switch")
int use(void *ctx)
{
    struct my_job job = { 5, "now" };
    __u64 value;
    bpf_map_push_elem(&jobs, &job, BPF_ANY);
    result = bpf_map_pop_elem(&undo, &value) ?: value;
    return 0;
}
"""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_push_pop_peek(kind: MapType, refused: Callable[..., Any]) -> None:
    with Map.create(kind, value="u32", max_entries=3, name="made") as made:

        def ordered(values: list[int]) -> list[int]:
            return values if kind == MapType.QUEUE else values[::-1]

        assert not made
        made.push(1)
        made.extend([2, 3])
        assert bool(made)
        assert made.peek() == made.peek() == ordered([1, 2, 3])[0]
        with refused(bpf2py.MapFull, errno.E2BIG, "map made: update: map is full (max_entries=3)"):
            made.push(4)
        with refused(bpf2py.MapFull, errno.E2BIG):
            made.extend([5, 6])
        made.push(4, replace=True)
        assert [made.pop(), made.pop(), made.pop()] == ordered([2, 3, 4])
        for operation, word in ((made.pop, "pop"), (made.peek, "lookup")):
            with refused(bpf2py.QueueEmpty, errno.ENOENT, f"map made: {word}: the {kind.name} is empty"):
                operation()
            assert operation(None) is None
        made.extend([7, 8])
        assert list(made.drain()) == ordered([7, 8])
        made.extend([7, 8])
        made.clear()
        assert not made


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_cannot_be_done(kind: MapType, refused: Callable[..., Any]) -> None:
    with Map.create(kind, value="u32", max_entries=3, name="made") as made:
        with refused(bpf2py.NotSupported, None, f"map made: a {kind.name} cannot be read without removing"):
            list(made)
        with refused(bpf2py.EncodeError, None, "map made: update: value: -1 does not fit u32"):
            made.push(-1)
        with pytest.raises(IndexError):
            made.pop()
        made.close()
        for operation in (lambda: made.push(1), made.pop, made.peek, lambda: list(made.drain()), made.clear):
            with refused(bpf2py.ClosedError, None, "map made: the map is closed"):
                operation()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("value_size", [1, 3, 8, 65536])
def test_values_of_every_size(kind: MapType, value_size: int) -> None:
    with Map.create(kind, 0, value_size, 5) as made:
        made.extend(bytes([number]) * value_size for number in range(5))
        assert sorted(made.drain()) == [bytes([number]) * value_size for number in range(5)]


@pytest.mark.parametrize("flag", ["RDONLY", "WRONLY"])
def test_one_way_queues(flag: str, refused: Callable[..., Any]) -> None:
    with Map.create("QUEUE", value="u32", max_entries=3, flags=MapFlags[flag], name="made") as made:
        wrong = [lambda: made.push(1)] if flag == "RDONLY" else [made.peek]
        for operation in (*wrong, made.pop):
            with refused(bpf2py.PermissionDenied, errno.EPERM, f"(BPF_F_{flag})"):
                operation()


def test_with_programs(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    with bpf2py.load(build(SOURCE)) as obj:
        jobs, undo = obj.maps["jobs"], obj.maps["undo"]
        jobs.push({"number": 1, "what": "then"})
        undo.extend([1, 2])
        obj.programs["use"].test_run()
        assert [(job.number, job.what) for job in jobs.drain()] == [(1, "then"), (5, "now")]
        assert obj.variables["result"].value == 2
        assert list(undo.drain()) == [1]
