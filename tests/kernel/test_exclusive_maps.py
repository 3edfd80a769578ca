"""Maps of one program alone (Linux 6.18), on the kernel and on the engine."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py import Map
from bpf2py.engine import Engine
from bpf2py.kernel.syscall import older_than

SOURCE = """
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); } secrets SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); } open SEC(".maps");
const volatile int step = 2;
int calls;
static __noinline void count(__u32 key)
{
    __u64 *found = bpf_map_lookup_elem(&secrets, &key);
    if (found)
        *found += step;
}
SEC("xdp") int owner(struct xdp_md *ctx)
{
    __u32 key = 1;
    __u64 *found = bpf_map_lookup_elem(&open, &(__u32){ 0 });
    calls++;
    if (found)
        *found += 1;
    count(key);
    return 2;
}
SEC("xdp") int intruder(struct xdp_md *ctx)
{
    __u32 key = 2;
    __u64 *found = bpf_map_lookup_elem(&secrets, &key);
    return found ? *found : 0;
}
SEC("xdp") int stranger(struct xdp_md *ctx)
{
    __u64 *found = bpf_map_lookup_elem(&open, &(__u32){ 0 });
    return found ? *found : 0;
}
"""
BACKENDS = [
    pytest.param(
        "kernel",
        marks=[pytest.mark.kernel, pytest.mark.since("6.18")],
    ),
    "engine",
]


def on(backend: str) -> Any:
    return Engine(kernel="6.18") if backend == "engine" else backend


@pytest.fixture
def spec(build: Callable[[str], bpf2py.ObjectSpec]) -> bpf2py.ObjectSpec:
    return build(SOURCE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_named_program_alone_may_use_the_map(
    spec: bpf2py.ObjectSpec, backend: str, refused: Callable[..., Any]
) -> None:
    chosen = on(backend)
    owned = {"secrets": "owner"}
    with bpf2py.load(spec, chosen, exclusive=owned, autoload={"intruder": False}) as obj:
        assert sorted(obj.programs) == ["owner", "stranger"]
        obj.programs["owner"].test_run(bytes(64), repeat=3)
        assert list(obj.maps["secrets"]) == [0, 6, 0, 0]  # user space reads it as ever
        digest = obj.programs["owner"].digest
        assert digest[:8] == obj.programs["owner"].info.tag
        assert digest != obj.programs["stranger"].digest
    for programs in ({}, {"owner": False}):
        with refused(
            bpf2py.VerifierError,
            errno.EACCES,
            "program intruder: load",
            "excl_prog_hash",
            "exclusive to another program",
        ):
            bpf2py.load(spec, chosen, exclusive=owned, autoload=programs)
    # The same by its hash, of a map that is no object's; another value of a constant makes it another program.
    with Map.create("ARRAY", value="u64", max_entries=4, exclusive=digest, backend=chosen) as made:
        with bpf2py.load(spec, chosen, autoload={"intruder": False}, maps={"secrets": made}) as again:
            assert again.programs["owner"].digest == digest
        with refused(bpf2py.VerifierError, errno.EACCES, "program intruder: load", "excl_prog_hash"):
            bpf2py.load(spec, chosen, maps={"secrets": made})


@pytest.mark.parametrize("backend", BACKENDS)
def test_data_sections_too(spec: bpf2py.ObjectSpec, backend: str, refused: Callable[..., Any]) -> None:
    chosen = on(backend)
    with bpf2py.load(spec, chosen, exclusive={".bss": "owner", ".rodata": "owner"}) as obj:
        obj.programs["owner"].test_run(bytes(64))
        assert obj.variables["calls"].value == 1
    with refused(bpf2py.VerifierError, errno.EACCES, "program owner: load", "excl_prog_hash"):
        bpf2py.load(spec, chosen, exclusive={".bss": "stranger"})


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_cannot_be(spec: bpf2py.ObjectSpec, backend: str, refused: Callable[..., Any]) -> None:
    chosen = on(backend)
    with refused(bpf2py.MapCreateError, None, "map secrets: create: exclusive is 'ownr'", "owner, intruder, stranger"):
        bpf2py.load(spec, chosen, exclusive={"secrets": "ownr"})
    with pytest.raises(KeyError, match="secret"):
        bpf2py.load(spec, chosen, exclusive={"secret": "owner"})
    with refused(bpf2py.MapCreateError, errno.EINVAL, "SHA-256 hash of 32 bytes, 8 are given"):
        Map.create("ARRAY", value="u64", max_entries=4, exclusive=bytes(8), backend=chosen)
    loose: Any = "owner"
    with refused(bpf2py.MapCreateError, errno.EINVAL, "this map belongs to no object"):
        Map.create("ARRAY", value="u64", max_entries=4, exclusive=loose, backend=chosen)


def test_old_kernels_say_so(refused: Callable[..., Any]) -> None:
    with refused(bpf2py.NotSupported, errno.E2BIG, "came with Linux 6.18, this is 6.12") as caught:
        Map.create("ARRAY", value="u64", max_entries=4, exclusive=bytes(32), backend=Engine(kernel="6.12"))
    assert caught.value.since == "6.18"


@pytest.mark.kernel
@pytest.mark.skipif(not older_than("6.18"), reason="this kernel has them")
def test_this_old_kernel_says_so(refused: Callable[..., Any]) -> None:
    with refused(bpf2py.NotSupported, errno.E2BIG, "came with Linux 6.18"):
        Map.create("ARRAY", value="u64", max_entries=4, exclusive=bytes(32))


@pytest.mark.kernel
def test_the_hash_of_a_program_of_others_is_not_known(spec: bpf2py.ObjectSpec, refused: Callable[..., Any]) -> None:
    with (
        bpf2py.load(spec) as obj,
        bpf2py.Program.from_id(obj.programs["owner"].info.id) as found,
        refused(bpf2py.NotSupported, None, "info.tag"),
    ):
        _ = found.digest
