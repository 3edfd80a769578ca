"""Helpers and kernel functions a test provides."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct route { int found; };
extern int bpf_route_of(struct xdp_md *ctx, __u32 address, struct route *route) __ksym;
__u64 random, seen;

SEC("xdp") int forwards(struct xdp_md *ctx)
{
    struct bpf_fib_lookup lookup = { .family = 2, .ifindex = 1, .ipv4_dst = 0x0100000a };
    struct route route = {};

    if (bpf_fib_lookup(ctx, &lookup, sizeof(lookup), 0))
        return XDP_DROP;
    seen = bpf_route_of(ctx, lookup.ipv4_dst, &route);
    random = bpf_get_prandom_u32();
    return bpf_redirect(lookup.ifindex + route.found, 0);
}
char LICENSE[] SEC("license") = "GPL";
"""
XDP_DROP, XDP_REDIRECT = 1, 4


def fib_lookup(engine: Engine, context: int, params: int, size: int, flags: int) -> int:
    raw = bytearray(engine.read(params, size))
    struct.pack_into("<I", raw, 8, 7)  # ifindex
    engine.write(params, raw)
    return 0


def route_of(engine: Engine, context: int, address: int, route: int) -> int:
    engine.write(route, struct.pack("<i", 3))
    return address & 0xFF


@pytest.fixture(scope="module")
def code(compile_bpf: Callable[[str], bytes]) -> bytes:
    return compile_bpf(SOURCE)


@pytest.mark.parametrize("translator", ["native", "python"])
def test_functions_stand_in(code: bytes, translator: str) -> None:
    mine: dict[str, Callable[..., int]] = {
        "bpf_fib_lookup": fib_lookup,
        "bpf_route_of": route_of,
        "get_prandom_u32": lambda engine: 4,
    }
    engine = Engine(helpers=mine, translator=translator)
    with bpf2py.load(code, backend=engine) as obj:
        assert obj.programs["forwards"].run(data=bytes(64)).return_value == XDP_REDIRECT
        assert (obj.variables["random"].value, obj.variables["seen"].value) == (4, 0x0A)
        engine.helpers["bpf_fib_lookup"] = lambda *_: -22  # exchanged between runs
        assert obj.programs["forwards"].run(data=bytes(64)).return_value == XDP_DROP


def test_what_is_missing_is_named(code: bytes) -> None:
    with pytest.raises(
        bpf2py.NotSupported, match=r"the kfunc bpf_route_of; .* provide it by engine.helpers\['bpf_route_of'\]"
    ):
        bpf2py.load(code, backend=Engine())


def test_a_helper_that_is_missing_is_named(compile_bpf: Callable[[str], bytes]) -> None:
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
SEC("tc") int get(struct __sk_buff *skb) { char opt[8] = {}; return bpf_skb_get_tunnel_opt(skb, opt, sizeof(opt)); }
"""
    with pytest.raises(
        bpf2py.NotSupported, match=r"helper bpf_skb_get_tunnel_opt .* engine.helpers\['bpf_skb_get_tunnel_opt'\]"
    ):
        bpf2py.load(compile_bpf(source), backend=Engine())


def test_what_a_function_raises_ends_the_run(code: bytes) -> None:
    def fails(*_: Any) -> int:
        raise LookupError("no routes today")

    engine = Engine(helpers={"fib_lookup": fails, "bpf_route_of": route_of})
    with bpf2py.load(code, backend=engine) as obj, pytest.raises(LookupError, match="no routes today"):
        obj.programs["forwards"].run(data=bytes(64))
