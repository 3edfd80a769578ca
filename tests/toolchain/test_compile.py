from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from bpf2py.errors import CompileError, CompilerNotFound
from bpf2py.toolchain.compiler import Compiler, compile, compile_with_log, find_compiler
from bpf2py.toolchain.find import examine

pytestmark = pytest.mark.usefixtures("cache_dir")

COUNTER = """\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

char LICENSE[] SEC("license") = "GPL";

SEC("tracepoint/syscalls/sys_enter_openat")
int count(void *ctx)
{
	__u32 key = bpf_get_current_pid_tgid() >> 32;
	__u64 one = 1, *value = bpf_map_lookup_elem(&counts, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
	else
		bpf_map_update_elem(&counts, &key, &one, BPF_NOEXIST);
	return 0;
}
"""


def sections(data: bytes) -> dict[str, bytes]:
    """Name -> content of an ELF64 little-endian file's sections."""
    assert data[:6] == b"\x7fELF\x02\x01"
    (offset,) = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    headers = [struct.unpack_from("<IIQQQQ", data, offset + size * i) for i in range(count)]
    table = data[headers[names][4] : headers[names][4] + headers[names][5]]
    return {table[h[0] : table.index(b"\0", h[0])].decode(): data[h[4] : h[4] + h[5]] for h in headers}


def test_object_is_a_bpf_object_with_btf(compiler: Compiler) -> None:
    data = compile(COUNTER, compiler=compiler)
    assert struct.unpack_from("<H", data, 18) == (247,)  # EM_BPF
    found = sections(data)
    assert found["license"] == b"GPL\0"
    assert {"tracepoint/syscalls/sys_enter_openat", ".maps", ".BTF", ".BTF.ext"} <= set(found)
    # A verifier error can only show the source when its lines are in the BTF.
    assert b"__sync_fetch_and_add(value, 1);" in found[".BTF"]


def test_a_path_is_compiled_with_its_directory_searched(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "limits.h").write_text("#define LIMIT 77\n")
    (tmp_path / "a.bpf.c").write_text('#include <limits.h>\nchar out[LIMIT] __attribute__((section("x")));\n')
    assert len(sections(compile(tmp_path / "a.bpf.c", compiler=compiler))["x"]) == 77
    monkeypatch.chdir(tmp_path)
    assert len(sections(compile("a.bpf.c", compiler=compiler))["x"]) == 77
    text = '#include "limits.h"\nchar out[LIMIT + 1] __attribute__((section("x")));\n'
    assert len(sections(compile(text, compiler=compiler))["x"]) == 78


def test_cflags_win(compiler: Compiler) -> None:
    text = 'int limit __attribute__((section("x"))) = LIMIT;\n'
    assert sections(compile(text, cflags=["-DLIMIT=9", "-g0"], compiler=compiler))["x"] == b"\x09\0\0\0"
    assert ".BTF" not in sections(compile(text, cflags=["-DLIMIT=9", "-g0"], compiler=compiler))


def test_an_error_is_what_the_compiler_wrote(compiler: Compiler, tmp_path: Path) -> None:
    source = tmp_path / "bad.bpf.c"
    source.write_text("int good;\nint f(void) { return missing; }\n")
    with pytest.raises(CompileError) as caught:
        compile(source, compiler=compiler)
    assert f"{source}:2:22: error: use of undeclared identifier 'missing'" in caught.value.stderr
    assert str(caught.value) == caught.value.stderr.strip("\n")
    assert caught.value.returncode == 1
    assert str(source) in caught.value.argv


def test_warnings_are_kept_with_the_object(compiler: Compiler) -> None:
    text = "static int unused;\nint used;\n"
    first = compile_with_log(text, compiler=compiler)
    assert "unused variable 'unused'" in first.warnings
    assert compile_with_log(text, compiler=compiler) == first
    assert compile_with_log("int fine;\nint too;\n", compiler=compiler).warnings == ""


def test_nothing_of_the_temporary_directory_is_in_the_object(compiler: Compiler, tmp_path: Path) -> None:
    (tmp_path / "a.bpf.c").write_text('#include "vmlinux.h"\nstruct thing x;\n')
    header = b"struct thing { int field; };\n"
    objects = [compile(tmp_path / "a.bpf.c", vmlinux=header, cache=False, compiler=compiler) for _ in range(2)]
    assert objects[0] == objects[1]


def test_a_given_vmlinux_header(compiler: Compiler, tmp_path: Path) -> None:
    text = '#include "vmlinux.h"\nstruct thing v __attribute__((section("x"))) = {1};\n'
    (tmp_path / "header.h").write_text("struct thing { int field; };\n")
    assert len(sections(compile(text, vmlinux=tmp_path / "header.h", compiler=compiler))["x"]) == 4
    assert len(sections(compile(text, vmlinux=b"struct thing { long field; };\n", compiler=compiler))["x"]) == 8


def test_the_source_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        compile(tmp_path / "no.bpf.c")
    with pytest.raises(FileNotFoundError):
        compile("int no_newline;")


def test_an_unknown_architecture() -> None:
    with pytest.raises(ValueError, match="arch 'vax': known are x86, arm64"):
        compile(COUNTER, arch="vax")


