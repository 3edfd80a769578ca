"""Programs and kernel modules: their functions called and traced, their types in CO-RE relocations."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import bpf2py
from bpf2py.btf.types import Kind
from bpf2py.kernel.btf import modules

pytestmark = [pytest.mark.kernel, pytest.mark.since("5.18")]

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct nf_conn { unsigned long status; } __attribute__((preserve_access_index));
struct bpf_ct_opts { __s32 netns_id, error; __u8 l4proto, dir, reserved[2]; };
extern struct nf_conn *bpf_xdp_ct_lookup(struct xdp_md *, struct bpf_sock_tuple *, __u32, struct bpf_ct_opts *, __u32) __ksym;
extern void bpf_ct_release(struct nf_conn *) __ksym;
int error, size, offset, entered;

SEC("xdp") int look_up(struct xdp_md *ctx)
{
    struct bpf_sock_tuple tuple = { .ipv4.saddr = 1 };
    struct bpf_ct_opts options = { .netns_id = -1, .l4proto = 6 };
    struct nf_conn *found = bpf_xdp_ct_lookup(ctx, &tuple, sizeof(tuple.ipv4), &options, sizeof(options));

    error = options.error;
    if (found)
        bpf_ct_release(found);
    size = bpf_core_type_size(struct nf_conn);
    offset = bpf_core_field_offset(struct nf_conn, status);
    return XDP_PASS;
}

SEC("?fentry/nf_conntrack_find_get") int traced(void *ctx)
{
    __sync_fetch_and_add(&entered, 1);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""
ENOENT = 2


@pytest.fixture(scope="module")
def spec(compile_bpf: Callable[[str], bytes]) -> bpf2py.ObjectSpec:
    return bpf2py.ObjectSpec.from_bytes(compile_bpf(SOURCE), "modules")


@pytest.fixture(scope="module", autouse=True)
def module() -> None:
    """nf_conntrack, loaded for these tests."""
    if not Path("/sys/kernel/btf/nf_conntrack").exists() and shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", "nf_conntrack"], check=False)
    if not Path("/sys/kernel/btf/nf_conntrack").exists():
        pytest.skip("the kernel has no module nf_conntrack to load; `make test-vm` has one")


def test_functions_and_types_of_a_module(spec: bpf2py.ObjectSpec) -> None:
    (btf,) = [each for each in modules() if each.name == "nf_conntrack"]
    conn = btf.type(btf.find("nf_conn", Kind.STRUCT))
    (status,) = [member for member in conn.members if member.name == "status"]  # type: ignore[union-attr]
    with bpf2py.load(spec) as obj:
        assert obj.programs["look_up"].test_run(data=bytes(64)).return_value == 2
        assert obj.variables["error"].value == -ENOENT, "there is no such connection"
        assert obj.variables["size"].value == conn.size  # type: ignore[union-attr]
        assert obj.variables["offset"].value == status.bit_offset // 8


@pytest.mark.kprobe
@pytest.mark.parametrize("target", ["nf_conntrack_find_get", "nf_conntrack:nf_conntrack_find_get"])
def test_functions_of_a_module_are_traced(spec: bpf2py.ObjectSpec, target: str) -> None:
    own = spec.copy()
    own.programs["traced"].autoload, own.programs["traced"].target = True, target
    with bpf2py.load(own) as obj, obj.programs["traced"].attach():
        before = obj.variables["entered"].value
        obj.programs["look_up"].test_run(data=bytes(64))
        assert obj.variables["entered"].value > before


@pytest.mark.kprobe
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nf_conntrack:no_such_function", "no function 'nf_conntrack:no_such_function' in its BTF$"),
        ("no_such_module:nf_conntrack_find_get", "module 'no_such_module' is not loaded, or has no BTF$"),
        ("vmlinux:nf_conntrack_find_get", "no function 'vmlinux:nf_conntrack_find_get' in its BTF$"),
    ],
)
def test_what_is_not_there(spec: bpf2py.ObjectSpec, target: str, message: str) -> None:
    own = spec.copy()
    own.programs["traced"].autoload, own.programs["traced"].target = True, target
    with pytest.raises(bpf2py.BtfError, match=message):
        bpf2py.load(own)
