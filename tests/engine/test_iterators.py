"""Iterator programs: what they write for the engine's objects, and for a map's elements what the kernel's write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py import MapType
from bpf2py.engine import Engine, Task
from bpf2py.uapi.cpus import possible_cpus

SOURCE = """#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __uint(map_flags, 64); __type(key, u32); __type(value, u64); }
    hash SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 3); __type(key, u32); __type(value, u64); } array SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 2); __type(key, u32); __type(value, u64); }
    per_cpu SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 2); __type(value, u64); } queue SEC(".maps");

SEC("iter/bpf_map_elem")
int elements(struct bpf_iter__bpf_map_elem *ctx)
{
    u32 *key = ctx->key;
    u64 *value = ctx->value;

    if (!key || !value) {
        BPF_SEQ_PRINTF(ctx->meta->seq, "last %llu\\n", ctx->meta->seq_num);
        return 0;
    }
    BPF_SEQ_PRINTF(ctx->meta->seq, "%u: %llu\\n", *key, *value);
    *value += 1;
    return 0;
}

SEC("iter/task")
int tasks(struct bpf_iter__task *ctx)
{
    struct task_struct *task = ctx->task;

    if (task)
        BPF_SEQ_PRINTF(ctx->meta->seq, "%d %s\\n", task->pid, task->comm);
    return 0;
}

SEC("iter/bpf_map")
int maps(struct bpf_iter__bpf_map *ctx)
{
    struct bpf_map *map = ctx->map;

    if (map)
        BPF_SEQ_PRINTF(ctx->meta->seq, "%s %u\\n", map->name, map->max_entries);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""
Build = Callable[[str], bytes]


def read(obj: bpf2py.Object, name: str, **options: Any) -> str:
    with obj.programs[name].attach(**options) as link, link.open() as file:
        return file.read().decode()


def elements(obj: bpf2py.Object, name: str) -> tuple[str, list[Any]]:
    table = obj.maps[name]
    text = read(obj, "elements", map=table)
    return text, list(map(str, table.items() if name == "hash" else table))


def filled(data: bytes, backend: Any) -> bpf2py.Object:
    obj = bpf2py.load(data, backend=backend)
    obj.maps["hash"].update({5: 50, 6: 60, 7: 70})
    obj.maps["array"][1] = 10
    return obj


@pytest.mark.parametrize("translator", ["native", "python"])
def test_of_the_engines_objects(compile_bpf: Build, translator: str) -> None:
    engine = Engine(task=Task(42, comm="make"), translator=translator)
    with filled(compile_bpf(SOURCE), engine) as obj:
        assert read(obj, "tasks") == "42 make\n"
        assert read(obj, "tasks", pid=41) == ""
        assert read(obj, "maps").splitlines()[:4] == ["hash 8", "array 3", "per_cpu 2", "queue 2"]
        assert elements(obj, "array") == ("0: 0\n1: 10\n2: 0\nlast 2\n", ["1", "11", "1"])
        assert obj.programs["tasks"].run(task={"pid": 7, "comm": "cc"}).data == b"7 cc\n"


@pytest.mark.kernel
@pytest.mark.usefixtures("element_iterators")
@pytest.mark.parametrize("name", ["hash", "array", "per_cpu"])
def test_elements_as_in_the_kernel(compile_bpf: Build, name: str) -> None:
    data = compile_bpf(SOURCE)
    with filled(data, "kernel") as left, filled(data, Engine(possible_cpus=possible_cpus())) as right:
        assert elements(left, name) == elements(right, name)


def test_what_cannot_be_iterated(compile_bpf: Build) -> None:
    with filled(compile_bpf(SOURCE), Engine()) as obj:
        with pytest.raises(
            bpf2py.AttachError, match=r"elements: attach: SEC\(\"iter/bpf_map_elem\"\) needs attach\(map"
        ):
            obj.programs["elements"].attach()
        with pytest.raises(bpf2py.AttachError, match="elements of a QUEUE map cannot be iterated"):
            obj.programs["elements"].attach(map=obj.maps["queue"])
        with bpf2py.Map.create(MapType.HASH, key="u32", value="u64", max_entries=2, backend=obj.backend) as other:
            assert read(obj, "elements", map=other) == "last 0\n"
