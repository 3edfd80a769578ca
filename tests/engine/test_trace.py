"""Real events without privileges: a child under ptrace."""

from __future__ import annotations

import ctypes
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine
from bpf2py.engine.trace.child import TracedChild, can_fire
from bpf2py.engine.trace.events import sys_enter
from bpf2py.engine.trace.ptrace import knows_registers, named_registers

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).parent / "traced.bpf.c"


@pytest.fixture(scope="module")
def spec(compile_bpf: Callable[[str], bytes]) -> bpf2py.ObjectSpec:
    return bpf2py.ObjectSpec.from_bytes(compile_bpf(SOURCE.read_text()), "traced")


@pytest.fixture
def obj(spec: bpf2py.ObjectSpec) -> Iterator[Any]:
    with bpf2py.load(spec, backend=Engine()) as loaded:
        loaded.attach()
        yield loaded


def trace(obj: Any, *command: str, **options: Any) -> TracedChild:
    child = TracedChild(obj.backend, list(command), **options)
    child.run()
    assert not child.errors
    return child


def test_system_calls_with_their_arguments(obj: Any, tmp_path: Path) -> None:
    target = tmp_path / "file"
    reader, writer = os.pipe()
    child = trace(obj, "sh", "-c", f"echo hello > {target}; cat {target}; exit 3", stdout=writer)
    os.close(writer)
    with os.fdopen(reader) as stream:
        assert stream.read() == "hello\n"
    assert child.returncode == 3
    opened = {key.name for key in obj.maps["opened"]}
    assert str(target) in opened
    assert obj.variables["written"].value == 2 * len("hello\n")
    assert len(obj.maps["pending"]) == 0  # every openat that began has ended


def test_execs_forks_and_exits_of_the_whole_tree(obj: Any) -> None:
    child = trace(obj, "sh", "-c", "true; (sh -c 'exec /bin/true'); exit 0")
    executed = {os.path.basename(key.name): uid for key, uid in obj.maps["executed"].items()}
    assert {"sh", "true"} <= set(executed)
    assert set(executed.values()) == {os.getuid()}
    forks = dict(obj.maps["parents"].items())
    assert forks
    assert child.pid in forks.values()
    assert obj.variables["exits"].value == len(forks) + 1


def test_raw_tracepoints_have_registers(obj: Any) -> None:
    trace(obj, "true")
    enters, exits = obj.variables["raw_enters"].value, obj.variables["raw_exits"].value
    assert enters > 10
    assert enters - exits in (0, 1)  # exit_group does not return
    if os.uname().machine == "x86_64":
        assert obj.variables["wrong_arguments"].value == 0


def test_threads(obj: Any) -> None:
    code = "import threading; t = [threading.Thread(target=print) for _ in range(3)]; [x.start() for x in t]; [x.join() for x in t]"
    child = trace(obj, sys.executable, "-S", "-c", code, stdout=os.open(os.devnull, os.O_WRONLY))
    assert len(obj.maps["parents"]) == 3
    assert obj.variables["exits"].value == 4
    assert child.returncode == 0


def test_threads_that_are_ended_exit_as_well(obj: Any) -> None:
    """exit_group() kills the others, which then need not stop before they end."""
    code = (
        "import os, threading\nr, w = os.pipe()\nfor _ in range(20):\n"
        "  threading.Thread(target=os.read, args=(r, 1), daemon=True).start()\nos._exit(7)"
    )
    child = trace(obj, sys.executable, "-S", "-c", code)
    assert (child.returncode, obj.variables["exits"].value) == (7, 21)


