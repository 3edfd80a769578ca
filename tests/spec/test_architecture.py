"""Whose registers an object reads, where its types tell."""

from __future__ import annotations

from pathlib import Path

import pytest

import bpf2py
from bpf2py.codegen.build import Request, produce
from bpf2py.errors import BpfError
from bpf2py.spec.object_spec import ObjectSpec

X86 = "struct pt_regs { unsigned long r15, di, si; };"
ARM64 = "struct user_pt_regs { unsigned long regs[31], sp, pc, pstate; }; struct pt_regs { struct user_pt_regs user; };"
SOURCE = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
%s
%s
SEC("raw_tp/sys_enter") int p(void *ctx) { return 0; }
char LICENSE[] SEC("license") = "GPL";
"""


def build(types: str) -> bytes:
    return bpf2py.compile(SOURCE % (types, "struct pt_regs seen;" if types else ""))


@pytest.mark.parametrize(
    ("types", "expected"), [(X86, "x86"), (ARM64, "arm64"), ("", None), ("struct pt_regs { int x; };", None)]
)
def test_what_the_types_tell(types: str, expected: str | None) -> None:
    assert ObjectSpec.from_bytes(build(types)).arch == expected


def test_a_target_of_gen(tmp_path: Path) -> None:
    source = tmp_path / "a.bpf.c"
    source.write_text(SOURCE % ("#ifdef __TARGET_ARCH_arm64\nint on_arm64;\n#else\nint on_x86;\n#endif", ""))
    for target in ("x86", "arm64"):
        files = produce(Request("a", source, tmp_path, target=target))
        assert sorted(path.name for path in files) == [f"a_{target}_bpfel.o", f"a_{target}_bpfel.py"]
        assert f"on_{target}".encode() in files[tmp_path / f"a_{target}_bpfel.o"]
    (tmp_path / "b.o").write_bytes(build(X86))
    with pytest.raises(BpfError, match="reads the registers of x86, not those of the target arm64"):
        produce(Request("b", tmp_path / "b.o", tmp_path, target="arm64"))