def test_c_library_headers(compiler: Compiler) -> None:
    text = "#include <errno.h>\n#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n"
    text += 'uint64_t big __attribute__((section("x"))) = ENOENT;\n'
    text += "void copy(char *to, char *from) { memcpy(to, from, 24); memset(from, 0, 16); }\n"
    found = sections(compile(text, compiler=compiler))
    assert found["x"] == struct.pack("<Q", 2)
    assert b"memcpy" not in found[".strtab"]  # neither is left as a call


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_finding_prefers_the_plain_name_then_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, version in (("clang-15", "15.0.7"), ("clang-21", "21.1.0"), ("clang-13", "13.0.1")):
        script(
            tmp_path / name, f'[ "$1" = --version ] && echo "Debian clang version {version}" || echo "  bpfel - BPF"'
        )
    assert find_compiler() == Compiler("clang", (str(tmp_path / "clang-21"),), "21.1.0")
    shutil.copy(tmp_path / "clang-15", tmp_path / "clang")
    assert find_compiler() == Compiler("clang", (str(tmp_path / "clang"),), "15.0.7")


def test_unfit_compilers_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    script(tmp_path / "clang", '[ "$1" = --version ] && echo "clang version 13.0.0" || echo "  bpfel - BPF"')
    assert find_compiler().kind == "zig"
    monkeypatch.setattr("bpf2py.toolchain.find.ziglang_directory", lambda: None)
    with pytest.raises(CompilerNotFound, match=r"version 13.0.0, too old.*install clang 14.*'bpf2py\[cc\]'"):
        find_compiler()
    script(
        tmp_path / "clang", '[ "$1" = --version ] && echo "Apple clang version 17.0.0" || echo "  aarch64 - AArch64"'
    )
    with pytest.raises(CompilerNotFound, match="without the BPF target"):
        compile(COUNTER, cache=False)
    os.unlink(tmp_path / "clang")
    with pytest.raises(CompilerNotFound, match="no compiler for BPF found: install clang"):
        find_compiler()


def test_the_environment_names_the_compiler(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BPF2PY_CC", " ".join(compiler.argv))
    found = find_compiler()
    assert (found.kind, found.argv) == (compiler.kind, compiler.argv)
    assert found.version.split(".")[0].isdigit()
    monkeypatch.setenv("BPF2PY_CC", "ziglang")
    assert find_compiler().kind == "zig"
    monkeypatch.setenv("BPF2PY_CC", str(tmp_path / "nothing"))
    with pytest.raises(CompilerNotFound, match=r"BPF2PY_CC=.*nothing: no such program"):
        find_compiler()
    script(tmp_path / "cc", "echo gcc")
    monkeypatch.setenv("BPF2PY_CC", str(tmp_path / "cc"))
    with pytest.raises(CompilerNotFound, match="is not clang"):
        compile(COUNTER)


def test_zig_finds_its_version(compiler: Compiler) -> None:
    fit, reason = examine(compiler)
    assert reason == ""
    assert fit is not None
    said = subprocess.run([compiler.argv[0], "version" if compiler.kind == "zig" else "--version"], capture_output=True)
    assert fit.version in said.stdout.decode()


def test_no_unwind_tables(compiler: Compiler) -> None:
    assert ".eh_frame" not in sections(compile(COUNTER, compiler=compiler))


@pytest.mark.parametrize("name", ["@a.bpf.c", "-a.bpf.c", "@dir/a.bpf.c", "-o", "-dir/a b@=c.bpf.c"])
def test_a_path_is_no_flag(compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text('#include "size.h"\nint marker[SIZE];\n')
    Path(name).with_name("size.h").write_text("#define SIZE 3\n")
    assert b"marker" in compile(name, cache=False, compiler=compiler)


REGISTERS = """#include <linux/ptrace.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#ifdef __TARGET_ARCH_arm64
int arm64_marker;
#endif
#ifdef __TARGET_ARCH_x86
int x86_marker;
#endif
SEC("kprobe/x") int p(struct pt_regs *ctx) { return PT_REGS_PARM1(ctx); }
"""


@pytest.mark.parametrize(
    "flags",
    [
        ["-D__TARGET_ARCH_arm64"],
        ["-D", "__TARGET_ARCH_arm64"],
        ["-D__TARGET_ARCH_arm64=1"],
        ["-DX", "-D__TARGET_ARCH_arm64"],
    ],
)
def test_a_flag_says_whose_registers(compiler: Compiler, flags: list[str]) -> None:
    compiled = compile_with_log(REGISTERS, cache=False, compiler=compiler, cflags=flags)
    assert b"arm64_marker" in compiled.data
    assert b"x86_marker" not in compiled.data
    assert compiled.warnings == ""
    assert compiled.data == compile(REGISTERS, cache=False, compiler=compiler, arch="arm64")
    assert compile(REGISTERS, cache=False, compiler=compiler, arch="arm64", cflags=flags) == compiled.data


def test_two_architectures_are_refused(compiler: Compiler) -> None:
    for flags, arch in ((["-D__TARGET_ARCH_arm64", "-D__TARGET_ARCH_x86"], None), (["-D__TARGET_ARCH_arm64"], "x86")):
        with pytest.raises(CompileError, match="for arm64 and x86 at once"):
            compile(REGISTERS, compiler=compiler, cflags=flags, arch=arch)
    with pytest.raises(CompileError, match="define __TARGET_ARCH_x86 or __TARGET_ARCH_arm64"):
        compile(REGISTERS, compiler=compiler, cflags=["-D__TARGET_ARCH_s390"])
    for name, other in (("x86", "arm64"), ("arm64", "x86")):
        with pytest.raises(CompileError, match="for arm64 and x86 at once"):
            compile(f"#define __TARGET_ARCH_{name} 1\n{REGISTERS}", compiler=compiler, arch=other)
