from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapType

pytestmark = pytest.mark.kernel

SOURCE = """
struct my_value { __u64 count; char who[8]; };
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10);
    __type(key, __u32);
    __type(value, struct my_value);
} a_map_with_a_long_name SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 3); __type(key, __u32); __type(value, __s32); }
    numbers SEC(".maps");
int variable = 5;
SEC("syscall") int use(void *ctx) { return variable; }
"""


def test_typed_by_the_kernels_btf(build: Callable[[str], bpf2py.ObjectSpec], assert_no_leaks: Any) -> None:
    with bpf2py.load(build(SOURCE)) as obj, assert_no_leaks():
        made = obj.maps["a_map_with_a_long_name"]
        made[1] = {"count": 2, "who": "me"}
        with Map.from_id(made.id) as opened:
            assert opened.name == "a_map_with_a_long_name"[:15]
            assert opened.info == made.info
            assert (opened[1].count, opened[1].who) == (2, "me")
            opened[2] = (3, "you")
            assert made[2].who == "you"
        with Map.from_id(obj.maps["numbers"].id) as numbers:
            numbers[1] = -5
            assert obj.maps["numbers"][1].values == [-5] * numbers.possible_cpus
        section = next(m for m in obj.maps.values() if m.name == ".data")
        with Map.from_id(section.id) as opened:
            assert opened.max_entries == 1
            assert len(opened.snapshot()) == 1


def test_types_of_ones_own(assert_no_leaks: Any) -> None:
    with Map.create("HASH", 4, 8, 5, name="plain") as made, assert_no_leaks():
        made[b"\1\0\0\0"] = bytes(8)
        with Map.from_id(made.id) as raw:
            assert raw.snapshot() == {b"\1\0\0\0": bytes(8)}
        with Map.from_id(made.id, key="u32", value="s64") as typed:
            typed[2] = -1
            assert typed.snapshot() == {1: 0, 2: -1}
        with pytest.raises(bpf2py.EncodeError, match="the value type u32 has 4 bytes, the map's 8"):
            Map.from_id(made.id, value="u32")
        with pytest.raises(bpf2py.EncodeError, match="'struct x' is not a basic C type"):
            Map.from_id(made.id, key="struct x")


def test_by_descriptor(assert_no_leaks: Any, refused: Callable[..., Any]) -> None:
    with assert_no_leaks(), Map.create("HASH", key="u32", value="u64", max_entries=5) as made:
        with Map.from_fd(made.fileno(), key="u32", value="u64") as same:
            same[1] = 2
            assert same.fileno() != made.fileno()
        assert made.snapshot() == {1: 2}
        assert Map.from_fd(made.fileno()).type == MapType.HASH
        with refused(bpf2py.BpfOSError, errno.EBADF, "map fd 99999"):
            Map.from_fd(99999)
        with open("/dev/null") as file, pytest.raises(bpf2py.BpfOSError, match="map fd "):
            Map.from_fd(file.fileno())


def test_no_such_id(refused: Callable[..., Any]) -> None:
    for number in (0, (1 << 32) - 1):
        with refused(bpf2py.BpfOSError, errno.ENOENT, f"map id {number}: open: "):
            Map.from_id(number)
    for number in (-1, 1 << 32):
        with refused(bpf2py.EncodeError, None, f"map id {number}"):
            Map.from_id(number)


def test_unprivileged() -> None:
    with Map.create("HASH", key="u32", value="u64", max_entries=5) as made:
        ident = made.id
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setuid(65534)
                try:
                    Map.from_id(ident)
                except bpf2py.PermissionDenied as error:
                    code = 0 if f"map id {ident}: open: " in str(error) and "CAP_SYS_ADMIN" in str(error) else 3
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
