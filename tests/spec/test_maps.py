"""Map definitions: every field, inner maps, initial values, the legacy section, and what is wrong with wrong ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bpf2py.btf.types import Kind
from bpf2py.errors import ObjectError
from bpf2py.spec.map_spec import Pinning
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.uapi.map_types import MapFlags, MapType

Read = Callable[[str], ObjectSpec]


def test_every_field(read: Read) -> None:
    spec = read("""
struct value { int a; char b[5]; };
struct {
    __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1003); __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(numa_node, 0); __uint(pinning, LIBBPF_PIN_BY_NAME); __type(key, __u64); __type(value, struct value);
} typed SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_BLOOM_FILTER); __uint(key_size, 0); __uint(value_size, 8); __uint(max_entries, 5);
    __ulong(map_extra, 0x100000003ULL); } sized SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct value); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __type(value, struct value); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 2); __uint(key_size, 4); __uint(value_size, 4); }
    p SEC(".maps");
struct { __uint(type, 200); __uint(max_entries, 2); } newer SEC(".maps");
""")
    assert list(spec.maps) == ["typed", "sized", "ring", "events", "p", "newer"]
    typed, sized, ring, events = (spec.maps[name] for name in ("typed", "sized", "ring", "events"))
    assert (typed.type, typed.key_size, typed.value_size, typed.max_entries) == (MapType.HASH, 8, 12, 1003)
    assert typed.flags == MapFlags.NO_PREALLOC | MapFlags.NUMA_NODE
    assert (typed.numa_node, typed.pinning, typed.map_extra) == (0, Pinning.BY_NAME, 0)
    assert spec.types is not None
    assert typed.value_type_id == spec.types.find("value", Kind.STRUCT)
    assert spec.types.resolved(typed.key_type_id).kind == Kind.INT
    assert (sized.type, sized.value_size, sized.map_extra) == (MapType.BLOOM_FILTER, 8, 0x100000003)
    assert (sized.key_type_id, sized.value_type_id, sized.numa_node, sized.pinning) == (0, 0, None, Pinning.NONE)
    # The kernel wants no sizes for a ring; the type describes its records.
    assert (ring.key_size, ring.value_size, ring.value_type_id) == (0, 0, typed.value_type_id)
    assert (events.key_size, events.value_size, events.max_entries, events.value_type_id) == (
        4,
        4,
        0,
        typed.value_type_id,
    )
    assert spec.maps["newer"].type == 200
    assert not isinstance(spec.maps["newer"].type, MapType)


def test_inner_maps_and_initial_values(read: Read) -> None:
    spec = read("""
struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 7); __type(key, int); __type(value, long); };
struct inner one SEC(".maps"), two SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 5); __type(key, int); __array(values, struct inner); }
    outer SEC(".maps") = { .values = { &one, 0, 0, &two } };
struct { __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS); __uint(max_entries, 5); __type(key, __u64); __array(values, struct {
    __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 3); __type(key, char); __type(value, short); }); } by_key SEC(".maps");
int first(void *ctx); int second(void *ctx);
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __uint(key_size, 4); __array(values, int(void *)); }
    calls SEC(".maps") = { .values = { [1] = (void *)&second, [3] = (void *)&first } };
