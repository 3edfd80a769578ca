"""Keys whose bytes their members do not tell: padding and bools that are not 0 or 1. They go back into the map as they came."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bpf2py

SOURCE = """
struct in { char c; int x; };
struct key {
    char a; int b; _Bool yes; short bits : 5, more : 7; struct in in; struct in arr[2]; union { long l; char s[3]; }; char tail;
};
#define MAP(name, kind, key_type) \\
    struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, 1000); __type(key, key_type); __type(value, int); } \\
        name SEC(".maps")
MAP(structs, HASH, struct key); MAP(nested, LRU_HASH, struct in); MAP(per_cpu, PERCPU_HASH, struct in); MAP(bools, HASH, _Bool);
"""


@pytest.fixture(params=[pytest.param("kernel", marks=pytest.mark.kernel), "engine"])
def obj(request: pytest.FixtureRequest, build: Callable[[str], bpf2py.ObjectSpec]) -> Iterator[Any]:
    with bpf2py.load(build(SOURCE), request.param) as loaded:
        yield loaded


@pytest.mark.parametrize("name", ["structs", "nested", "per_cpu", "bools"])
def test_what_came_out_goes_back_in(obj: Any, name: str) -> None:
    found, rng = obj.maps[name], random.Random(1)
    raws = {rng.randbytes(found.key_size) for _ in range(100)}
    for number, raw in enumerate(raws):
        key = found.key_codec.decode(raw)
        assert found.key_codec.encode(key) == raw
        found[key] = number
    assert len(dict(found.items())) == len(found) == len(raws)
    assert {found.key_codec.encode(key) for key in found} == raws
    for number, key in enumerate(list(found)):
        assert key in found
        copied = copy.deepcopy(key)
        assert copied == key
        assert hash(copied) == hash(key)
        assert found.get(copied) is not None
        if number % 2:
            del found[copied]
        else:
            found.update({key: 5})
    assert len(found) == (len(raws) + 1) // 2
    found.clear()
    assert len(found) == 0


def test_padding_tells_keys_apart(obj: Any) -> None:
    keys = obj.maps["nested"]
    plain, odd = (keys.key_codec.decode(b"\5" + pad + b"\7\0\0\0") for pad in (b"\0\0\0", b"\0\1\0"))
    assert (plain.c, plain.x) == (odd.c, odd.x) == (5, 7)
    assert plain != odd
    assert plain == {"c": 5, "x": 7} == plain._asdict()
    assert odd != {"c": 5, "x": 7}
    assert odd != (5, 7)
    assert "padding 00 00 01 00 00 00 00 00" in repr(odd)
    assert "padding" not in repr(plain)
    keys[plain], keys[odd] = 1, 2
    assert (keys[plain], keys[odd], keys[(5, 7)]) == (1, 2, 1)
    odd.x = 8  # a member may change, the padding stays
    assert bytes(keys.key_codec.encode(odd)) == b"\5\0\1\0\10\0\0\0"


def test_values_have_zero_padding(obj: Any) -> None:
    codec = obj.maps["nested"].key_codec
    value = type(codec.decode(bytes(8)))(c=1, x=2)
    assert codec.encode(value) == b"\1\0\0\0\2\0\0\0"
    assert codec.encode({"c": 1, "x": 2}) == b"\1\0\0\0\2\0\0\0"
