"""`bpf2py run` and `bpf2py vmlinux` as people start them."""

from __future__ import annotations

import ctypes
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kernel

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
COUNTS = str(EXAMPLES / "exec_counts.bpf.c")
COUNTER = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); __type(key, __u32); __type(value, __u64); }
    by_cpu SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); }
    totals SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
SEC("raw_tp/sys_enter")
int count(void *ctx)
{
    __u32 cpu = bpf_get_smp_processor_id(), index = 1;
    __u64 one = 1, *found = bpf_map_lookup_elem(&by_cpu, &cpu);
    if (found)
        __sync_fetch_and_add(found, 1);
    else
        bpf_map_update_elem(&by_cpu, &cpu, &one, BPF_NOEXIST);
    found = bpf_map_lookup_elem(&totals, &index);
    if (found)
        __sync_fetch_and_add(found, 1);
    return 0;
}
"""


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory, tracefs: Path) -> str:
    path = tmp_path_factory.mktemp("run") / "counter.bpf.c"
    path.write_text(COUNTER)
    return str(path)


def bpf2py(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "bpf2py", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)


def failed(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit status 1, nothing on stdout, one or two lines on stderr with these words."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("bpf2py: ")
    assert 1 <= len(done.stderr.splitlines()) <= 2, done.stderr
    for word in words:
        assert word in done.stderr


def test_with_a_command(tracefs: Path) -> None:
    done = bpf2py("run", COUNTS, "--", "sh", "-c", "/bin/true; /bin/true; echo from the command")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "from the command"
    assert re.match(r"exec_counts \(HASH, \d+ of 4096 elements\)", lines[1])
    assert lines[2].split() == ["comm", "count", "last_ns", "last_pid", "last_uid"]
    rows = {line.split()[0]: line.split() for line in lines[3:]}
    assert int(rows["true"][1]) >= 2
    assert (
        "kernel backend (bpf() is permitted): attached 1 of 1 programs: tracepoint/sched/sched_process_exec"
        in done.stderr
    )


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + signal.SIGTERM)])
def test_the_exit_status_is_the_commands(counter: str, script: str, status: int) -> None:
    assert bpf2py("run", counter, "--", "sh", "-c", script).returncode == status


def test_json_is_valid_and_complete(counter: str) -> None:
    done = bpf2py("run", counter, "--json", "--", "sh", "-c", "echo on stderr; exit 3")
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert report["backend"] == "kernel"
    assert (report["command"], report["exit_status"]) == (["sh", "-c", "echo on stderr; exit 3"], 3)
    assert report["seconds"] > 0
    assert set(report["maps"]) == {"by_cpu", "totals"}
    by_cpu, totals = report["maps"]["by_cpu"], report["maps"]["totals"]
    assert (by_cpu["type"], by_cpu["max_entries"]) == ("HASH", 64)
    assert {element["key"] for element in by_cpu["elements"]} <= set(range(os.cpu_count() or 1))
    assert [element["key"] for element in totals["elements"]] == [1]
    assert totals["elements"][0]["value"] > 0
    assert "on stderr" in done.stderr


def test_json_of_structs_and_names(tracefs: Path) -> None:
    done = bpf2py("run", COUNTS, "--json", "--", "/bin/true")
    elements = json.loads(done.stdout)["maps"]["exec_counts"]["elements"]
    (found,) = [element for element in elements if element["key"] == {"comm": "true"}]
    assert set(found["value"]) == {"count", "last_ns", "last_pid", "last_uid"}


def test_for_a_duration(counter: str) -> None:
    done = bpf2py("run", counter, "--duration", "0.2", "--interval", "0.05")
    assert done.returncode == 0
    assert "running for 0.2 s" in done.stderr
    lines = done.stdout.splitlines()
    assert any(re.fullmatch(r"totals\[1\] = \d+", line) for line in lines)  # plain lines while it runs
    assert sum(line.startswith("by_cpu (HASH, ") for line in lines) == 1  # one table at the end
    assert "totals (ARRAY, 1 of 4 elements are not zero)" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_duration_ends_the_command(counter: str) -> None:
    done = bpf2py("run", counter, "--duration", "0.1", "--json", "--", "sleep", "1000")
    assert done.returncode == 0
    assert json.loads(done.stdout)["maps"]["totals"]["elements"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("arguments", [[], ["--json"]], ids=["table", "json"])
def test_signals_end_it_with_the_final_view(counter: str, number: signal.Signals, arguments: list[str]) -> None:
    argv = [sys.executable, "-m", "bpf2py", "run", counter, *arguments]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "attached 1 of 1 programs" in process.stderr.readline()
        if not arguments:
            assert "press Ctrl-C to stop" in process.stderr.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert process.returncode == (130 if number == signal.SIGINT else 0)
    assert ("totals" in json.loads(out)["maps"]) if arguments else ("totals (ARRAY" in out)


def test_only_the_maps_asked_for(counter: str) -> None:
    done = bpf2py("run", counter, "--map", "totals", "--json", "--", "true")
    assert list(json.loads(done.stdout)["maps"]) == ["totals"]
    done = bpf2py(
        "run",
        counter,
        "--rows",
        "1",
        "--map",
        "by_cpu",
        "--",
        "sh",
        "-c",
        "for i in 1 2 3 4; do taskset -c 0 true; done",
    )
    assert len(done.stdout.splitlines()) <= 4
    failed(bpf2py("run", counter, "--map", "total", "--", "true"), "there is no map 'total'", "totals")


def test_errors_take_a_line_or_two(counter: str, tmp_path: Path, tracefs: Path) -> None:
    failed(bpf2py("run", str(tmp_path / "none.bpf.c"), "--", "true"), "none.bpf.c", "no such source file")
    failed(bpf2py("run", str(tmp_path / "none.bpf.o"), "--", "true"), "none.bpf.o", "no such file")
    failed(bpf2py("run", "opens.py"), "opens.py", "no such source file", "`bpf2py examples opens.py --copy .` writes")
    (tmp_path / "text.o").write_text("hello\n" * 50)
    failed(bpf2py("run", str(tmp_path / "text.o"), "--", "true"), "not an ELF file")
    failed(bpf2py("run", str(tmp_path), "--", "true"), str(tmp_path))
    failed(bpf2py("run", counter, "--", "/no/such/command"), "cannot run /no/such/command: No such file or directory")
    failed(bpf2py("run", counter, "--backend", "kernal", "--", "true"), "there is no backend 'kernal'")
    wrong = tmp_path / "wrong.bpf.c"
    wrong.write_text(COUNTER.replace("raw_tp/sys_enter", "tracepoint/syscalls/sys_enter_execv"))
    failed(bpf2py("run", str(wrong), "--", "true"), "no tracepoint syscalls/sys_enter_execv", "sys_enter_execve")


def test_what_compiler_and_verifier_say_is_shown(counter: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.bpf.c"
    bad.write_text("int x = ;\n")
    done = bpf2py("run", str(bad), "--", "true")
    assert done.returncode == 1
    assert "bad.bpf.c:1:9: error:" in done.stderr
    assert "Traceback" not in done.stderr
    bad.write_text(COUNTER.replace("if (found)\n        __sync", "__sync", 1).replace("else\n", ";\n", 1))
    done = bpf2py("run", str(bad), "--", "true")
    assert done.returncode == 1
    assert "program count: load: the verifier rejected it: " in done.stderr
    assert "hint: " in done.stderr
    assert "bad.bpf.c:" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 6


def test_wrong_usage(counter: str) -> None:
    for arguments in (["run"], ["run", "--duration", "soon", counter], ["nonsense"]):
        done = bpf2py(*arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def read_terminal(argv: list[str], until: Callable[[str], bool] | None = None) -> tuple[str, int]:
    """Run on a terminal of its own; what it showed, and the exit status. `until`: then press Ctrl-C."""
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        argv, stdin=child, stdout=child, stderr=child, env=environment, start_new_session=True, close_fds=True
    )
    os.close(child)
    shown = b""
    pressed = False
    try:
        while True:
            if not select.select([parent], [], [], 60)[0]:
                raise AssertionError(f"nothing more came for a minute: {shown!r}")
            try:
                data = os.read(parent, 65536)
            except OSError:  # the other side is closed
                break
            if not data:
                break
            shown += data
            if until is not None and not pressed and until(shown.decode("utf-8", "replace")):
                process.send_signal(signal.SIGINT)
                pressed = True
        return shown.decode("utf-8", "replace"), process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(parent)


def test_a_live_view_on_a_terminal(counter: str) -> None:
    argv = [sys.executable, "-m", "bpf2py", "run", counter, "--interval", "0.05"]
    shown, status = read_terminal(argv, until=lambda text: text.count("by_cpu (HASH") >= 3)
    assert status == 130
    assert "\x1b[" in shown  # the view is drawn over the one before
    assert "running for 0 s" in shown
    assert "totals (ARRAY" in shown
    assert "Traceback" not in shown


def test_output_of_the_command_above_the_live_view(counter: str) -> None:
    script = "echo first; sleep 0.2; echo second; exit 5"
    argv = [sys.executable, "-m", "bpf2py", "run", counter, "--interval", "0.05", "--", "sh", "-c", script]
    shown, status = read_terminal(argv)
    assert status == 5
    assert shown.index("first") < shown.index("second")
    assert shown.count("first") == 1
    assert "by_cpu (HASH" in shown[shown.index("second") :]


def test_no_live_view_when_not_wanted(counter: str) -> None:
    argv = [sys.executable, "-m", "bpf2py", "run", counter, "--no-live", "--", "echo", "hello"]
    shown, status = read_terminal(argv)
    assert status == 0
    assert "running for 0 s" not in shown
    assert "hello" in shown


def test_a_reader_that_leaves_early(counter: str) -> None:
    script = f"{sys.executable} -m bpf2py run {counter} -- sh -c 'sleep 0.1' | true"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_unprivileged(counter: str) -> None:
    def drop_capabilities() -> None:
        libc = ctypes.CDLL(None)
        for number in range(64):
            libc.prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP: what is executed then has none

    done = bpf2py("run", counter, "--", "true", preexec_fn=drop_capabilities)
    assert done.returncode == 0, done.stderr
    assert "engine backend (bpf() is not permitted: the process lacks CAP_BPF" in done.stderr
    failed(bpf2py("run", counter, preexec_fn=drop_capabilities), "its events are those of a command it runs")


def test_vmlinux() -> None:
    done = bpf2py("vmlinux")
    assert done.returncode == 0
    assert "struct task_struct {" in done.stdout
    assert len(done.stdout.splitlines()) > 10_000
    small = bpf2py("vmlinux", "--root", "task_struct").stdout
    assert "struct task_struct {" in small
    assert len(small) < len(done.stdout)
    failed(bpf2py("vmlinux", "--root", "no_such_struct"), "no_such_struct")
    failed(bpf2py("vmlinux", "--btf", "/no/such/file"), "/no/such/file")
    failed(bpf2py("vmlinux", "--btf", COUNTS))
