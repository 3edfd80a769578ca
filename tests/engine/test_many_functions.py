"""Programs of many functions: by a pattern, or by their names with cookies."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import bpf2py
from bpf2py.engine import Engine
from bpf2py.errors import AttachError

SOURCE = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
u64 runs, cookies, first;
SEC("{section}") int p(u64 *ctx) {{
    runs++;
    cookies += bpf_get_attach_cookie(ctx);
    {more}
    return 0;
}}
char LICENSE[] SEC("license") = "GPL";
"""
SECTIONS = {"kprobe.multi/vfs_*": "kprobe", "fentry.multi/vfs_*": "fentry", "fexit.multi.s/vmlinux:vfs_*": "fexit"}


@pytest.mark.parametrize("section", SECTIONS)
def test_a_pattern_and_names(compile_bpf: Callable[[str], bytes], section: str) -> None:
    kind = SECTIONS[section]
    more = "bpf_get_func_arg(ctx, 0, &first);" if kind != "kprobe" else ""
    engine = Engine()
    with bpf2py.load(compile_bpf(SOURCE.format(section=section, more=more)), engine) as obj:
        runs, cookies = obj.variables["runs"], obj.variables["cookies"]
        with obj.programs["p"].attach():
            engine.fire(f"{kind}/vfs_read", 7)
            engine.fire(f"{kind}/vfs_write", 7)
            engine.fire(f"{kind}/do_exit", 7)
            assert (runs.value, cookies.value) == (2, 0)
            if more:
                assert obj.variables["first"].value == 7
        engine.fire(f"{kind}/vfs_read", 7)
        assert runs.value == 2
        link = obj.programs["p"].attach(symbols=["do_exit", "vfs_read"], cookies=[5, 6])
        engine.fire(f"{kind}/do_exit", 7)
        engine.fire(f"{kind}/vfs_read", 7)
        engine.fire(f"{kind}/vfs_write", 7)
        assert (runs.value, cookies.value) == (4, 11)
        link.close()
        engine.fire(f"{kind}/vfs_read", 7)
        assert runs.value == 4
        with pytest.raises(AttachError, match="1 cookies for 2 functions"):
            obj.programs["p"].attach(symbols=["a", "b"], cookies=[1])


def test_only_programs_of_many_functions_have_patterns(compile_bpf: Callable[[str], bytes]) -> None:
    engine = Engine()
    with bpf2py.load(compile_bpf(SOURCE.format(section="kprobe/vfs_*", more="")), engine) as obj:
        obj.attach()
        engine.fire("kprobe/vfs_read", 7)
        assert obj.variables["runs"].value == 0
