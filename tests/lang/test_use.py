"""Programs in Python wherever programs in C are taken, and what tools make of them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine, Task
from bpf2py.lang.programs import ProgramDef
from bpf2py.lang.translate import to_c

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples" / "python"
OPENAT = "tracepoint/syscalls/sys_enter_openat"


def run(*arguments: object) -> str:
    """What a command prints."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], capture_output=True, text=True, check=True
    ).stdout


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_importing_a_program_does_nothing_and_calling_it_explains_itself() -> None:
    opens = module(EXAMPLES / "opens.py")
    assert isinstance(opens.on_open, ProgramDef)
    with pytest.raises(TypeError, match=r"on_open is an eBPF program .* bpf2py.load\('opens.py'\)"):
        opens.on_open(None)
    assert opens.on_open.run(args=[0, "/etc/hosts"]).return_value == 0
    with bpf2py.load(opens, "engine") as obj:
        assert list(obj.programs) == ["on_open"]


def test_the_generated_names_are_the_tables() -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "lang_stubs.py", "--check"], check=True)


def test_python_links_with_c(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "from bpf2py.lang import *\ncounts = Hash[u32, u64](max_entries=8)\n@syscall\n"
        "def first(ctx: Context) -> int:\n    counts[1] += 2\n    return 0\n"
    )
    (tmp_path / "b.bpf.c").write_text(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
        "struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, __u64); }"
        ' other SEC(".maps");\nSEC("syscall") int second(void *ctx) { return 7; }\nchar LICENSE[] SEC("license") = "GPL";\n'
    )
    with bpf2py.load([tmp_path / "a.py", tmp_path / "b.bpf.c"], "engine") as obj:
        assert obj.programs["first"].test_run().return_value == 0
        assert obj.programs["second"].test_run().return_value == 7
        assert obj.maps["counts"][1] == 2


def test_a_cached_program_is_not_translated_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BPF2PY_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "opens.py"
    path.write_text((EXAMPLES / "opens.py").read_text())
    first = bpf2py.compile(path)
    monkeypatch.setattr("bpf2py.lang.translate.translated", lambda *_: pytest.fail("translated again"))
    assert bpf2py.compile(path) == first
    path.write_text(path.read_text().replace("10_240", "64"))
    with pytest.raises(pytest.fail.Exception, match="translated again"):
        bpf2py.compile(path)


@pytest.mark.kernel
def test_sources_of_the_kernels_tests_are_counted(tmp_path: Path) -> None:
    progs = tmp_path / "progs"
    progs.mkdir()
    (progs / "own.h").write_text('static void helped(void) { asm volatile ("r0 = 0"); }\n')
    for name, text in {
        "fine": 'SEC("xdp") int f(void *ctx) { bpf_ktime_get_ns(); bpf_task_from_pid(1); return 2; } /* asm */',
        "assembly": '#include "own.h"\nSEC("tc") int f(void *ctx) { helped(); return 0; }',
        "kfunc": 'extern int bpf_no_such(void) __ksym;\nSEC("tc") int f(void *ctx) { return bpf_no_such(); }',
        "hook": 'SEC("nowhere/at_all") int f(void *ctx) { return 0; }',
        "types": "struct only { int types; };",
    }.items():
        (progs / f"{name}.c").write_text(text)
    out = subprocess.run(
        [sys.executable, ROOT / "tools" / "selftests_covered.py", tmp_path, "--list"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "fine.c: covered\n" in out
    assert "assembly.c: assembly\n" in out
    assert "kfunc.c: function bpf_no_such (not in this kernel)\n" in out
    assert "hook.c: section nowhere\n" in out
    assert "5 sources, 4 of them with programs: 1 without a blocker\n" in out


def test_the_front_end_is_fast() -> None:
    text = (EXAMPLES / "latency.py").read_text()
    to_c(text, "latency.py")  # the kernel's types are read once
    started = time.process_time()
    for _ in range(5):
        to_c(text, "latency.py")
    assert (time.process_time() - started) / 5 < 1


def test_the_c_of_a_program_is_commented_with_its_lines(tmp_path: Path) -> None:
    text = to_c((EXAMPLES / "opens.py").read_bytes(), "opens.py", directives=False)
    assert "/* 25: event = events.reserve() */\n\tstruct Open *event = bpf_ringbuf_reserve(&events, " in text
    assert "#line" not in text
    assert "pid = bpf_get_current_pid_tgid() >> 32;" in text


@pytest.mark.parametrize("command", ["gen-c", "inspect"])
def test_commands_take_programs_in_python(command: str) -> None:
    text = run("bpf2py", command, EXAMPLES / "opens.py")
    assert "on_open" in text
    assert "counts" in text


def test_gen_makes_a_module_of_a_program(tmp_path: Path) -> None:
    run("bpf2py", "gen", "opens", EXAMPLES / "opens.py", "--output-dir", tmp_path)
    text = (tmp_path / "opens_bpfel.py").read_text()
    assert "class Open" in text
    compile(text, "opens_bpfel.py", "exec")


@pytest.mark.kernel
def test_stubs_of_kernel_types_are_typed(tmp_path: Path) -> None:
    text = run("bpf2py", "vmlinux", "--stubs", "iphdr", "--stubs", "task_struct")
    assert "class iphdr(Struct):" in text
    assert "real_parent: Ptr[task_struct]" in text
    compile(text, "vmlinux.pyi", "exec")


def test_a_debugger_sees_the_programs_own_lines() -> None:
    path = str(EXAMPLES / "opens.py")
    lines: list[int] = []

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if event == "line" and frame.f_code.co_filename == path:
            lines.append(frame.f_lineno)
        return trace

    engine = Engine(translator="python", task=Task(7))
    with bpf2py.load(path, engine) as obj:
        obj.attach()
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            engine.fire(OPENAT, args=[0, "/etc/hosts"])
        finally:
            sys.settrace(before)
        assert obj.maps["counts"][7] == 1
    text = (EXAMPLES / "opens.py").read_text().splitlines()
    assert max(lines) <= len(text), lines
    seen = {text[line - 1].strip() for line in lines}
    assert {"pid = current_tgid()", "event.pid = pid", "current_comm(event.comm)", "events.submit(event)"} <= seen
    assert "lost += 1" not in seen


def test_a_fault_in_a_translation_names_the_programs_line(tmp_path: Path) -> None:
    path = tmp_path / "wild.py"
    path.write_text(
        "from bpf2py.lang import *\ntable: array[u64, 4] = [1]\n@syscall\ndef f(ctx: Context) -> int:\n"
        "    i = ktime_get_ns() | (1 << 40)\n    table[i] = 3\n    return 0\n"
    )
    with (
        bpf2py.load(path, Engine(translator="python", clock=1)) as obj,
        pytest.raises(bpf2py.errors.ProgramFault) as caught,
    ):
        obj.programs["f"].run()
    assert (caught.value.source_line or "").startswith(f"{path}:6:")


def test_mypy_is_content_with_every_example() -> None:
    pytest.importorskip("mypy")
    assert "no issues found" in run("mypy", "--strict", *sorted(EXAMPLES.glob("*.py")))


def test_pyright_is_content_with_every_example(tmp_path: Path) -> None:
    pytest.importorskip("basedpyright")
    settings = {"typeCheckingMode": "standard", "include": [str(EXAMPLES)], "extraPaths": [str(ROOT / "src")]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    assert "0 errors" in run("basedpyright", "--project", tmp_path, "--pythonpath", sys.executable)
