"""Helpers give on the engine what they give in the kernel: results, packets, text."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine

pytestmark = pytest.mark.kernel
SOURCE = Path(__file__).parent / "helpers.bpf.c"
TEXT = struct.Struct("<qQQII64s64s")
SEED = 20260101


@pytest.fixture(scope="module")
def spec(compile_bpf: Callable[[str], bytes]) -> bpf2py.ObjectSpec:
    return bpf2py.ObjectSpec.from_bytes(compile_bpf(SOURCE.read_text()), "helpers")


@pytest.fixture(scope="module")
def both(spec: bpf2py.ObjectSpec) -> Iterator[tuple[Any, Any]]:
    with bpf2py.load(spec) as kernel, bpf2py.load(spec, backend=Engine()) as engine:
        yield kernel, engine


def texts(both: tuple[Any, Any], program: str, **fields: Any) -> None:
    """Run on both with a struct text; compare what is left of it."""
    order = ("result", "value", "argument", "size", "number", "in_", "out")
    given = {"in_": b"", "out": b"", **fields}
    context = TEXT.pack(*(given.get(name, 0) for name in order))
    kernel, engine = (obj.programs[program].test_run(context=context) for obj in both)
    assert engine.return_value == kernel.return_value
    assert TEXT.unpack(engine.context) == TEXT.unpack(kernel.context), fields


NUMBERS = [
    b"0", b"12", b"-12", b" 7", b"0x1f", b"0X1F", b"1f", b"017", b"018", b"08", b"", b" ", b"-", b"x", b"12x",
    b"9223372036854775807",
    b"9223372036854775808", b"-9223372036854775808", b"-9223372036854775809", b"18446744073709551615", b"18446744073709551616",
    b"+5", b"-0x10", b"\t42\n", b"0x", b"00", b"777",
]  # fmt: skip


@pytest.mark.parametrize("base", [0, 8, 10, 16, 2, 32])
@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_from_text(both: tuple[Any, Any], text: bytes, base: int) -> None:
    for program in ("to_signed", "to_unsigned"):
        texts(both, program, in_=text, argument=base)


@pytest.mark.parametrize("name", ["plain", "wide", "signs", "zeros", "minus", "percent", "character"])
def test_formatted_text(both: tuple[Any, Any], name: str) -> None:
    random_ = random.Random(SEED)
    values = [0, 1, 65, 66, 127, 128, 255, 256, -1, -128, 1 << 31, (1 << 31) - 1, 1 << 63, (1 << 64) - 1]
    for _ in range(40):
        a, b, c = (random_.choice(values) if random_.random() < 0.7 else random_.getrandbits(64) for _ in range(3))
        if name == "character":
            a, b = 65 + a % 26, 97 + b % 26  # text, not control characters
        texts(
            both, f"format_{name}", argument=a & (1 << 64) - 1, value=b & (1 << 64) - 1, number=c & 0xFFFFFFFF,
            size=random_.choice((63, 63, 10, 1, 0)),
        )  # fmt: skip


@pytest.mark.parametrize("text", [b"hello", b"hello\0x", b"hellp", b"hell", b"help", b"", b"helloworld", b"\xff"])
def test_comparison_of_text(both: tuple[Any, Any], text: bytes) -> None:
    texts(both, "compare", in_=text)


@pytest.mark.parametrize(
    ("number", "stop", "flags"),
    [(0, 0, 0), (10, 0, 0), (10, 4, 0), (1 << 23, 100, 0), ((1 << 23) + 1, 0, 0), (5, 0, 1)],
)
def test_loops(both: tuple[Any, Any], number: int, stop: int, flags: int) -> None:
    texts(both, "loop", number=number, argument=stop, size=flags)


COUNTED = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
struct counted { int start, end, stop, turns; long sum; };
SEC("syscall") int count(struct counted *context)
{
	struct counted c = *context;
	int i;

	bpf_for(i, c.start, c.end) {
		c.sum += i;
		c.turns++;
		if (c.stop && i == c.stop)
			break;
	}
	context->turns = c.turns;
	context->sum = c.sum;
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.since("6.4")
def test_counted_loops(compile_bpf: Callable[[str], bytes]) -> None:
    spec = bpf2py.ObjectSpec.from_bytes(compile_bpf(COUNTED))
    with bpf2py.load(spec) as kernel, bpf2py.load(spec, backend=Engine()) as engine:
        for start, end, stop in (
            (0, 10, 0), (5, 5, 0), (7, 3, 0), (-5, 5, 0), (0, 1000, 17), (0, (8 << 20) + 1, 0), (-(1 << 31), -(1 << 31) + 3, 0),
        ):  # fmt: skip
            context = struct.pack("<4iq", start, end, stop, 0, 0)
            left = [obj.programs["count"].test_run(context=context).context for obj in (kernel, engine)]
            assert left[0] == left[1], (start, end, stop)


def packets(both: tuple[Any, Any], program: str, packet: bytes, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> None:
    """Run on both on a packet; compare verdict, packet and what helpers answered."""
    found = []
    for obj in both:
        obj.variables["given"].value = {
            name: value & (1 << 64) - 1 for name, value in zip("abcd", (a, b, c, d), strict=True)
        }
        obj.variables["answers"].value = [0] * 8
        result = obj.programs[program].test_run(packet)
        found.append((result.return_value, result.data.hex(), obj.variables["answers"].value))
    assert found[1] == found[0], (program, a, b, c, d)


def ip_packet(length: int = 100) -> bytes:
    header = struct.pack(">BBHHHBBHII", 0x45, 0, length - 14, 7, 0, 64, 17, 0x1234, 0x7F000001, 0x7F000002)
    return bytes(range(12)) + b"\x08\x00" + header + bytes(i & 0xFF for i in range(length - 34))


@pytest.mark.parametrize("offset", [0, 1, 14, 50, 84, 85, 99, 100, 1000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_bytes_of_packets(both: tuple[Any, Any], offset: int) -> None:
    for start in (0, 1):
        packets(both, "load_bytes", ip_packet(), offset, start)
    packets(both, "store_bytes", ip_packet(), offset, 0x1122334455667788)
    packets(both, "xdp_bytes", ip_packet(), offset, 4)
    packets(both, "xdp_bytes", ip_packet(), 0, offset)


def test_checksums(both: tuple[Any, Any]) -> None:
    random_ = random.Random(SEED)
    for _ in range(150):
        offset = random_.choice((24, 24, 40, 98, 99, 100, 25, 0))
        flags = random_.choice((0, 2, 4, 1, 3, 0x10, 0x12, 0x14, 0x22, 0x24, 0x34, 0x100))
        old, new = (random_.choice((0, 1, 0xFFFF, 0xFFFFFFFF, random_.getrandbits(32))) for _ in range(2))
        packets(both, "checksums", ip_packet(), offset, flags, old, new)


@pytest.mark.parametrize("length", [0, 13, 14, 33, 34, 99, 100, 101, 1000, 2000])
def test_tail_of_packets(both: tuple[Any, Any], length: int) -> None:
    packets(both, "change_tail", ip_packet(), length)
    packets(both, "change_tail", ip_packet(), length, 1)


@pytest.mark.parametrize("room", [0, 1, 14, 100, 200])
def test_head_of_packets(both: tuple[Any, Any], room: int) -> None:
    packets(both, "change_head", ip_packet(), room)
    packets(both, "change_head", ip_packet(), room, 1)


@pytest.mark.parametrize("pops", [0, 1, 2])
def test_vlan_tags(both: tuple[Any, Any], pops: int) -> None:
    packets(both, "vlan", ip_packet(), 5, 7, pops)


@pytest.mark.parametrize("difference", [0, 4, 20, 100, -4, -20, -50, -66, -67, 0xFFF, 0x1000, -0x1000])
@pytest.mark.parametrize("mode", [0, 1, 2])
def test_room_in_packets(both: tuple[Any, Any], difference: int, mode: int) -> None:
    packets(both, "adjust_room", ip_packet(), difference, mode)


@pytest.mark.parametrize("delta", [0, 1, -1, 14, 86, 87, 100, 101, -100, -200, -216, -217, -256, -257])
def test_ends_of_frames(both: tuple[Any, Any], delta: int) -> None:
    packets(both, "adjust_head", ip_packet(), delta)
    packets(both, "adjust_meta", ip_packet(), delta)
    packets(both, "adjust_tail", ip_packet(), delta)


@pytest.mark.parametrize("delta", [3300, 3419, 3420, 3421, 3600, -85, -86, -87, 4, -32, -36])
def test_tail_of_frames(both: tuple[Any, Any], delta: int) -> None:
    packets(both, "adjust_tail", ip_packet(), delta)
    packets(both, "adjust_meta", ip_packet(), delta)


def test_verdicts(both: tuple[Any, Any]) -> None:
    packets(both, "redirect", ip_packet(), 1, 0)
    packets(both, "redirect", ip_packet(), 1, 1)
    for length in (34, 35, 100, 1500):
        packets(both, "classic", ip_packet(length))
    for length in (14, 15, 33):
        packets(both, "classic", bytes(12) + b"\x08\x06" + bytes(length - 14))


@pytest.mark.parametrize("length", [13, 14, 33])
def test_packets_without_an_ip_header_are_refused(both: tuple[Any, Any], length: int) -> None:
    for obj in both:
        with pytest.raises(bpf2py.BpfError) as caught:
            obj.programs["classic"].test_run(ip_packet()[:length])
        assert caught.value.errno == 22


def test_contexts_of_packets(spec: bpf2py.ObjectSpec, both: tuple[Any, Any]) -> None:
    context = bytearray(192)
    struct.pack_into("<I", context, 8, 77)  # mark
    struct.pack_into("<5I", context, 48, 1, 2, 3, 4, 5)  # cb
    for obj in both:
        obj.variables["given"].value = {"a": 0, "b": 0, "c": 0, "d": 0}
    kernel, engine = (obj.programs["load_bytes"].test_run(ip_packet(), bytes(context)) for obj in both)
    for at, size in ((8, 4), (48, 20), (16, 4), (0, 4)):
        assert engine.context[at : at + size] == kernel.context[at : at + size], at
