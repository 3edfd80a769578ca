"""Loading and attaching: programs fire, refusals say why, nothing stays behind."""

from __future__ import annotations

import errno
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Kind
from bpf2py.kernel.syscall import Fd

pytestmark = pytest.mark.kernel

FIRES = """#include "vmlinux.h"
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
__u32 pid;
__u64 classic, raw, typed, parent;
SEC("tracepoint/syscalls/sys_enter_getppid")
int by_tracepoint(void *ctx)
{
    if (bpf_get_current_pid_tgid() >> 32 == pid)
        classic++;
    return 0;
}
SEC("raw_tp/sys_enter")
int by_raw(struct bpf_raw_tracepoint_args *ctx)
{
    if (bpf_get_current_pid_tgid() >> 32 == pid && ctx->args[1] == 110)
        raw++;
    return 0;
}
SEC("tp_btf/sys_enter")
int BPF_PROG(by_type, struct pt_regs *regs, long number)
{
    struct task_struct *task = bpf_get_current_task_btf();
    if (task->tgid == pid && number == 110) {
        typed++;
        parent = task->real_parent->tgid;
    }
    return 0;
}
"""
SIMPLE = """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); }
    counts SEC(".maps");
SEC("%s")
int count(void *ctx)
{
    __u32 key = 0;
    __u64 one = 1;
    bpf_map_update_elem(&counts, &key, &one, BPF_ANY);
    return 0;
}
"""
REJECTED = """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); }
    counts SEC(".maps");
SEC("tracepoint/syscalls/sys_enter_getppid")
int count(void *ctx)
{
    __u32 key = 0;
    __u64 *value = bpf_map_lookup_elem(&counts, &key);
    *value += 1; /* not compared with NULL */
    return 0;
}
"""


def test_programs_fire_while_attached(build: Callable[[str], bpf2py.ObjectSpec], tracefs: Path) -> None:
    spec = build(FIRES)
    spec.variables["pid"].value = os.getpid()
    if os.uname().machine != "x86_64":
        return  # the number of getppid differs
    with bpf2py.load(spec) as obj:

        def counts() -> list[int]:
            return [obj.variables[name].value for name in ("classic", "raw", "typed")]

        os.getppid()
        assert counts() == [0, 0, 0]
        links = obj.attach()
        assert [link.hook for link in links] == [
            "tracepoint/syscalls/sys_enter_getppid", "raw_tp/sys_enter", "tp_btf/sys_enter",
        ]  # fmt: skip
        os.getppid()
        os.getppid()
        assert counts() == [2, 2, 2]
        parent = obj.variables["parent"].value
        assert parent == os.getppid()
        links[0].close()
        before = counts()
        os.getppid()
        assert counts() == [before[0], before[1] + 1, before[2] + 1]  # the closed one no longer fires
        with obj.programs["by_tracepoint"].attach():
            os.getppid()
        assert counts()[0] == before[0] + 1


def test_leaving_the_block_closes_everything(
    build: Callable[[str], bpf2py.ObjectSpec], tracefs: Path, assert_no_leaks: Any
) -> None:
    spec = build(FIRES)
    with assert_no_leaks():
        with bpf2py.load(spec) as obj:
            program_id = obj.programs["by_type"].info.id
            links = obj.attach()
            assert obj.links == links
            assert len(links) == 3
            assert obj.variables["typed"].value >= 0
        assert obj.closed
        assert all(link.closed for link in links)
        assert obj.links == []
        with pytest.raises(bpf2py.ClosedError, match="the object is closed"):
            obj.attach()
        with pytest.raises(bpf2py.ClosedError, match="program by_raw: the program is closed"):
            obj.programs["by_raw"].attach()
    assert not program_exists(program_id)


def program_exists(ident: int) -> bool:
    from bpf2py.kernel.objects import open_id
    from bpf2py.uapi.commands import Command

    found = open_id(Command.PROG_GET_FD_BY_ID, ident)
    return isinstance(found, Fd)


def link_exists(ident: int) -> bool:
    from bpf2py.kernel.objects import open_id
    from bpf2py.uapi.commands import Command

    found = open_id(Command.LINK_GET_FD_BY_ID, ident)
    return isinstance(found, Fd)


