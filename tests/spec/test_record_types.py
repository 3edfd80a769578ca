"""Types of records from the size programs write, the object's BTF and its debug information."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py.btf.codec_for import codec_for
from bpf2py.spec.dwarf import variable_structs
from bpf2py.spec.record_types import record_types, sizes_written

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
enum kind { NONE, SOME = 3 };
typedef struct { __u8 red, green; } color_t;
struct nested {
    __u32 id; char comm[16]; enum kind kind; color_t color; unsigned small : 3, large : 21; union { __u64 number; void *pointer; };
    __s16 table[2][3];
};
struct typed { __u64 x; };
struct twin_a { __u64 a[5]; };
struct element { __u64 e[5]; };
struct twin_b { __u64 b[5]; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } records SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } twin_aa SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } either SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct typed); } own SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, __u32); __type(value, struct element); }
    elements SEC(".maps");
SEC("raw_tp/x") int run(void *ctx)
{
    struct nested *nested = bpf_ringbuf_reserve(&records, sizeof(*nested), 0);
    color_t color = {1, 2};
    struct twin_a a = {};
    struct twin_b b = {};
    struct typed typed = {};

    if (nested) {
        nested->kind = SOME;
        bpf_ringbuf_submit(nested, 0);
    }
    a.a[0] = b.b[1] = bpf_ktime_get_ns();
    bpf_ringbuf_output(&records, &color, sizeof(color), 0);
    bpf_ringbuf_output(&twin_aa, &a, sizeof(a), 0);
    bpf_ringbuf_output(&either, &b, sizeof(b), 0);
    bpf_ringbuf_output(&own, &typed, sizeof(typed), 0);
    bpf_ringbuf_output(&records, &a, bpf_get_prandom_u32() & 31, 0);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture(scope="module")
def data() -> bytes:
    return bpf2py.compile(SOURCE)


def test_sizes_and_types(data: bytes) -> None:
    spec = bpf2py.ObjectSpec.from_bytes(data)
    assert sizes_written(spec) == {"records": {56, 2}, "twin_aa": {40}, "either": {40}, "own": {8}}
    found = record_types(spec, data)
    records = found["records"].by_size
    assert repr(records[2].decode(b"\1\2")).endswith("(red=1, green=2)")
    assert records[56].name == "struct nested"
    assert found["twin_aa"].by_size[40].name == "struct twin_a"  # by its name
    assert found["either"] == ({}, ["twin_a", "twin_b"])
    assert "own" not in found


def test_a_struct_that_is_also_a_key_is_a_record_where_nothing_else_fits(compile_bpf: Callable[[str], bytes]) -> None:
    source = """
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    struct who { __u32 pid; char comm[16]; };
    struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
    struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, struct who); __type(value, __u64); }
        counts SEC(".maps");
    SEC("raw_tp/x") int run(void *ctx)
    {
        struct who *who = bpf_ringbuf_reserve(&events, sizeof(*who), 0);

        if (who)
            bpf_ringbuf_submit(who, 0);
        return 0;
    }
    """
    data = compile_bpf(source)
    assert record_types(bpf2py.ObjectSpec.from_bytes(data), data)["events"].by_size[20].name == "struct who"


def test_layouts_are_those_the_kernel_would_be_told(data: bytes, compile_bpf: Callable[[str], bytes]) -> None:
    # The same source with its types in BTF as well, which is what clang writes for maps.
    shown = SOURCE.replace("__type(value, struct typed)", "__type(value, struct nested)")
    types = bpf2py.ObjectSpec.from_bytes(compile_bpf(shown)).types
    variables = variable_structs(data)
    assert types is not None
    assert variables is not None
    ours = codec_for(variables[0], variables[1]["nested"])
    theirs = codec_for(types, types.ids_by_name("nested")[0])
    raw = bytes(random.Random(3).randbytes(ours.size))
    assert repr(ours.decode(raw)) == repr(theirs.decode(raw))


def test_damage_is_no_error(data: bytes) -> None:
    chance = random.Random(5)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(chance.randrange(1, 12)):
            damaged[chance.randrange(64, len(damaged))] = chance.randrange(256)
        found = variable_structs(bytes(damaged))
        for name, ident in found[1].items() if found is not None else ():
            try:
                codec_for(found[0], ident)  # type: ignore[index]
            except bpf2py.BtfError:
                assert name


def test_without_debug_information(data: bytes) -> None:
    assert variable_structs(bpf2py.compile('int x __attribute__((section("maps")));\n', cflags=["-g0"])) is None
    assert variable_structs(b"not ELF") is None


def test_a_small_file_cannot_ask_for_much_work(data: bytes) -> None:
    """Debug information whose entries have thousands of attributes that take no room, or one name of a megabyte."""
    from bpf2py.elf.object_file import ElfFile
    from bpf2py.spec import dwarf

    many = b"\x01\x11\x00" + b"\x03\x19" * 100_000 + b"\0\0\0"
    long_name = b"\x01\x11\x00\x03\x08\0\0\0"
    for abbreviations, entries in ((many, b"\x01" * 10_000), (long_name, b"\x01" + b"a" * 1_000_000 + b"\0")):
        header = struct.pack("<IHIB", len(entries) + 7, 4, 0, 8)

        class Sections(ElfFile):
            def find(self, name: str, info: bytes = header + entries, table: bytes = abbreviations) -> Any:
                found = {".debug_info": info, ".debug_abbrev": table}
                section = super().find(".debug_info")
                return section._replace(data=found[name]) if section is not None and name in found else None

        assert dwarf._Reader(Sections(data)).entries == {}
