"""Linking: which functions follow a program, in which order, and where its calls lead."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from bpf2py.linker.link import LinkedProgram, Linker, line_at, source_text
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.program_spec import RefKind

Compile = Callable[[str], bytes]
HEAD = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
SOURCE = (
    HEAD
    + """
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, long); } numbers SEC(".maps");
int counter = 3;
static __noinline int last(int x) { return x * 3; }
static __noinline int leaf(int x) { return last(x) + counter; }
__noinline int shared(int x) { return x + leaf(x); }
static __noinline int twice(int x) { return shared(x) + leaf(x + 1); }
static long callback(void *map, int *key, long *value, void *ctx) { *value = leaf(*key); return 0; }
__noinline int never_called(int x) { return x; }
SEC("socket") int alone(void *ctx) { return 0; }
SEC("socket") int calls(void *ctx) { return twice(1) + shared(2) + last(3); }
SEC("socket") int with_callback(void *ctx) { bpf_for_each_map_elem(&numbers, callback, ctx, 0); return last(4); }
__noinline int even(int x);
__noinline int odd(int x) { return x <= 0 ? 0 : even(x - 1); }
__noinline int even(int x) { return x <= 0 ? 1 : odd(x - 1); }
SEC("socket") int recursive(void *ctx) { return odd((long)ctx); }
static __noinline int in_section(int x);
SEC("tc") int in_tc(void *ctx) { return in_section(5); }
SEC("tc") static __noinline int in_section(int x) { return x * 5 + last(x); }
"""
)


@pytest.fixture(scope="module")
def spec(compile_bpf: Compile) -> ObjectSpec:
    return ObjectSpec.from_bytes(compile_bpf(SOURCE))


def link(spec: ObjectSpec, name: str) -> LinkedProgram:
    return Linker(spec, None).link(spec.programs[name])


def names(linked: LinkedProgram) -> list[str]:
    return [function.name for _, function in linked.starts]


def calls(linked: LinkedProgram) -> list[tuple[str, str, int]]:
    """Every call of a function and every function's address: in which function, to which, and the pseudo source."""
    starts = dict(linked.starts)
    found = []
    at = 0
    while at < len(linked.code):
        opcode, registers, _, imm = struct.unpack_from("<BBhi", linked.code, at)
        if (opcode == 0x85 and registers >> 4 == 1) or (opcode == 0x18 and registers >> 4 == 4):
            owner = max((start, function.name) for start, function in linked.starts if start <= at)[1]
            found.append((owner, starts[at + (imm + 1) * 8].name, registers >> 4))
        at += 16 if opcode == 0x18 else 8
    return found


def test_a_program_alone(spec: ObjectSpec) -> None:
    linked = link(spec, "alone")
    assert names(linked) == ["alone"]
    assert bytes(linked.code) == spec.programs["alone"].function.code
    assert (linked.refs, linked.poisoned) == ([], {})


def test_functions_follow_in_the_order_of_the_first_call(spec: ObjectSpec) -> None:
    linked = link(spec, "calls")
    # Depth first: what a function calls comes right behind it.
    assert names(linked) == ["calls", "twice", "shared", "leaf", "last"]
    assert calls(linked) == [
        ("calls", "twice", 1),
        ("calls", "shared", 1),
        ("calls", "last", 1),
        ("twice", "shared", 1),
        ("twice", "leaf", 1),
        ("shared", "leaf", 1),
        ("leaf", "last", 1),
    ]
    assert len(linked.code) == sum(len(function.code) for _, function in linked.starts)


def test_addresses_of_functions(spec: ObjectSpec) -> None:
    linked = link(spec, "with_callback")
    assert names(linked) == ["with_callback", "callback", "leaf", "last"]
    assert [found for found in calls(linked) if found[2] == 4] == [("with_callback", "callback", 4)]
    assert [(ref.kind, ref.name) for ref in linked.refs] == [(RefKind.MAP, "numbers"), (RefKind.DATA, ".data")]


def test_recursion_ends(spec: ObjectSpec) -> None:
    linked = link(spec, "recursive")
    assert sorted(names(linked)) == ["even", "odd", "recursive"]
    assert ("odd", "even", 1) in calls(linked)
    assert ("even", "odd", 1) in calls(linked)


def test_calls_within_a_section(spec: ObjectSpec) -> None:
    assert "in_section" not in spec.programs  # static, and called
    linked = link(spec, "in_tc")
    assert names(linked) == ["in_tc", "in_section", "last"]
    assert calls(linked) == [("in_tc", "in_section", 1), ("in_section", "last", 1)]


def test_references_move_with_their_function(spec: ObjectSpec) -> None:
    linked = link(spec, "calls")
    (reference,) = linked.refs
    start = next(start for start, function in linked.starts if function.name == "leaf")
    assert reference.kind == RefKind.DATA
    assert (reference.name, reference.value) == (".data", spec.variables["counter"].offset)
    assert start <= reference.offset < start + len(spec.programs["calls"].function.code) + 200
    assert linked.code[reference.offset] == 0x18


def test_debug_records_move_with_their_function(spec: ObjectSpec) -> None:
    linked = link(spec, "calls")
    assert spec.types is not None
    starts = [start for start, _ in linked.starts]
    assert [info.offset for info in linked.funcs] == starts
    assert [spec.types.type(info.type_id).name for info in linked.funcs] == names(linked)
    assert [line.offset for line in linked.lines] == sorted(line.offset for line in linked.lines)
    assert set(starts) <= {line.offset for line in linked.lines}  # the verifier wants one at each start
    for start, function in linked.starts[1:]:
        line = line_at(linked.lines, start)
        assert line is not None
        assert f"int {function.name}(int x)" in source_text(line, spec.types)
    assert line_at([], 0) is None


def test_linking_changes_nothing(spec: ObjectSpec) -> None:
    before = {place: function.code for place, function in spec.functions.items()}
    linker = Linker(spec, None)
    first = linker.link(spec.programs["calls"])
    first.code[:8] = bytes(8)
    assert linker.link(spec.programs["calls"]) != first
    assert {place: function.code for place, function in spec.functions.items()} == before