def test_a_killed_process_leaves_nothing_attached(
    compile_object: Callable[[str], bytes], tmp_path: Path, tracefs: Path
) -> None:
    path = tmp_path / "fires.bpf.o"
    path.write_bytes(compile_object(FIRES))
    script = """
import sys
import bpf2py
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Kind
from bpf2py.kernel.syscall import Fd
obj = bpf2py.load(sys.argv[1])
links = obj.attach()
print(*[program.info.id for program in obj.programs.values()], *[link.info["id"] for link in links], flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        numbers = [int(word) for word in process.stdout.readline().split()]
        programs, links = numbers[:3], numbers[3:]
        assert len(links) == 3
        assert all(map(program_exists, programs))
        assert all(map(link_exists, links))
        process.send_signal(signal.SIGKILL)
    # The kernel frees links after a grace period, which is soon but not at once.
    for _ in range(1000):
        if not any(map(program_exists, programs)) and not any(map(link_exists, links)):
            break
        subprocess.run(["true"], check=True)
    assert not any(map(program_exists, programs))
    assert not any(map(link_exists, links))


def test_the_verifier_says_where_and_why(
    build: Callable[[str], bpf2py.ObjectSpec], assert_no_leaks: Callable[[], Any]
) -> None:
    spec = build(REJECTED)
    with assert_no_leaks(), pytest.raises(bpf2py.VerifierError) as caught:
        bpf2py.load(spec)
    error = caught.value
    assert error.errno == errno.EACCES
    assert error.source_line is not None
    assert "*value += 1; /* not compared with NULL */" in error.source_line
    assert error.source_line.split(":")[0].endswith(".c")
    assert error.hint is not None
    assert "compare the pointer with NULL" in error.hint
    assert "map_value_or_null" in error.summary
    assert error.summary in error.log
    assert "call bpf_map_lookup_elem" in error.log
    lines = str(error).splitlines()
    assert lines[0].startswith("program count: load: the verifier rejected it: R")
    assert error.source_line in str(error)
    assert "hint: compare the pointer with NULL" in str(error)


@pytest.mark.parametrize(
    ("body", "words", "hint"),
    [
        ("for (;;) { if (bpf_ktime_get_ns() == 5) break; } return 0;", "", "bound the loop"),
        ("int i = bpf_get_prandom_u32(); return table[i];", "", "bound the index"),
        ("return bpf_get_attach_cookie((void *)0);", "", None),
    ],
    ids=["loop", "index", "context"],
)
def test_other_rejections(build: Callable[[str], bpf2py.ObjectSpec], body: str, words: str, hint: str | None) -> None:
    source = (
        f'static volatile int table[16]; SEC("tracepoint/syscalls/sys_enter_getppid") int count(void *ctx) {{ {body} }}'
    )
    spec = build(source)
    with pytest.raises(bpf2py.VerifierError, match="program count: load: the verifier rejected it: ") as caught:
        bpf2py.load(spec)
    assert words in str(caught.value)
    assert caught.value.log
    if hint is not None:
        assert hint in (caught.value.hint or ""), str(caught.value) + caught.value.log[-500:]


def test_a_licence_that_is_not_gpl(compile_bpf: Callable[[str], bytes]) -> None:
    source = """
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    char LICENSE[] SEC("license") = "Proprietary";
    SEC("tracepoint/syscalls/sys_enter_getppid")
    int count(void *ctx) { bpf_printk("hello"); return 0; }
    """
    with pytest.raises(bpf2py.VerifierError, match="GPL") as caught:
        bpf2py.load(compile_bpf(source))
    assert 'char LICENSE[] SEC("license") = "GPL";' in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("tracepoint/syscalls/sys_enter_execv", "sys_enter_execve"),
        ("tracepoint/syscall/sys_enter_execve", "syscalls"),
        ("tracepoint/sys_enter_execve", "category/name"),
        ("raw_tp/sched_swich", "sched_switch"),
    ],
)
def test_a_misspelt_tracepoint(
    build: Callable[[str], bpf2py.ObjectSpec], tracefs: Path, assert_no_leaks: Any, section: str, words: str
) -> None:
    spec = build(SIMPLE % section)
    with assert_no_leaks(), bpf2py.load(spec) as obj, pytest.raises(bpf2py.AttachError) as caught:
        obj.attach()
    assert str(caught.value).startswith("program count: attach: ")
    assert words in str(caught.value)


def test_a_misspelt_typed_tracepoint(build: Callable[[str], bpf2py.ObjectSpec], assert_no_leaks: Any) -> None:
    spec = build(SIMPLE % "tp_btf/sched_swich")
    with assert_no_leaks(), pytest.raises(bpf2py.BpfError) as caught:
        bpf2py.load(spec)
    assert "sched_swich" in str(caught.value)
    assert "sched_switch" in str(caught.value)


def test_one_bad_hook_detaches_the_others(build: Callable[[str], bpf2py.ObjectSpec], tracefs: Path) -> None:
    source = """
    SEC("raw_tp/sys_enter") int first(void *ctx) { return 0; }
    SEC("raw_tp/sys_entr") int second(void *ctx) { return 0; }
    """
    with bpf2py.load(build(source)) as obj:
        with pytest.raises(bpf2py.AttachError, match="program second: attach: "):
            obj.attach()
        assert obj.links == []
        second = obj.programs["second"].spec
        assert second is not None
        second.autoattach = False
        assert [link.program for link in obj.attach()] == ["first"]


def test_nothing_to_attach(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    with (
        bpf2py.load(build(SIMPLE % "syscall")) as obj,
        pytest.raises(bpf2py.AttachError, match="no program can be attached by its section name"),
    ):
        obj.attach()


def test_autoload(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    spec = build(FIRES)
    spec.programs["by_raw"].autoload = False
    with bpf2py.load(spec) as obj:
        assert list(obj.programs) == ["by_tracepoint", "by_type"]
        with pytest.raises(KeyError, match="no program 'by_raw'; there are: "):
            obj.programs["by_raw"]


def test_fentry_where_trampolines_are_refused(build: Callable[[str], bpf2py.ObjectSpec], assert_no_leaks: Any) -> None:
    spec = build(SIMPLE % "fentry/do_nanosleep")
    from bpf2py.kernel.probes import Probes

    permitted = Probes.run().trampolines
    message = ""
    with assert_no_leaks():
        try:
            bpf2py.load(spec).close()
        except bpf2py.PermissionDenied as error:
            message = str(error)
    if permitted:
        assert message == ""
    else:
        assert message.startswith("program count: load: the kernel refuses BPF tracing trampolines (fentry, fexit,")
        assert "MEMLOCK" not in message


def test_an_unknown_section(build: Callable[[str], bpf2py.ObjectSpec], assert_no_leaks: Any) -> None:
    spec = build(SIMPLE % "tracepont/syscalls/sys_enter_getppid")
    with (
        assert_no_leaks(),
        pytest.raises(
            bpf2py.ObjectError, match=r'program count: .*did you mean SEC\("tracepoint/syscalls/sys_enter_getppid"\)\?'
        ),
    ):
        bpf2py.load(spec)
    spec.programs["count"].type = bpf2py.ProgramType.TRACEPOINT
    with bpf2py.load(spec) as obj, obj.programs["count"].attach(target="syscalls/sys_enter_getppid") as link:
        os.getppid()
        assert link.hook == "tracepoint/syscalls/sys_enter_getppid"
        assert obj.maps["counts"].snapshot() == {0: 1}


def test_loading_the_wrong_things(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.bpf\.c"):
        bpf2py.load(tmp_path / "none.bpf.c")
    with pytest.raises(FileNotFoundError, match=r"none\.bpf\.o"):
        bpf2py.load(tmp_path / "none.bpf.o")
    (tmp_path / "text.o").write_text("hello\n" * 100)
    for wrong in (tmp_path / "text.o", b"", b"\x7fELF", sys.executable, tmp_path):
        with pytest.raises((bpf2py.ObjectError, IsADirectoryError)):
            bpf2py.load(wrong)
    with pytest.raises(bpf2py.ObjectError, match="load\\(\\) takes a path"):
        bpf2py.load("int x;\nint y;")
    (tmp_path / "bad.bpf.c").write_text("int x = ;\n")
    with pytest.raises(bpf2py.CompileError, match=r"bad\.bpf\.c:1:9: error: "):
        bpf2py.load(tmp_path / "bad.bpf.c")
    with pytest.raises(bpf2py.NotSupported, match="there is no backend 'kernal'"):
        bpf2py.load(b"", backend="kernal")


def test_one_spec_loaded_twice_differently(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    spec = build(SIMPLE % "raw_tp/sys_enter")
    with bpf2py.load(spec) as first:
        spec.maps["counts"].max_entries = 100
        with bpf2py.load(spec) as second:
            assert (first.maps["counts"].max_entries, second.maps["counts"].max_entries) == (4, 100)
            second.programs["count"].test_run()
            assert (first.maps["counts"].count(), second.maps["counts"].count()) == (0, 1)


UNPRIVILEGED = """
import importlib, os, sys  # all that is needed, because this Python may be in a directory only root can read
import bpf2py, bpf2py.object, bpf2py.kernel.backend, bpf2py.kernel.environment
from bpf2py import PermissionDenied
with open(sys.argv[1], "rb") as file:
    data = file.read()
