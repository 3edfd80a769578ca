from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapFlags, MapType

pytestmark = [pytest.mark.kernel, pytest.mark.since("6.9")]


def arena(**options: Any) -> Any:
    return Map.create(MapType.ARENA, max_entries=4, flags=MapFlags.MMAPABLE, name="arena", **options)


def test_memory() -> None:
    np = pytest.importorskip("numpy")
    with arena() as made:
        assert made.size == len(made.memory) == 4 * mmap.PAGESIZE
        made.memory[4:8] = b"ping"
        assert bytes(made.memory[:9]) == b"\0\0\0\0ping\0"
        view = made.array("u4")
        assert view.shape == (mmap.PAGESIZE,)
        view[-1] = 0xAABBCCDD
        assert made.array(np.uint8, made.size - 4, 4).tolist() == [0xDD, 0xCC, 0xBB, 0xAA]
        assert made.array("u1", 4, 4).tobytes() == b"ping"


def test_views_outlive_the_map() -> None:
    made = arena()
    view = made.array("u1")
    view[0] = 5
    made.close()
    assert view[0] == 5


def test_closed(refused: Callable[..., Any]) -> None:
    made = arena()
    made.close()
    with refused(bpf2py.ClosedError, None, "map arena: the map is closed"):
        _ = made.memory


def test_a_chosen_address(assert_no_leaks: Callable[[], Any]) -> None:
    np = pytest.importorskip("numpy")
    place = 1 << 44
    for _ in range(2):  # the address is free again afterwards
        with assert_no_leaks(), arena(map_extra=place) as made:
            assert made.info.map_extra == place
            made.memory[1] = 5
            assert made.array("u1")[1] == 5
            assert made.array("u1").__array_interface__["data"][0] == place
            assert made.array(np.uint16)[0] == 5 << 8
            with arena(map_extra=place) as second, pytest.raises(bpf2py.BpfOSError, match="mmap of 16384 bytes failed"):
                _ = second.memory


def test_from_c(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    source = """#include "vmlinux.h"
    struct {
        __uint(type, BPF_MAP_TYPE_ARENA);
        __uint(map_flags, BPF_F_MMAPABLE);
        __uint(max_entries, 4);
        __ulong(map_extra, 0x1ull << 44);
    } arena SEC(".maps");
    """
    with bpf2py.load(build(source)) as obj:
        made = obj.maps["arena"]
        made.memory[:4] = b"ping"
        assert bytes(made.memory[:4]) == b"ping"


def test_nothing_leaks(assert_no_leaks: Callable[[], Any]) -> None:
    with assert_no_leaks(), arena() as made:
        made.memory[0] = 1


@pytest.mark.since("6.9")
def test_programs_allocate_pages(compile_bpf: Callable[[str], bytes]) -> None:
    source = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#ifdef __BPF_FEATURE_ADDR_SPACE_CAST
#define __arena __attribute__((address_space(1)))
/* Kernels whose BTF marks kfuncs have them in vmlinux.h, and these must agree with those. */
void __arena *bpf_arena_alloc_pages(void *map, void __arena *addr, __u32 page_cnt, int node_id, __u64 flags) __ksym __weak;
void bpf_arena_free_pages(void *map, void __arena *ptr, __u32 page_cnt) __ksym __weak;
struct {
    __uint(type, BPF_MAP_TYPE_ARENA);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 4);
} arena SEC(".maps");
long first;
SEC("syscall") int run(void *ctx)
{
    long __arena *page = bpf_arena_alloc_pages(&arena, 0, 1, -1, 0);

    if (!page)
        return 1;
    page[1] = 42;
    first = page[1];
    bpf_arena_free_pages(&arena, page, first == 41);
    return 0;
}
#endif
char LICENSE[] SEC("license") = "GPL";
"""
    with bpf2py.load(compile_bpf(source)) as obj:
        if not obj.programs:
            pytest.skip("the compiler is too old to know address spaces: clang 19 does")
        assert obj.programs["run"].test_run().return_value == 0
        assert obj.variables["first"].value == 42
        assert obj.maps["arena"].array("i8")[1] == 42


GLOBALS = """
#define __arena __attribute__((address_space(1)))
struct { __uint(type, 33); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, %d); } arena SEC(".maps");
struct pair { int a; long b; };
int __arena counter;
long __arena start = 42;
struct pair __arena pairs[3];
static int __arena hidden = 5;
char __arena large[%d];
int plain = 1;
SEC("syscall") int bump(void *ctx)
{
    counter++; start += 2; pairs[1].b = 7; plain = ++hidden; large[0]++;
    bpf_printk("%%p", &arena); /* a program knows its arena by the map */
    return counter;
}
"""


def test_variables_of_an_arena(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    spec = build(GLOBALS % (4, 8))
    assert spec.maps["arena"].type == MapType.ARENA
    assert ".addr_space.1" not in spec.maps
    spec.variables["counter"].value = 9
    with bpf2py.load(spec) as obj:
        assert obj.variables["start"].value == 42
        assert [obj.programs["bump"].test_run().return_value for _ in range(2)] == [10, 11]
        values = {name: variable.value for name, variable in obj.variables.items()}
        assert (values["counter"], values["start"], values["hidden"], values["plain"]) == (11, 46, 7, 7)
        assert [tuple(pair) for pair in values["pairs"]] == [(0, 0), (0, 7), (0, 0)]
        obj.variables["pairs"].value = [(1, 2), (3, 4), (5, 6)]
        obj.variables["start"].value = -1
        obj.programs["bump"].test_run()
        assert [tuple(pair) for pair in obj.variables["pairs"].value] == [(1, 2), (3, 7), (5, 6)]
        assert obj.variables["start"].value == 1
        assert obj.maps["arena"].memory[spec.variables["start"].offset] == 1
    assert spec.variables["start"].value == 42


def test_variables_larger_than_the_arena(
    build: Callable[[str], bpf2py.ObjectSpec], refused: Callable[..., Any]
) -> None:
    spec = build(GLOBALS % (1, 3 * mmap.PAGESIZE))
    with refused(bpf2py.MapCreateError, None, "map arena: its variables have", "raise max_entries"):
        bpf2py.load(spec)
    spec.maps["arena"].max_entries = 4
    bpf2py.load(spec).close()


def test_variables_need_one_arena(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    with pytest.raises(bpf2py.ObjectError, match="variables of an arena need one map of type ARENA, there are 0"):
        build('int __attribute__((address_space(1))) lonely;\nSEC("syscall") int p(void *ctx) { return lonely; }\n')
