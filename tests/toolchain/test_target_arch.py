"""Which architecture's registers a program on a probe reads: what the user's flags and source say decides."""

from __future__ import annotations

from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine
from bpf2py.kernel.backend import KernelBackend
from bpf2py.toolchain.target_arch import host_arch

pytestmark = pytest.mark.usefixtures("cache_dir")

PROBE = """
#include <linux/ptrace.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
long argument;
SEC("uprobe/libc.so.6:getpgid") int BPF_UPROBE(probe, int pid) { argument = pid; return 0; }
char LICENSE[] SEC("license") = "GPL";
"""
REGISTERS = {
    "x86": "struct pt_regs { unsigned long r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, "
    "rip, cs, eflags, rsp, ss; };",
    "arm64": "struct user_pt_regs { unsigned long long regs[31], sp, pc, pstate; } __attribute__((preserve_access_index));",
}
OTHER = "arm64" if host_arch() == "x86" else "x86"


@pytest.mark.parametrize(
    ("source", "options", "arch"),
    [
        (PROBE, {}, host_arch()),
        (PROBE, {"cflags": [f"-D__TARGET_ARCH_{OTHER}"]}, OTHER),
        (PROBE, {"cflags": ["-D", f"__TARGET_ARCH_{OTHER}=1"]}, OTHER),
        (PROBE, {"cflags": [f"-D__TARGET_ARCH_{OTHER}", f"-U__TARGET_ARCH_{OTHER}"]}, host_arch()),
        (PROBE, {"arch": OTHER}, OTHER),
        (PROBE, {"arch": OTHER, "cflags": [f"-D__TARGET_ARCH_{OTHER}"]}, OTHER),
        (f"#define __TARGET_ARCH_{OTHER}\n{PROBE}", {}, OTHER),
        (f"#define __TARGET_ARCH_{host_arch()} 1\n{PROBE}", {}, host_arch()),
    ],
)
def test_whose_registers(source: str, options: dict[str, Any], arch: str) -> None:
    # The other machine's headers may not be installed: the struct is all that is needed of them.
    source = source.replace("#include <linux/ptrace.h>", REGISTERS[arch])
    assert bpf2py.ObjectSpec.from_bytes(bpf2py.compile(source, **options)).arch == arch


def test_two_architectures_at_once() -> None:
    flags = ["-D__TARGET_ARCH_x86", "-D__TARGET_ARCH_arm64"]
    for options in ({"cflags": flags}, {"arch": "x86", "cflags": flags[1:]}):
        with pytest.raises(bpf2py.CompileError, match="for arm64 and x86 at once"):
            bpf2py.compile(PROBE, **options)


@pytest.mark.kernel
def test_an_object_for_other_registers_is_not_loaded_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bpf2py.compile(PROBE.replace("#include <linux/ptrace.h>", REGISTERS["x86"]), arch="x86")
    monkeypatch.setattr(KernelBackend, "arch", "arm64")
    with pytest.warns(RuntimeWarning, match="for x86, and this machine is arm64: probe would read the wrong registers"):
        obj = bpf2py.load(data)
    with obj:
        assert "-D__TARGET_ARCH_arm64" in obj.warnings[0]
    monkeypatch.setattr(KernelBackend, "arch", "x86")
    with bpf2py.load(data) as fits:
        assert fits.warnings == []


@pytest.mark.parametrize("arch", ["x86", "arm64"])
def test_the_engine_gives_programs_the_registers_they_want(arch: str) -> None:
    source = PROBE.replace("#include <linux/ptrace.h>", REGISTERS[arch])
    with bpf2py.load(bpf2py.compile(source, arch=arch), backend=Engine()) as obj:
        assert obj.warnings == []
        obj.programs["probe"].run(42)
        assert obj.variables["argument"].value == 42
