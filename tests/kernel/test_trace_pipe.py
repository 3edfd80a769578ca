"""bpf_printk() lines from the kernel's trace pipe."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

import bpf2py
from bpf2py.kernel.trace_pipe import PREFIX, TraceLine, TracePipe, parse
from bpf2py.kernel.tracefs import Tracefs

pytestmark = pytest.mark.kernel
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tracepoint/syscalls/sys_enter_getpgid") int asked(void *ctx)
{
    bpf_printk("asked by %d", (int)(bpf_get_current_pid_tgid() >> 32));
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture
def printing(compile_bpf: Callable[[str], bytes]) -> bpf2py.ObjectSpec:
    return bpf2py.ObjectSpec.from_bytes(compile_bpf(SOURCE))


def instances() -> list[str]:
    with Tracefs() as tracefs:
        return [name for name in tracefs.listdir("instances") if name.startswith(PREFIX)]


def test_every_reader_gets_every_line(printing: bpf2py.ObjectSpec) -> None:
    with bpf2py.load(printing, "kernel") as obj, TracePipe() as one, TracePipe() as two:
        obj.attach()
        for _ in range(3):
            os.getpgid(0)
        mine = f"asked by {os.getpid()}"
        for pipe in (one, two):
            found = [line for line in pipe.lines(0) if line.text == mine]
            assert len(found) == 3
            assert {line.pid for line in found} == {os.getpid()}
            assert all(line.cpu >= 0 and line.seconds > 0 for line in found)
        one.close()
        with pytest.raises(bpf2py.ClosedError):
            one.read()
    assert instances() == []


def test_a_reader_is_woken(printing: bpf2py.ObjectSpec) -> None:
    with bpf2py.load(printing, "kernel") as obj:
        obj.attach()
        lines = bpf2py.trace_pipe(timeout=30)
        script = "import os, time\nwhile True: os.getpgid(0); time.sleep(0.05)"
        with subprocess.Popen([sys.executable, "-S", "-c", script]) as process:
            try:
                assert any(line.text == f"asked by {process.pid}" for line in lines)
            finally:
                process.kill()
        lines.close()  # type: ignore[attr-defined]
    assert instances() == []


def test_what_a_killed_reader_left_is_removed() -> None:
    script = "from bpf2py.kernel.trace_pipe import TracePipe; p = TracePipe(); print(p._name, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        TracePipe().close()
        assert instances() == [name]  # in use
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert instances() == [name]
    TracePipe().close()
    assert instances() == []


def test_the_command(printing: bpf2py.ObjectSpec) -> None:
    with bpf2py.load(printing, "kernel") as obj:
        obj.attach()
        for arguments in (["--count", "2", "--json"], ["--count", "2"]):
            argv = [sys.executable, "-m", "bpf2py", "trace", *arguments]
            with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
                while process.poll() is None:
                    os.getpgid(0)
                assert process.stdout is not None
                lines = process.stdout.read().splitlines()
            assert len(lines) == 2
            if "--json" in arguments:
                assert json.loads(lines[0])["text"].startswith("asked by ")
            else:
                assert ": asked by " in lines[0]
        argv = [sys.executable, "-m", "bpf2py", "trace"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            while not select.select([process.stdout], [], [], 0.01)[0]:
                os.getpgid(0)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (130, "")
    assert instances() == []


def test_a_thread_that_just_started_has_a_name(printing: bpf2py.ObjectSpec) -> None:
    script = "import os\nos.getpgid(0)"
    with bpf2py.load(printing, "kernel") as obj, TracePipe() as pipe:
        obj.attach()
        started: set[int] = set()
        for _ in range(10):  # the kernel may or may not have noted the name when the line is read
            with subprocess.Popen([sys.executable, "-S", "-c", script]) as process:
                lines = pipe.lines(30)
                line = next(line for line in lines if line.text == f"asked by {process.pid}")
                assert line.task != "<...>"
                started.add(line.pid)
        assert len(started) == 10
    assert instances() == []


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"            bash-1234    [001] d..21  123.5: bpf_trace_printk: a: b", TraceLine("a: b", "bash", 1234, 1, 123.5)),
        (b"     my-task-2-77 (   70) [000] ....1  1.000001: bpf_trace_printk: x", TraceLine("x", "my-task-2", 77, 0, 1.000001)),
        (b"           <...>-9 (-----) [000] ....1  1.5: bpf_trace_printk: ", TraceLine("", "<...>", 9, 0, 1.5)),
        (b"CPU:1 [LOST 5 EVENTS]", TraceLine("", cpu=1, lost=5)),
        (b"  bash-1 [000] ....  1.0: sched_switch: prev=x", None),
        (b"", None),
    ],
)  # fmt: skip
def test_lines(raw: bytes, expected: TraceLine | None) -> None:
    assert parse(raw) == expected