SEC("socket") int first(void *ctx) { bpf_tail_call(ctx, &calls, 1); return 0; }
SEC("socket") int second(void *ctx) { return bpf_map_lookup_elem(&outer, ctx) != bpf_map_lookup_elem(&by_key, ctx); }
""")
    outer, by_key, calls = spec.maps["outer"], spec.maps["by_key"], spec.maps["calls"]
    assert (outer.key_size, outer.value_size, outer.contents) == (4, 4, [(0, "one"), (3, "two")])
    assert outer.inner is not None
    assert (outer.inner.type, outer.inner.max_entries, outer.inner.value_size) == (MapType.ARRAY, 7, 8)
    assert by_key.inner is not None
    assert (by_key.inner.type, by_key.inner.key_size, by_key.inner.value_size) == (MapType.HASH, 1, 2)
    assert (by_key.key_size, by_key.value_size, by_key.contents) == (8, 4, [])
    assert (calls.contents, calls.value_size, calls.inner) == ([(1, "second"), (3, "first")], 4, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("__uint(max_entries, 1);", "map m: the definition has no type"),
        ("__uint(type, 1); __uint(colour, 1);", "map m: unknown field 'colour'"),
        ("__uint(type, 1); int max_entries;", "map m: max_entries must be written with __uint"),
        ("__uint(type, 1); int key;", r"map m: key must be written as __type\(key, TYPE\)"),
        ("__uint(type, 1); __type(key, struct unknown);", "map m: key: .* has no size"),
        ("__uint(type, 1); __uint(key_size, 8); __type(key, int);", "map m: key_size is 8 but the type has 4 bytes"),
        ("__uint(type, 1); __type(value, long); __uint(value_size, 4);", "map m: value_size is 4 but the type has 8 bytes"),
        ("__uint(type, 1); __uint(pinning, 3);", "map m: pinning must be 0 or 1, is 3"),
        ("__uint(type, 12); int values[2];", r"map m: values must be written as __array"),
        ("__uint(type, 1); __ulong(max_entries, 1ULL << 40);", "map m: max_entries 1099511627776 does not fit 32 bits"),
        ("__uint(type, 12); __array(values, struct { __uint(type, 12); __array(values, struct { __uint(type, 1); }); });",
         "a map of maps of maps is not possible"),
    ],
)  # fmt: skip
def test_wrong_definitions(read: Read, fields: str, message: str) -> None:
    with pytest.raises(ObjectError, match=message):
        read(f'struct unknown;\nstruct {{ {fields} }} m SEC(".maps");\n')


def test_a_variable_that_is_no_struct(read: Read) -> None:
    with pytest.raises(ObjectError, match="map m: the definition is not a struct"):
        read('int m SEC(".maps");\n')


def test_the_legacy_section(read: Read) -> None:
    definition = "struct bpf_map_def { unsigned int type, key_size, value_size, max_entries, map_flags; };\n"
    spec = read(
        definition
        + """
struct bpf_map_def SEC("maps") old = { BPF_MAP_TYPE_HASH, 4, 8, 10, 1 };
struct bpf_map_def SEC("maps") older = { .type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 16, .max_entries = 2 };
SEC("socket") int p(void *ctx) { return bpf_map_lookup_elem(&older, ctx) != 0; }
"""
    )
    old, older = spec.maps["old"], spec.maps["older"]
    assert (old.type, old.key_size, old.value_size, old.max_entries, int(old.flags)) == (MapType.HASH, 4, 8, 10, 1)
    assert (older.type, older.value_size, older.max_entries) == (MapType.ARRAY, 16, 2)
    assert [ref.name for ref in spec.programs["p"].function.refs] == ["older"]
    longer = definition.replace("map_flags;", "map_flags, id, pinning;")
    with pytest.raises(ObjectError, match="map m: unknown non-zero fields"):
        read(longer + 'struct bpf_map_def SEC("maps") m = { .type = 1, .key_size = 4, .pinning = 2 };\n')
    assert list(read(longer + 'struct bpf_map_def SEC("maps") m = { .type = 1, .key_size = 4 };\n').maps) == ["m"]
    with pytest.raises(ObjectError, match="map m: a definition of 8 bytes is too short"):
        read('long m SEC("maps") = 1;\n')


def test_maps_need_btf(read: Read, compile_bpf: Callable[[str], bytes]) -> None:
    from bpf2py.toolchain.compiler import compile

    text = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
    data = compile(text + 'struct { __uint(type, 1); } m SEC(".maps");\n', cflags=["-g0"])
    with pytest.raises(ObjectError, match="compile with -g"):
        ObjectSpec.from_bytes(data)


def test_values_of_a_map_that_holds_none(compile_bpf: Callable[[str], bytes]) -> None:
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
int entry(void *ctx);
struct { __uint(type, BPF_MAP_TYPE_%s); __uint(max_entries, 2); __type(key, int); __array(values, int(void *)); }
    calls SEC(".maps") = { .values = { [0] = (void *)&entry } };
SEC("socket") int entry(void *ctx) { bpf_tail_call(ctx, &calls, 1); return 0; }
"""
    assert ObjectSpec.from_bytes(compile_bpf(source % "PROG_ARRAY")).maps["calls"].contents == [(0, "entry")]
    for wrong in ("ARRAY", "HASH", "ARRAY_OF_MAPS"):
        with pytest.raises(ObjectError, match=f"values are programs, which a map of type {wrong} does not hold"):
            ObjectSpec.from_bytes(compile_bpf(source % wrong))
