"""How `bpf2py run` ends: signals, time, and what the command started; and maps that cannot be shown."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

BACKENDS = ["engine", pytest.param("kernel", marks=pytest.mark.kernel)]
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_CGROUP_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32); }
    cgroups SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u64); }
    totals SEC(".maps");
SEC("raw_tp/sys_enter") int count(void *ctx)
{
    __u32 index = 1;
    __u64 *found = bpf_map_lookup_elem(&totals, &index);

    if (found)
        __sync_fetch_and_add(found, 1);
    return bpf_current_task_under_cgroup(&cgroups, 0);
}
char LICENSE[] SEC("license") = "GPL";
"""
# A shell whose grandchildren ignore SIGTERM, sleep in a session of their own, or are nobody's children any more.
TREE = """
echo "shell $$"
(trap '' TERM; while :; do sleep 1000; done) & echo "stubborn $!"
setsid sleep 1000 & echo "session $!"
sh -c 'sleep 1000 & echo "orphan $!"'
echo ready
wait
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ends") / "ends.bpf.c"
    path.write_text(SOURCE)
    return str(path)


def argv(backend: str, source: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "bpf2py", "run", "--backend", backend, source, *arguments]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(condition: Any, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("how", ["INT", "TERM", "KILL", "duration"])
def test_everything_the_command_started_ends(source: str, backend: str, how: str, tmp_path: Path) -> None:
    output = tmp_path / "output"
    options = ["--duration", "2"] if how == "duration" else []
    with output.open("w") as file:
        command = argv(backend, source, *options, "--", "sh", "-c", TREE)
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE, text=True)
    if how != "duration":
        wait_for(lambda: "ready" in output.read_text(), "the command did not start")
        process.send_signal(getattr(signal, f"SIG{how}"))
    _, err = process.communicate(timeout=100)
    assert process.returncode == {"KILL": -signal.SIGKILL, "INT": 130}.get(how, 0), err
    assert "Traceback" not in err
    pids = {name: int(pid) for name, pid in re.findall(r"^(\w+) (\d+)$", output.read_text(), re.M)}
    assert set(pids) == {"shell", "stubborn", "session", "orphan"}
    for name, pid in pids.items():
        wait_for(lambda pid=pid: not lives(pid), f"{name} goes on")
    if how == "KILL":
        return
    assert re.search(rf"ended the command: .*sh \({pids['shell']}\)", err)
    assert f"({pids['session']})" in err
    assert "totals (ARRAY, 1 of 2" in output.read_text()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_second_signal_ends_it_at_once(source: str, backend: str, tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("w") as file:
        command = argv(backend, source, "--", "sh", "-c", "trap '' TERM INT; echo ready; while :; do sleep 1000; done")
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL)
    wait_for(lambda: "ready" in output.read_text(), "the command did not start")
    begin = time.monotonic()
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        assert time.monotonic() < begin + 60
    assert process.returncode in (0, -signal.SIGINT, 130)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_the_command_leaves_behind_is_told(source: str, backend: str, tmp_path: Path) -> None:
    # It is "sh" until it has become the other program.
    script = "sleep 1000 > /dev/null 2>&1 & until grep -q sleep /proc/$!/comm; do :; done; echo $!; exit 6"
    done = subprocess.run(argv(backend, source, "--", "sh", "-c", script), capture_output=True, text=True, timeout=60)
    pid = int(done.stdout.split()[0])
    try:
        assert done.returncode == 6
        assert f"still running, started by the command: sleep ({pid})" in done.stderr
        assert lives(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("backend", BACKENDS)
def test_signals_at_any_time(source: str, backend: str, tmp_path: Path) -> None:
    """Whenever a signal comes, the tool ends, and the command with it."""
    chance = random.Random(7)
    mark = f"bpf2py-{os.getpid()}-{backend}"
    command = argv(backend, source, "--json", "--", sys.executable, "-S", "-c", "import time; time.sleep(1000)", mark)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL) * 3:
        with (tmp_path / "err").open("w+") as err:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=err)
            time.sleep(chance.uniform(0, 1.5))
            process.send_signal(number)
            process.wait(60)
            err.seek(0)
            assert "Exception ignored" not in err.read()

        def left() -> list[int]:
            found = []
            for entry in Path("/proc").iterdir():
                try:
                    if entry.name.isdecimal() and mark.encode() in (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
            return [pid for pid in found if lives(pid)]

        wait_for(lambda: not left(), f"after {number.name}")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_map_that_cannot_be_read_hides_no_other(source: str, backend: str, as_json: bool) -> None:
    options = ["--json"] if as_json else []
    done = subprocess.run(argv(backend, source, *options, "--", "true"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"warning: not shown: map cgroups: ", done.stderr)
    if as_json:
        assert list(json.loads(done.stdout)["maps"]) == ["totals"]
    else:
        assert "totals (ARRAY, 1 of 2" in done.stdout


@pytest.mark.parametrize("backend", BACKENDS)
def test_asking_for_a_map_without_elements_is_an_error(source: str, backend: str) -> None:
    done = subprocess.run(argv(backend, source, "--map", "ring", "--", "true"), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "map ring: a RINGBUF has no elements to list" in done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_closed_standard_output(source: str, backend: str) -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *argv(backend, source, "--", "true")]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_who_presses_many_times(source: str, backend: str) -> None:
    """Signals that come while the interpreter ends are not shown as errors."""
    for _ in range(3):
        command = argv(backend, source, "--", "sh", "-c", "echo ready; exec sleep 1000")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "ready\n"
            while process.poll() is None:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.001)  # else handling signals is all that the process comes to
            err = process.stderr.read()
        assert "Traceback" not in err, err
        assert process.returncode in (0, 130, -signal.SIGINT), err
