from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapFlags, MapType

pytestmark = [pytest.mark.kernel, pytest.mark.since("5.16")]


@pytest.mark.parametrize("hashes", [0, 1, 5, 15])
def test_membership(hashes: int) -> None:
    with Map.create(MapType.BLOOM_FILTER, value="u64", max_entries=1000, map_extra=hashes) as seen:
        assert seen.info.map_extra == hashes
        seen.update(range(0, 1000, 2))
        seen.add(1001)
        assert all(number in seen for number in range(0, 1000, 2))
        assert 1001 in seen
        wrong = sum(number in seen for number in range(10_000, 11_000))
        assert wrong < (600 if hashes == 1 else 200)  # "surely not there" is the usual answer


@pytest.mark.parametrize("flags", [MapFlags.ZERO_SEED, MapFlags.NUMA_NODE], ids=lambda flags: flags.name)
def test_creation_flags(flags: MapFlags) -> None:
    with Map.create("BLOOM_FILTER", value=3, max_entries=10, flags=flags) as seen:
        seen.add(b"abc")
        assert b"abc" in seen
        assert seen.flags == flags


def test_what_cannot_be_done(refused: Callable[..., Any]) -> None:
    with Map.create("BLOOM_FILTER", value="u32", max_entries=10, name="seen") as seen:
        with refused(bpf2py.EncodeError, None, "map seen: update: value: -1 does not fit u32"):
            seen.add(-1)
        with refused(bpf2py.EncodeError, None, "map seen: lookup: value: 'x' is not a valid u32"):
            assert "x" in seen
        with pytest.raises(TypeError):
            iter(seen)  # type: ignore[call-overload]
    for operation in (lambda: seen.add(1), lambda: 1 in seen):
        with refused(bpf2py.ClosedError, None, "map seen: the map is closed"):
            operation()
    with (
        Map.create("BLOOM_FILTER", value="u32", max_entries=10, flags=MapFlags.RDONLY, name="seen") as seen,
        refused(bpf2py.PermissionDenied, errno.EPERM, "map seen: update: ", "BPF_F_RDONLY"),
    ):
        seen.add(1)


def test_from_c(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    source = """
    struct my_flow { __u32 from, to; __u16 port; };
    struct {
        __uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
        __uint(max_entries, 100);
        __uint(map_extra, 3);
        __type(value, struct my_flow);
    } flows SEC(".maps");
    int found, other;
    static struct my_flow flow; /* not on the stack, where Linux 7.3 loses it */
    SEC("raw_tp/sched_switch")
    int use(void *ctx)
    {
        flow.from = 1; flow.to = 2; flow.port = 80;
        found = bpf_map_peek_elem(&flows, &flow);
        flow.port = 81;
        other = bpf_map_peek_elem(&flows, &flow);
        bpf_map_push_elem(&flows, &flow, BPF_ANY);
        return 0;
    }
    """
    with bpf2py.load(build(source)) as obj:
        flows = obj.maps["flows"]
        flows.add({"from": 1, "to": 2, "port": 80})
        obj.programs["use"].test_run()
        assert (obj.variables["found"].value, obj.variables["other"].value) == (0, -errno.ENOENT)
        assert (1, 2, 81) in flows
        assert (1, 2, 82) not in flows
