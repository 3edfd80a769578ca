"""Dumps in bulk say what dumps one by one say."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py.cli import json_dump
from bpf2py.cli.render import elements, to_json

pytestmark = pytest.mark.kernel
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
enum color { RED, GREEN = 7 };
struct inner { __u16 one; char c; } ;
struct plain { _Bool yes; double ratio; enum color color; char name[7]; unsigned char raw[3]; struct inner in[2]; __s64 low;
               float small; __u8 tail; char percent[3]; };
struct bits { __u32 a : 3, b : 5; union { __u32 x; __u8 y[4]; }; };
#define TABLE(name, kind, k, v) \\
    struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, 300); __type(key, k); __type(value, v); } name SEC(".maps");
TABLE(numbers, HASH, __u32, __s64)
TABLE(structs, HASH, struct inner, struct plain)
TABLE(least, LRU_HASH, __u64, struct plain)
TABLE(fallback, HASH, __u32, struct bits)
TABLE(per_cpu, PERCPU_HASH, __u32, __u64)
TABLE(array, ARRAY, __u32, __u32)
char LICENSE[] SEC("license") = "GPL";
"""
NAMES = ("numbers", "structs", "least", "fallback", "per_cpu", "array")


@pytest.fixture
def obj(compile_bpf: Callable[[str], bytes]) -> Any:
    rng = random.Random(7)
    with bpf2py.load(compile_bpf(SOURCE)) as loaded:
        for name in NAMES:
            table = loaded.maps[name]
            slot = table._slot()
            for number in range(200):
                slot.key[:] = number.to_bytes(4, "little") if name == "array" else rng.randbytes(len(slot.key))
                slot.value[:] = rng.randbytes(len(slot.value))
                assert slot.update() == 0
        yield loaded


def dump(ident: int, *options: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "bpf2py", "map", "dump", str(ident), *options]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_as_one_by_one(obj: Any, name: str) -> None:
    table = obj.maps[name]
    rows = [{"key": to_json(key), "value": to_json(value)} for key, value in elements(table)]
    text = "[" + ",\n ".join(map(json.dumps, rows)) + "]\n"
    done = dump(table.info.id, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout == text
    assert done.stderr == ""
    assert (json_dump.template_for(table.value_codec) is None) == (name in ("fallback", "per_cpu"))


def test_an_empty_map_and_none(obj: Any) -> None:
    obj.maps["numbers"].clear()
    assert dump(obj.maps["numbers"].info.id, "--json").stdout == "[]\n"
    done = dump(0x7FFFFFFF, "--json")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_which_command_lines_are_quick() -> None:
    assert json_dump.quick(["map", "dump", "counts", "--json"]) == "counts"
    assert json_dump.quick(["map", "dump", "--json", "7"]) == "7"
    for other in (["map", "dump", "7"], ["map", "dump", "--json", "-h"], ["map", "dump", "7", "--json", "--csv"], []):
        assert json_dump.quick(other) is None
