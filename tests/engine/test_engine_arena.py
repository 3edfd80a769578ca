"""Pages and pointers of arenas, as the kernel gives them."""

from __future__ import annotations

import ctypes
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine

PAGE = 4096
HEAD = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#define __arena __attribute__((address_space(1)))
void __arena *bpf_arena_alloc_pages(void *map, void __arena *addr, __u32 page_cnt, int node_id, __u64 flags) __ksym __weak;
void bpf_arena_free_pages(void *map, void __arena *ptr, __u32 page_cnt) __ksym __weak;
int bpf_arena_reserve_pages(void *map, void __arena *ptr, __u32 page_cnt) __ksym __weak;
struct { __uint(type, BPF_MAP_TYPE_ARENA); __uint(map_flags, BPF_F_MMAPABLE%s); __uint(max_entries, 16); } arena SEC(".maps");
char LICENSE[] SEC("license") = "GPL";
"""
PAGES = """
__u32 what, count;
__u64 pointer, flags, result;
SEC("syscall") int act(void *ctx)
{
    if (what == 0)
        result = (__u64)bpf_arena_alloc_pages(&arena, (void __arena *)pointer, count, -1, flags);
    else if (what == 1)
        bpf_arena_free_pages(&arena, (void __arena *)pointer, count);
    else
        result = bpf_arena_reserve_pages(&arena, (void __arena *)pointer, count);
    return 0;
}
"""
LIST = """
struct item { __u64 value; struct item __arena *next; };
struct item __arena *head;
__u64 sum, found;
static struct item __arena *place;
static __noinline int push(__u64 value)
{
    struct item __arena *node = place++;

    if (!node)
        return -1;
    node->value = value;
    node->next = head;
    head = node;
    return 0;
}
SEC("syscall") int build(void *ctx)
{
    int i, left = 200;

    place = bpf_arena_alloc_pages(&arena, 0, 2, -1, 0);
    if (!place)
        return 1;
    for (i = 0; i < 100 && left-- > 0; i++)
        push(i * i);
    return 0;
}
SEC("syscall") int walk(void *ctx)
{
    struct item __arena *node;
    int left = 200;

    asm volatile("" :: "r"(&arena)); /* a program knows its arena by the map */
    sum = found = 0;
    for (node = head; node && left-- > 0; node = node->next) {
        sum += node->value;
        found++;
        __sync_fetch_and_add(&node->value, 1);
    }
    return 0;
}
"""


class Both:
    """The same program on the kernel and the engine."""

    def __init__(self, objects: list[bpf2py.Object]) -> None:
        self.objects = objects

    def act(self, what: int, page: int, count: int, flags: int = 0, odd: int = 0) -> list[int]:
        """The results, pointers as bytes from the arena's beginning plus 1; a page below 0 asks for no place."""
        results = []
        for obj in self.objects:
            start = obj.maps["arena"].address
            given = 0 if page < 0 else start + page * PAGE + odd
            for name, value in (("what", what), ("pointer", given), ("count", count), ("flags", flags), ("result", 0)):
                obj.variables[name].value = value
            assert obj.programs["act"].test_run().return_value == 0
            result = obj.variables["result"].value
            results.append(result - start + 1 if what == 0 and result else result)
        return results


@pytest.mark.kernel
@pytest.mark.since("6.17")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("translator", ["native", "python"])
def test_pages_are_given_as_on_the_kernel(compile_bpf: Callable[[str], bytes], seed: int, translator: str) -> None:
    data = compile_bpf(HEAD % "" + PAGES)
    with bpf2py.load(data, "kernel") as kernel, bpf2py.load(data, Engine(translator=translator)) as engine:
        both = Both([kernel, engine])
        rng = random.Random(seed)
        for obj in both.objects:  # a page user space uses is not given to programs
            obj.maps["arena"].memory[5 * PAGE] = 1
        allocated = 0
        for step in range(150):
            what = rng.choice((0, 0, 0, 1, 1, 2)) if step % 20 else 0
            count = rng.choice((0, 1, 1, 1, 2, 2, 3, 5, 16, 17, (1 << 32) - 1))
            page = rng.choice((-1, -1, *range(18))) if what == 0 else rng.randrange(-1, 18)
            odd, flags = rng.choice((0, 0, 0, 0, 1, 4095)), rng.choice((0, 0, 0, 0, 0, 1))
            kernel_says, engine_says = both.act(what, page, count, flags, odd)
            assert kernel_says == engine_says, (step, what, page, count, flags, odd)
            allocated += what == 0 and kernel_says > 0
        assert allocated > 10


@pytest.mark.parametrize(
    ("backend", "flags"),
    [
        pytest.param("kernel", "", marks=[pytest.mark.kernel, pytest.mark.since("6.9")]),
        ("native", ""),
        ("python", ""),
        pytest.param("kernel", " | (1 << 18)", marks=[pytest.mark.kernel, pytest.mark.since("6.9")]),
        ("native", " | (1 << 18)"),
        ("python", " | (1 << 18)"),
    ],
)
def test_a_list_in_an_arena(compile_bpf: Callable[[str], bytes], backend: str, flags: str) -> None:
    data = compile_bpf(HEAD % flags + LIST)
    used: Any = "kernel" if backend == "kernel" else Engine(translator=backend)
    with bpf2py.load(data, used) as obj:
        assert obj.programs["build"].test_run().return_value == 0
        expected = sum(i * i for i in range(100))
        for turn in range(3):
            obj.programs["walk"].test_run()
            assert (obj.variables["found"].value, obj.variables["sum"].value) == (100, expected + 100 * turn)
        arena: Any = obj.maps["arena"]
        pointer, values = obj.variables["head"].value, []
        while pointer:
            value, following = struct.unpack_from("<QQ", arena.memory, arena.offset(pointer))
            assert ctypes.c_uint64.from_address(pointer).value == value
            values.append(value - 3)
            # With BPF_F_NO_USER_CONV the upper half is whatever the program had.
            pointer = following & 0xFFFFFFFF | arena.address >> 32 << 32 if flags and following else following
        assert values == [i * i for i in reversed(range(100))]
        with pytest.raises(bpf2py.EncodeError, match="does not point into the arena"):
            arena.offset(arena.address + arena.size)


def test_arenas_come_and_go(compile_bpf: Callable[[str], bytes]) -> None:
    data = compile_bpf(HEAD % "" + LIST)
    engine = Engine()
    places = set()
    for _ in range(50):
        with bpf2py.load(data, engine) as obj:
            assert obj.programs["build"].test_run().return_value == 0
            places.add(obj.maps["arena"].address)
            assert bytes(obj.maps["arena"].memory[2 * PAGE :]) == bytes(14 * PAGE)
    assert len(places) < 5


@pytest.mark.parametrize("backend", ["engine", pytest.param("kernel", marks=pytest.mark.kernel)])
def test_a_cast_needs_an_arena(compile_bpf: Callable[[str], bytes], backend: str) -> None:
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("syscall") int act(void *ctx)
{
    long value = 5;
    asm volatile(".byte 0xBF; .byte %[r] << 4 | %[r]; .short 1; .long 1" :: [r] "i"(0));
    return value;
}
char LICENSE[] SEC("license") = "GPL";
"""
    with pytest.raises(bpf2py.VerifierError, match=r"!read_ok|associated arena"):
        bpf2py.load(compile_bpf(source), backend)