def test_exits_without_a_stop_before_them(obj: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of threads that are killed on a busy machine."""
    handled = TracedChild._event
    monkeypatch.setattr(TracedChild, "_event", lambda self, *told: None if told[1] == "exit" else handled(self, *told))
    trace(obj, "sh", "-c", "true; (exit 3); (exit 4); exit 5")
    assert obj.variables["exits"].value == len(obj.maps["parents"]) + 1


def test_a_process_that_is_killed_exits(obj: Any) -> None:
    trace(obj, "sh", "-c", "kill -9 $$; sleep 100")
    assert obj.variables["exits"].value == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1])
def test_signals_reach_the_child(obj: Any, number: int) -> None:
    child = trace(obj, "sh", "-c", f"kill -{int(number)} $$; sleep 100")
    assert child.returncode == 128 + number


def test_signals_are_handled_as_without_a_tracer(obj: Any) -> None:
    assert trace(obj, "sh", "-c", "trap 'exit 7' USR1; kill -USR1 $$; sleep 100").returncode == 7
    stopped = "sh -c 'kill -STOP $$; exit 9' & p=$!; (while kill -CONT $p 2>/dev/null; do :; done) & wait $p"
    assert trace(obj, "sh", "-c", stopped).returncode == 9


def test_a_command_that_cannot_be_run(obj: Any) -> None:
    child = TracedChild(obj.backend, ["/nonexistent/command"])
    with pytest.raises(bpf2py.BpfError, match="cannot run /nonexistent/command: No such file"):
        child.run()


def test_other_children_of_the_process_are_left_alone(obj: Any) -> None:
    """What another thread starts is for that thread to wait for."""
    started, done = threading.Event(), threading.Event()
    codes: list[int] = []

    def other() -> None:
        process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
        started.set()
        done.wait(60)
        process.communicate(b"\n")
        codes.append(process.returncode)

    thread = threading.Thread(target=other)
    thread.start()
    started.wait(60)
    trace(obj, "true")
    done.set()
    thread.join()
    assert codes == [0]


def test_a_stopped_program_is_reported(compile_bpf: Callable[[str], bytes]) -> None:
    source = """#include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    long address;
    SEC("tracepoint/sched/sched_process_exec") int bad(void *ctx) { *(int *)address = 1; return 0; }
    char LICENSE[] SEC("license") = "GPL";"""
    with bpf2py.load(compile_bpf(source), backend=(engine := Engine())) as obj:
        obj.attach()
        child = TracedChild(engine, ["true"])
        assert child.run() == 0
        assert len(child.errors) == 1
        assert "null pointer" in next(iter(child.errors))


@pytest.mark.parametrize(
    ("hook", "possible"),
    [
        ("tracepoint/syscalls/sys_enter_openat", True),
        ("tracepoint/syscalls/sys_exit_newstat", os.uname().machine == "x86_64"),
        ("tracepoint/raw_syscalls/sys_enter", True),
        ("tracepoint/sched/sched_process_fork", True),
        ("raw_tracepoint/sys_exit", True),
        ("tracepoint/syscalls/sys_enter_nothing", False),
        ("tracepoint/sched/sched_switch", False),
        ("kprobe/do_unlinkat", False),
        ("xdp/any", False),
    ],
)
def test_what_a_child_can_fire(hook: str, possible: bool) -> None:
    assert can_fire(hook) is possible


EXECS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct { int pid; int tgid; int exit_code; unsigned long long start_time; } __attribute__((preserve_access_index));
struct enter { __u64 common; __s64 number; __u64 args[6]; };
struct leave { __u64 common; __s64 number; __s64 result; };
struct exec { __u64 common; __u32 filename; __s32 pid; __s32 old_pid; };
struct name { char text[120]; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4096); __type(key, struct name); __type(value, __u32); }
    asked SEC(".maps"), executed SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4096); __type(key, __u32); __type(value, __s32); }
    codes SEC(".maps"), results SEC(".maps");
long too_long;

SEC("tracepoint/syscalls/sys_enter_execve") int enter(struct enter *ctx)
{
	struct name name = {};
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	bpf_probe_read_user_str(name.text, sizeof(name.text), (void *)ctx->args[0]);
	bpf_map_update_elem(&asked, &name, &pid, BPF_ANY);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_execve") int leave(struct leave *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__s32 result = ctx->result;

	bpf_map_update_elem(&results, &pid, &result, BPF_ANY);
	return 0;
}

SEC("tracepoint/sched/sched_process_exec") int exec(struct exec *ctx)
{
	struct name name = {};
	__u32 pid = ctx->pid;

	bpf_probe_read_kernel_str(name.text, sizeof(name.text), (char *)ctx + (ctx->filename & 0xffff));
	bpf_map_update_elem(&executed, &name, &pid, BPF_ANY);
	return 0;
}

SEC("tracepoint/sched/sched_process_exit") int leaves(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 pid = bpf_get_current_pid_tgid();
	__s32 code = BPF_CORE_READ(task, exit_code);

	if (bpf_ktime_get_ns() - BPF_CORE_READ(task, start_time) > 600000000000ULL)
		__sync_fetch_and_add(&too_long, 1);
	bpf_map_update_elem(&codes, &pid, &code, BPF_ANY);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture(scope="module")
def execs(compile_bpf: Callable[[str], bytes]) -> bytes:
    return compile_bpf(EXECS)


@pytest.mark.parametrize("where", ["engine", pytest.param("kernel", marks=pytest.mark.kernel)])
def test_what_is_executed_and_how_it_ends(execs: bytes, where: str, tmp_path: Path, request: Any) -> None:
    """Names as execve() was given them, of scripts and links as well; exit codes and signals; the command's own execve."""
    if where == "kernel":
        request.getfixturevalue("tracefs")
    script, link = tmp_path / "script", tmp_path / "link"
    script.write_text("#!/bin/sh\nexit 5\n")
    script.chmod(0o755)
    link.symlink_to("/bin/true")
    command = ["/bin/sh", "-c", f"echo $$; {script}; {link}; (kill -KILL $(exec sh -c 'echo $PPID')); exit 3"]
    reader, writer = os.pipe()
    engine = Engine()
    with bpf2py.load(execs, backend=engine if where == "engine" else "kernel") as obj:
        obj.attach()
        if where == "engine":
            child = TracedChild(engine, command, stdout=writer)
            child.run()
            assert not child.errors
            pid = child.pid
        else:
            with subprocess.Popen(command, stdout=writer) as process:
                pid = process.pid
        os.close(writer)
        with os.fdopen(reader) as stream:
            assert int(stream.readline()) == pid
        executed = {key.text: value for key, value in obj.maps["executed"].items()}
        codes, results = dict(obj.maps["codes"].items()), dict(obj.maps["results"].items())
        asked = {key.text: value for key, value in obj.maps["asked"].items()}
        assert executed["/bin/sh"] == asked["/bin/sh"] == pid
        assert results[pid] == 0
        assert codes[pid] == 3 << 8
        assert codes[executed[str(script)]] == 5 << 8
        assert codes[executed[str(link)]] == 0
        assert asked[str(script)] == executed[str(script)]
        assert signal.SIGKILL in codes.values()
        assert where == "kernel" or obj.variables["too_long"].value == 0


def test_names_without_tracing_system_calls(execs: bytes, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nexit 5\n")
    script.chmod(0o755)
    with bpf2py.load(execs, backend=(engine := Engine())) as obj:
        link = obj.programs["exec"].attach()
        assert TracedChild(engine, [str(script)]).run() == 5
        assert [key.text for key in obj.maps["executed"]] == [str(script)]
        link.close()


def test_what_the_command_leaves_behind_goes_on(execs: bytes, tmp_path: Path) -> None:
    done, go = tmp_path / "done", tmp_path / "go"
    os.mkfifo(go)
    with bpf2py.load(execs, backend=(engine := Engine())) as obj:
        obj.attach()
        command = ["sh", "-c", f"(read line < {go}; echo $line > {done}) > /dev/null 2>&1 & exit 4"]
        assert TracedChild(engine, command).run() == 4
    with open(go, "w") as fifo:
        fifo.write("after the end\n")
    for _ in range(3000):
        if done.exists() and done.read_text():
            break
        select.select([], [], [], 0.02)
    assert done.read_text() == "after the end\n"


def test_registers_of_other_processors() -> None:
    """What AArch64's ptrace gives becomes its struct pt_regs, with the members that are not in it."""
    raw = struct.pack("<34Q", *range(100, 134))
    registers = named_registers("aarch64", raw)
    assert (registers["x0"], registers["x30"], registers["sp"], registers["pc"], registers["pstate"]) == (
        100,
        130,
        131,
        132,
        133,
    )
    event = sys_enter(1, "write", 64, (1, 0x7F00, 6, 0, 0, 0), registers)
    regs = event.arguments[0]
    assert isinstance(regs, bytes)
    assert struct.unpack_from("<34Q", regs) == tuple(range(100, 134))
    assert struct.unpack_from("<Qi", regs, 272) == (1, 64)
    assert len(regs) == 336
    assert not knows_registers("riscv64")


# -- the command line ----------------------------------------------------------------------------------------------


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bpf2py", "run", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **options)


COMMAND = ("sh", "-c", "for i in 1 2 3; do date; done; uname -r")


def test_run_on_the_engine() -> None:
    done = run("--backend", "engine", "examples/exec_counts.bpf.c", "--", *COMMAND)
    assert done.returncode == 0, done.stderr
    assert re.search(r"date +3 ", done.stdout)
    assert re.search(r"uname +1 ", done.stdout)
    assert "engine backend (as asked for): attached 1 of 1 programs" in done.stderr


def test_run_as_json_gives_the_exit_status() -> None:
    done = run("--backend", "engine", "--json", "examples/exec_counts.bpf.c", "--", "sh", "-c", "date; exit 5")
    assert done.returncode == 5, done.stderr
    report = json.loads(done.stdout)
    assert (report["backend"], report["exit_status"]) == ("engine", 5)
    assert {row["key"]["comm"]: row["value"]["count"] for row in report["maps"]["exec_counts"]["elements"]}.get(
        "date"
    ) == 1


def test_nothing_is_watched_silently(tmp_path: Path) -> None:
    source = tmp_path / "probe.bpf.c"
    source.write_text("""#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("kprobe/do_unlinkat") int probe(void *ctx) { return 0; }
char LICENSE[] SEC("license") = "GPL";
""")
    done = run("--backend", "engine", str(source), "--", "true")
    assert "warning: these never happen on the engine, use the kernel for them: kprobe/do_unlinkat" in done.stderr
    nothing = run("--backend", "engine", str(source))
    assert nothing.returncode == 1
    assert "its events are those of a command it runs" in nothing.stderr


def without_capabilities() -> None:
    """In a child: what is left of root without any capability, for good."""
    library = ctypes.CDLL(None, use_errno=True)
    for capability in range(64):
        library.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
    library.prctl(28, 0x2F, 0, 0, 0)  # PR_SET_SECUREBITS: root is nobody special
    library.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if library.capset(header, data):
        os._exit(99)


def same_table(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    assert re.search(r"date +3 ", done.stdout)
    assert re.search(r"uname +1 ", done.stdout)
    assert "engine backend (bpf() is not permitted: " in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="drops root's privileges")
def test_the_demo_without_capabilities(tmp_path: Path) -> None:
    environment = {**os.environ, "BPF2PY_CACHE_DIR": str(tmp_path)}
    same_table(run("examples/exec_counts.bpf.c", "--", *COMMAND, preexec_fn=without_capabilities, env=environment))


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_the_demo_as_an_unprivileged_user(tmp_path: Path) -> None:
    """As `nobody`, with a Python that user may run."""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == 0 and parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    nobody: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []}
    packages = [path for path in sys.path if path.endswith("site-packages")]
    environment = {
        **os.environ, "BPF2PY_CACHE_DIR": str(tmp_path), "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *packages]),
    }  # fmt: skip
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/python{version}"):
        try:
            probe = subprocess.run(
                [python, "-c", "import bpf2py, typer, numpy"], env=environment, cwd="/", capture_output=True, **nobody
            )
        except OSError:
            continue
        if probe.returncode == 0:
            break
    else:
        pytest.skip(f"no Python {version} that another user may run, with this project readable to it")
    command = [
        python,
        "-m",
        "bpf2py",
        "run",
        str(ROOT / "examples" / "exec_counts.bpf.c"),
        "--",
        *COMMAND,
    ]
    same_table(subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, **nobody))
