from __future__ import annotations

import re
from pathlib import Path

import pytest

from bpf2py.errors import CompileError, NotSupported
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.toolchain import vmlinux
from bpf2py.toolchain.compiler import Compiler, compile, compile_with_log
from bpf2py.toolchain.headers import reach, search_path

SOURCE = """\
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	return BPF_CORE_READ(next, real_parent, pid);
}
"""


@pytest.fixture(autouse=True)
def kernel_btf(cache_dir: Path) -> None:
    """Like the kernel tests, these need a kernel; unlike them, no rights."""
    if not Path(vmlinux.BTF_PATH).exists():
        pytest.skip(f"needs {vmlinux.BTF_PATH}")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each header made: was it a whole one?"""
    log = []
    real = vmlinux.header_text

    def header_text(roots: frozenset[str] | None = None, kfuncs: frozenset[str] = frozenset()) -> str:
        log.append(roots is None)
        return real(roots, kfuncs)

    monkeypatch.setattr(vmlinux, "header_text", header_text)
    return log


def test_a_source_gets_the_types_it_names(compiler: Compiler, made: list[bool]) -> None:
    first = compile_with_log(SOURCE, compiler=compiler)
    assert first.warnings == ""
    assert b"\0task_struct\0" in first.data
    assert made == [False]
    assert compile_with_log(SOURCE, compiler=compiler) == first
    assert made == [False]


def test_a_type_that_only_a_helper_names(compiler: Compiler, made: list[bool]) -> None:
    body = 'SEC("raw_tp/x") int prog(void *ctx) { return bpf_get_current_task_btf()->pid; }\n'
    compile(SOURCE[: SOURCE.index('SEC("tp_btf')] + body, compiler=compiler)
    assert made == [False]


def test_the_whole_header_is_tried_before_an_error(compiler: Compiler, made: list[bool], cache_dir: Path) -> None:
    pasted = SOURCE + "#define TYPE(name) struct task_##name\nint size(void) { return sizeof(TYPE(struct)); }\n"
    # Not even by name does the source say what it needs.
    pasted = pasted.replace("task_struct", "mm_struct").replace("real_parent, pid", "map_count")
    compile(pasted, compiler=compiler)
    assert made == [False, True]
    with pytest.raises(CompileError, match="no_such_type"):
        compile(SOURCE + "int size(void) { return sizeof(struct no_such_type); }\n", compiler=compiler)
    assert made == [False, True, False]  # the whole one was kept


def test_a_header_of_the_users_own_wins(compiler: Compiler, made: list[bool], tmp_path: Path) -> None:
    source = tmp_path / "a.bpf.c"
    source.write_text(
        '#include "vmlinux.h"\nstruct task_struct { int only; };\nint size = sizeof(struct task_struct);\n'
    )
    with pytest.raises(CompileError, match="redefinition of 'task_struct'"):
        compile(source, compiler=compiler)
    (tmp_path / "vmlinux.h").write_text("typedef int nothing;\n")
    made.clear()
    compile(source, compiler=compiler)
    assert made == []
    (tmp_path / "vmlinux.h").unlink()
    with pytest.raises(CompileError, match="redefinition of 'task_struct'"):
        compile(source, compiler=compiler)


def test_through_a_header(compiler: Compiler, made: list[bool], tmp_path: Path) -> None:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "mine.h").write_text('#include "vmlinux.h"\ntypedef struct mm_struct memory;\n')
    (tmp_path / "a.bpf.c").write_text("#include <mine.h>\nint size = sizeof(memory);\n")
    compile(tmp_path / "a.bpf.c", cflags=[f"-I{tmp_path / 'include'}"], compiler=compiler)
    assert made == [False]


def test_another_kernel_makes_another_object(
    compiler: Compiler, made: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.h").write_text('#include "vmlinux.h"\n')
    for text in ('#include "mine.h"\nstruct list_head head;\n', '#include "vmlinux.h"\nstruct list_head head;\n'):
        (tmp_path / "a.bpf.c").write_text(text)
        with monkeypatch.context() as patch:
            compile(tmp_path / "a.bpf.c", compiler=compiler)
            assert made == [False]
            patch.setattr(vmlinux, "kernel_identity", lambda: "another")
            compile(tmp_path / "a.bpf.c", compiler=compiler)
            assert made == [False, False]
        made.clear()


def test_a_kernel_without_btf(compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vmlinux, "BTF_PATH", str(tmp_path / "nothing"))
    with pytest.raises(NotSupported, match=r"put a vmlinux.h beside the source.*CONFIG_DEBUG_INFO_BTF=y"):
        compile(SOURCE, compiler=compiler)
    assert compile("int no_need;\nint of_it;\n", compiler=compiler)


def test_reach() -> None:
    source = b'#include "no.h"\n  #  include <sys/none.h>\n// include "comment.h"\nstruct a *b;\n#include_next "n.h"\n'
    reached = reach(source, "/nowhere", [])
    assert reached.missing == {"no.h", "sys/none.h", "n.h"}
    assert {"struct", "a", "b"} <= reached.identifiers


def test_reach_follows_each_header_once(tmp_path: Path) -> None:
    (tmp_path / "a.h").write_text('#include "a.h"\n#include "sub/b.h"\nint in_a;\n')
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.h").write_text('#include "c.h"\nint in_b;\n')
    (tmp_path / "sub" / "c.h").write_text("int in_c;\n")
    reached = reach(b"#include <a.h>\n#include <c.h>\n", "/nowhere", [str(tmp_path)])
    assert {"in_a", "in_b", "in_c"} <= reached.identifiers
    assert reached.missing == {"c.h"}  # in angle brackets it is not beside anything


def test_search_path() -> None:
    flags = ["-O2", "-isystem", "/s", "-I/i", "-DX=1", "-iquote/q", "-I", "/j", "-idirafter", "/d", "-isystem/t", "-I"]
    assert search_path(flags) == ["/q", "/i", "/j", "/s", "/t", "/d"]


def test_every_type_is_offered_whole() -> None:
    text = vmlinux.header_text()
    assert len(re.findall(r"^struct \w+ \{$", text, re.MULTILINE)) > 2000
    assert text.count("__VMLINUX_H__") >= 2


OWN_KFUNCS = """#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "kfuncs.h"
extern struct task_struct *bpf_task_from_pid(int pid) __ksym;
%s
extern void bpf_task_release(
    struct task_struct *task
) __attribute__((weak)) __attribute__((section(".ksyms")));
SEC("syscall") int p(void *ctx)
{
    struct task_struct *task = bpf_task_from_pid(1);
    if (task) { bpf_task_release(task); bpf_cgroup_release(bpf_cgroup_acquire(0)); }
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize("pasted", [False, True])
def test_a_source_may_declare_kernel_functions_itself(compiler: Compiler, tmp_path: Path, pasted: bool) -> None:
    (tmp_path / "kfuncs.h").write_text("extern void *bpf_cgroup_acquire(void *cgrp) __weak __ksym;\n")
    # A type whose name is put together is in the whole header alone.
    more = "#define S struct\n#define P(a, b) a##b\nint size = sizeof(S P(request, _queue));" if pasted else ""
    source = tmp_path / "own.bpf.c"
    source.write_text(OWN_KFUNCS % more)
    spec = ObjectSpec.from_bytes(compile(source, compiler=compiler))
    wanted = {"bpf_task_from_pid", "bpf_task_release", "bpf_cgroup_acquire", "bpf_cgroup_release"}
    assert {name for name, extern in spec.externs.items() if extern.function} == wanted


def test_what_counts_as_a_declaration() -> None:
    text = b"""
    extern int one(int (*f)(int), void *p) __ksym; extern int two(void) __weak __ksym; void calls(void) { three(1); }
    extern int four(void); extern int five __ksym; int six(void) __attribute__((section(".ksyms")));
    static int seven(int x) { return x; } extern int eight(void) __ksym;
    """
    assert reach(text, "/nowhere", []).kfuncs == {"one", "two", "six", "eight"}


def test_a_typedef_of_an_enum_without_a_name(compiler: Compiler, made: list[bool]) -> None:
    source = """#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
SEC("raw_tp/x") int p(void *ctx) { socket_state s = SS_FREE; return bpf_core_enum_value(socket_state, SS_CONNECTED) + s; }
char LICENSE[] SEC("license") = "GPL";
"""
    assert compile(source, compiler=compiler)
    assert made == [False]


def test_a_name_the_kernel_has_too(compiler: Compiler) -> None:
    body = 'struct task_struct { int mine; };\nSEC("syscall") int p(void *ctx) { struct task_struct key = {}; return key.mine; }\n'
    with pytest.raises(CompileError, match="hint: the kernel has a type or function 'task_struct' too") as caught:
        compile('#include "vmlinux.h"\n#include <bpf/bpf_helpers.h>\n' + body, compiler=compiler)
    assert "hint" not in caught.value.stderr


def test_a_header_of_another_kernel_beside_the_source(compiler: Compiler, tmp_path: Path) -> None:
    (tmp_path / "vmlinux.h").write_text(
        "#define __VMLINUX_H__\ntypedef unsigned int __u32; typedef unsigned long long __u64;\n"
    )
    source = tmp_path / "a.bpf.c"
    source.write_text('#include "vmlinux.h"\nint f(struct task_struct *t) { return t->pid; }\n')
    with pytest.raises(
        CompileError, match=f"hint: {tmp_path}/vmlinux.h is included, not one of this kernel: move it away"
    ):
        compile(source, compiler=compiler)