os.setgroups([])
os.setuid(65534)
try:
    bpf2py.load(data)
except PermissionDenied as error:
    print(error)
"""


def test_unprivileged(compile_object: Callable[[str], bytes], tmp_path: Path) -> None:
    """Without any right the message names the capabilities, not the memory limit."""
    path = tmp_path / "simple.bpf.o"
    path.write_bytes(compile_object(SIMPLE % "tracepoint/syscalls/sys_enter_getppid"))
    done = subprocess.run([sys.executable, "-c", UNPRIVILEGED, str(path)], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.startswith("map counts: create: ")
    assert "CAP_BPF" in done.stdout
    assert "MEMLOCK" not in done.stdout.upper()


REFUSED_TYPES = """#include "vmlinux.h"
struct { __uint(type, BPF_MAP_TYPE_TASK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, int); __type(value, long); }
    stored SEC(".maps");
int written;
static long each(__u32 i, void *ctx) { written += i; return 0; }
SEC("raw_tp/sys_enter") int loops(void *ctx) { bpf_loop(3, each, 0, 0); return 0; }
SEC("raw_tp/sys_enter") int plain(void *ctx) { written++; return 0; }
"""


def with_wrong_types(spec: bpf2py.ObjectSpec) -> bpf2py.ObjectSpec:
    """The spec with an integer that has more bits than bytes, as kernels refuse it."""
    assert spec.types is not None
    data = bytearray(spec.types.data)
    header, types = struct.unpack_from("<II", data, 4)
    at = header + types + spec.types.record_offset(spec.types.find("int", Kind.INT))
    data[at + 12] = 77
    spec.types = Btf(bytes(data))
    return spec


def test_types_the_kernel_refuses_are_warned_of(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    spec = with_wrong_types(build(REFUSED_TYPES))
    del spec.maps["stored"]
    spec.programs["loops"].autoload = False
    with pytest.warns(RuntimeWarning, match=r"the kernel refused the object's BTF: \[\d+\] INT int") as caught:
        obj = bpf2py.load(spec)
    obj.close()
    assert caught[0].filename == __file__
    assert len(obj.warnings) == 1


def test_refused_types_are_named_by_what_fails_without_them(
    build: Callable[[str], bpf2py.ObjectSpec], refused: Callable[..., Any]
) -> None:
    spec = with_wrong_types(build(REFUSED_TYPES))
    with refused(bpf2py.errors.MapCreateError, errno.EINVAL, "stored", "refused the object's BTF: [", "INT int"):
        bpf2py.load(spec)
    del spec.maps["stored"]
    with refused(bpf2py.errors.VerifierError, errno.EINVAL, "program loops", "refused the object's BTF: [", "INT int"):
        bpf2py.load(spec)


def test_taken_types_are_not_blamed(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    spec = build(REFUSED_TYPES)
    spec.maps["stored"].max_entries = 5
    with pytest.raises(bpf2py.errors.MapCreateError) as caught:
        bpf2py.load(spec)
    assert "types" not in str(caught.value)
    with pytest.raises(bpf2py.VerifierError) as rejected:
        bpf2py.load(build(REJECTED))
    assert "types" not in str(rejected.value)
