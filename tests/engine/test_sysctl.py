"""SEC("cgroup/sysctl") programs see on the engine what they see in the kernel."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.attach.conftest import cgroup  # noqa: F401

import bpf2py
from bpf2py.engine import Engine

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
char name[64], base[64], current[64], fresh[64], small[4], other[4];
long long results[7];
__u32 replace;
SEC("cgroup/sysctl") int sysctl(struct bpf_sysctl *ctx)
{
	results[0] = bpf_sysctl_get_name(ctx, name, sizeof(name), 0);
	results[1] = bpf_sysctl_get_name(ctx, base, sizeof(base), BPF_F_SYSCTL_BASE_NAME);
	results[2] = bpf_sysctl_get_name(ctx, small, sizeof(small), 0);
	results[3] = bpf_sysctl_get_current_value(ctx, current, sizeof(current));
	results[4] = bpf_sysctl_get_new_value(ctx, fresh, sizeof(fresh));
	results[5] = bpf_sysctl_get_current_value(ctx, other, 1);
	if (replace)
		results[6] = bpf_sysctl_set_new_value(ctx, "7", 1);
	return 1;
}
"""
PLACE = Path("/proc/sys/net/ipv4/ip_default_ttl")


def seen(obj: bpf2py.Object) -> dict[str, Any]:
    return {
        name: obj.variables[name].value for name in ("name", "base", "current", "fresh", "small", "other", "results")
    }


def write(text: str) -> None:
    """By one system call: the program's value may be shorter, and what is left is not written again."""
    fd = os.open(PLACE, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


@pytest.mark.kernel
def test_as_in_the_kernel(compile_bpf: Callable[[str], bytes], cgroup: str) -> None:  # noqa: F811
    data = compile_bpf(SOURCE)
    before = PLACE.read_text()
    with bpf2py.load(data) as kernel, bpf2py.load(data, backend=Engine()) as engine:
        program = engine.programs["sysctl"]
        kernel.programs["sysctl"].attach(cgroup=cgroup)
        try:
            assert PLACE.read_text() == before
            program.run(write=0, name="net/ipv4/ip_default_ttl", current=before)
            assert seen(kernel) == seen(engine)
            write("65\n")
            program.run(write=1, name="net/ipv4/ip_default_ttl", current=before, new="65\n")
            assert seen(kernel) == seen(engine)
            for obj in (kernel, engine):
                obj.variables["replace"].value = 1
            write("66")
            assert program.run(write=1, name="net/ipv4/ip_default_ttl", current="65\n", new="66").data == b"7"
            assert seen(kernel) == seen(engine)
            kernel.close()
            assert PLACE.read_text() == "7\n"
        finally:
            kernel.close()
            PLACE.write_text(before)
