from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bpf2py.errors import CompileError
from bpf2py.isa.helpers import HELPERS
from bpf2py.toolchain.compiler import Compiler, compile, compile_with_log
from bpf2py.toolchain.find import ziglang_directory

pytestmark = pytest.mark.usefixtures("cache_dir")

ROOT = Path(__file__).parents[2]

MACROS = Path(__file__).parent / "macros"
VMLINUX = (MACROS / "vmlinux_small.h").read_bytes()

BEGIN = """\
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize("arch", ["x86", "arm64"])
@pytest.mark.parametrize("source", sorted(MACROS.glob("*.bpf.c")), ids=lambda path: str(path.name).partition(".")[0])
def test_macros_compile_without_a_warning(source: Path, arch: str, compiler: Compiler) -> None:
    compiled = compile_with_log(
        source,
        compiler=compiler,
        vmlinux=VMLINUX,
        arch=arch,
        cflags=["-Wextra", "-Wno-unused-parameter"],
    )
    assert compiled.warnings == ""


@pytest.mark.parametrize("arch", ["x86", "arm64"])
def test_uapi_headers_instead_of_vmlinux(arch: str, compiler: Compiler) -> None:
    text = "#include <linux/ptrace.h>\n#include <linux/bpf.h>\n" + BEGIN.split("\n", 1)[1]
    text += 'SEC("kprobe/x") int BPF_KPROBE(probe, int a, char *b) { return a + PT_REGS_RC(ctx); }\n'
    text += 'SEC("xdp") int drop(struct xdp_md *ctx) { return ctx->data + 10 > ctx->data_end ? XDP_PASS : XDP_DROP; }\n'
    if arch == "x86" or compiler.kind == "zig":
        assert compile_with_log(text, compiler=compiler, arch=arch).warnings == ""


def test_each_helper_can_be_called(compiler: Compiler) -> None:
    text = BEGIN
    for helper in HELPERS.values():
        parameters = [p for p in helper.parameters if p.type != "..."]
        arguments = ", ".join(f"({p.type})x[{n}]" for n, p in enumerate(parameters))
        result = "" if helper.returns == "void" else "return (long)"
        text += f'SEC("socket") long call_{helper.id}(u64 *x) {{ {result}bpf_{helper.name}({arguments}); }}\n'
    code = compile(text, compiler=compiler, vmlinux=VMLINUX, cflags=["-Wno-return-type"])
    for number in HELPERS:
        assert b"\x85\0\0\0" + number.to_bytes(4, "little") in code


def test_more_arguments_than_registers_is_an_error(compiler: Compiler) -> None:
    text = BEGIN + 'SEC("kprobe/x") int seven(struct pt_regs *ctx) { return PT_REGS_PARM7(ctx); }\n'
    assert compile(text, compiler=compiler, vmlinux=VMLINUX, arch="arm64")
    with pytest.raises(CompileError, match="no_such_register_on_this_architecture"):
        compile(text, compiler=compiler, vmlinux=VMLINUX, arch="x86")
    with pytest.raises(CompileError, match="define __TARGET_ARCH_x86 or __TARGET_ARCH_arm64"):
        compile(text, compiler=compiler, vmlinux=VMLINUX, arch="x86", cflags=["-U__TARGET_ARCH_x86"])


def test_a_ksym_that_is_not_weak_is_an_error(compiler: Compiler) -> None:
    text = BEGIN + 'extern void f(void) __ksym;\nSEC("socket") int p(void *c) { return bpf_ksym_exists(f); }\n'
    with pytest.raises(CompileError, match="f should be marked as __weak"):
        compile(text, compiler=compiler, vmlinux=VMLINUX)


def test_relocations_name_the_fields(compiler: Compiler) -> None:
    data = compile(
        BEGIN + 'SEC("socket") int prog(struct task_struct *t) { return BPF_CORE_READ(t, real_parent, mm, pgd); }\n',
        compiler=compiler,
        vmlinux=VMLINUX,
    )
    strings = set(re.findall(rb"\0(0(?::\d+)+)(?=\0)", data))
    assert strings == {b"0:5", b"0:4", b"0:0"}  # real_parent, mm, pgd


def test_the_generated_header_is_fresh() -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "gen_helper_defs.py", "--check"], check=True)


def test_the_table_agrees_with_the_uapi_header() -> None:
    wheel = ziglang_directory()
    assert wheel is not None
    text = (wheel / "lib/libc/include/any-linux-any/linux/bpf.h").read_text()
    numbers = {int(number): name for name, number in re.findall(r"FN\((\w+), (\d+), ##ctx\)", text)}
    del numbers[0]
    assert {helper.id: helper.name for helper in HELPERS.values()} == numbers

    # The descriptions begin with the prototypes.
    start = text.index("Start of BPF helper function descriptions")
    joined = re.sub(r"\n \*\s*", " ", text[start : text.index("___BPF_FUNC_MAPPER", start)])
    prototypes: dict[str, int] = {}
    for name, arguments in re.findall(r"\bbpf_(\w+)\(([^()]*)\) Description", joined):
        prototypes[name] = 0 if arguments == "void" else arguments.count(",") + 1
    assert prototypes == {helper.name: len(helper.parameters) for helper in HELPERS.values()}
