"""funccount, funclatency, stackcount, argdist: against a C program that counts and times its own calls."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bpf2py.cli import main
from bpf2py.tools.framework import Filter
from bpf2py.tools.functions import Stackcount

PROGRAM = r"""
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
static jmp_buf out;
__attribute__((noinline)) void step_one(void) { __asm__ volatile(""); }
__attribute__((noinline)) void step_two(void) { __asm__ volatile(""); }
__attribute__((noinline)) void other(void) { __asm__ volatile(""); }
__attribute__((noinline)) int nested(int depth)
{
    struct timespec time = {0, 1000000};

    if (depth < 0)
        longjmp(out, 1);
    if (depth)
        return nested(depth - 1) + 1;
    return nanosleep(&time, 0);
}
__attribute__((noinline)) void steps(void)
{
    for (int i = 0; i < 2500; i++)
        step_one();
}
static void *thread(void *unused)
{
    steps();
    return unused;
}
__attribute__((noinline)) int twice(int value, long index, const char *name)
{
    return name[0] && index >= 0 ? 2 * value : 1;
}
int main(int argc, char **argv)
{
    pthread_t threads[4];

    if (argc > 1)
        getchar(); /* until it is watched */

    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], 0, thread, 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], 0);
    for (int i = 0; i < 321; i++)
        step_two();
    other();
    step_one();
    for (int i = 0; i < 100; i++)
        twice(i % 3 - 1, i, i % 2 ? "odd" : "even");
    for (int i = 0; i < 3; i++)
        if (!setjmp(out))
            nested(-1); /* left without returning */
    for (int i = 0; i < 5; i++)
        nested(30);
    if (argc > 1) {
        close(1);
        while (getchar() != EOF)
            ;
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(c_program: Callable[..., Path]) -> Path:
    return c_program(PROGRAM, "-O0", "-pthread", name="calls")


def tool(*words: str) -> tuple[list[dict[str, Any]], str]:
    argv = [sys.executable, "-m", "bpf2py", "tool", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100)
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.kernel
def test_funccount_counts_one_function(program: Path) -> None:
    rows, _ = tool("funccount", f"{program}:step_one", "--json", "--", str(program))
    assert rows == [{"function": "step_one", "count": 10_001}]


@pytest.mark.kernel
@pytest.mark.since("6.6")
def test_funccount_counts_all_that_match(program: Path) -> None:
    rows, _ = tool("funccount", f"{program}:step_*", "--json", "--", str(program))
    assert rows == [{"function": "step_one", "count": 10_001}, {"function": "step_two", "count": 321}]


@pytest.mark.kernel
def test_funclatency_times_every_call_that_returns(program: Path) -> None:
    """31 nested ones, of which each takes as long as the innermost, which sleeps; not those that longjmp leaves."""
    ((row),), _ = tool("funclatency", f"{program}:nested", "--json", "--", str(program))
    assert row["count"] == 5 * 31
    assert sum(bucket["count"] for bucket in row["buckets"]) == 5 * 31
    assert all(bucket["high"] > 1_000_000 for bucket in row["buckets"] if bucket["count"])
    assert row["average_ns"] > 1_000_000


def stacks_of(program: Path, function: str) -> Counter[tuple[str, ...]]:
    """What stackcount says of a run of the program, which lives until its stacks are named."""
    process = subprocess.Popen([program, "waits"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with Stackcount(Filter(pid=process.pid), f"{program}:{function}") as counts:
            counts.start()
            process.stdin.write(b"x")
            process.stdin.flush()
            assert process.stdout.read() == b""
            assert list(counts.records()) == []
            counts.stop()
            (flames,) = counts.results()
            assert counts.problems == []
    finally:
        process.communicate(timeout=30)
    return flames.stacks.counts


@pytest.mark.kernel
def test_stackcount_counts_by_caller(program: Path) -> None:
    found: Counter[tuple[str, ...]] = Counter()
    for names, count in stacks_of(program, "step_one").items():
        assert names[0] == "calls"
        found[names[-2:]] += count
    assert found == {("steps", "step_one"): 10_000, ("main", "step_one"): 1}


@pytest.mark.kernel
@pytest.mark.since("6.6")
def test_stackcount_of_a_pattern_ends_with_each_function(program: Path) -> None:
    found: Counter[str] = Counter()
    for names, count in stacks_of(program, "step_*").items():
        found[names[-1]] += count
    assert found == {"step_one": 10_001, "step_two": 321}


KILLS = (
    "import os\nfor n in range(7): os.kill(os.getpid(), 0)\nfor n in range(3): os.kill(os.getpid(), 28)\nos.getpgid(0)"
)


@pytest.mark.kernel
def test_tracepoints_are_counted_with_their_stacks_and_values() -> None:
    command = ("--json", "--", sys.executable, "-I", "-c", KILLS)
    rows, _ = tool("funccount", "tracepoint:syscalls:sys_*_kill", *command)
    assert rows == [{"function": f"syscalls:sys_{end}_kill", "count": 10} for end in ("enter", "exit")]
    rows, _ = tool("stackcount", "tracepoint:syscalls:sys_enter_kill", *command)
    stacks = [
        row for row in rows if "stack" in row
    ]  # a process this short may have ended before its functions were named
    assert sum(row["calls"] for row in stacks) == 10
    assert {row["stack"][-1] for row in stacks} == {"syscalls:sys_enter_kill"}
    rows, _ = tool("argdist", "tracepoint:syscalls:sys_enter_kill", "-v", "sig", "-v", "pid == tid", *command)
    assert rows == [{"count": 7, "sig": 0, "pid == tid": 1}, {"count": 3, "sig": 28, "pid == tid": 1}]
    rows, _ = tool("argdist", "tracepoint:sched:sched_process_exec", "-v", "filename", "-v", "comm", *command)
    assert [(row["count"], row["filename"]) for row in rows] == [(1, sys.executable)]


@pytest.mark.kernel
def test_usdt_probes_are_counted_with_their_values(c_program: Callable[..., Path]) -> None:
    """Also those that are there only while somebody listens."""
    source = (Path(__file__).parents[1] / "attach" / "usdt_target.c").read_text()
    options = ["-O1", *(["-mno-red-zone"] if platform.machine() == "x86_64" else [])]
    target = c_program(source, *options)
    command = ("--json", "--", "sh", "-c", f"printf '\\3\\3\\5' | {target} > /dev/null")
    rows, said = tool("funccount", f"usdt:{target}:demo:heeded", *command)
    assert rows == [{"function": "demo:heeded", "count": 3}], said
    rows, _ = tool("argdist", f"usdt:{target}:demo:heeded", "-v", "arg1", *command)
    assert rows == [{"count": 2, "arg1": -3}, {"count": 1, "arg1": -5}]


@pytest.mark.kernel
def test_argdist_counts_arguments_and_results(program: Path) -> None:
    def rows(*words: str) -> list[dict[str, Any]]:
        found, said = tool("argdist", f"{program}:twice", *words, "--json", "--", str(program))
        assert found, said
        return sorted(found, key=lambda row: json.dumps(row))

    assert rows("-v", "s32(arg1)") == [
        {"count": 33, "s32(arg1)": 0}, {"count": 33, "s32(arg1)": 1}, {"count": 34, "s32(arg1)": -1}
    ]  # fmt: skip
    assert rows("-v", "str(arg3)", "-v", "s32(ret)", "--if", "arg2 < 6 and s32(ret) != -2") == [
        {"count": 1, "str(arg3)": "even", "s32(ret)": 0}, {"count": 1, "str(arg3)": "even", "s32(ret)": 2},
        {"count": 1, "str(arg3)": "odd", "s32(ret)": 0}, {"count": 1, "str(arg3)": "odd", "s32(ret)": 2},
    ]  # fmt: skip
    (row,) = rows("-v", "arg2", "--histogram", "--if", "arg2 < 40")
    assert [bucket["count"] for bucket in row["buckets"]] == [2, 2, 4, 8, 16, 8]
    assert (row["count"], row["negative"]) == (40, 0)
    (row,) = rows("-v", "s32(arg1)", "--histogram")
    assert (row["count"], row["negative"]) == (66, 34)
    assert rows("-v", "latency > 0", "-v", "comm") == [{"count": 100, "latency > 0": 1, "comm": "calls"}]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("libc:malloc", "-v", "x"), "'x' is not known of libc:malloc; there are: pid"),
        (("libc:malloc", "-v", "arg6"), "is not known"),
        (("libc:malloc", "-v", "arg1.real"), "cannot be part"),
        (("libc:malloc", "-v", "print(arg1)"), "only casts"),
        (("libc:malloc", "-v", "arg1 <"), "not an expression"),
        (("libc:malloc", "-v", "'text'"), "cannot be part"),
        (("libc:malloc", "-v", "arg1 / 2"), "write // for a quotient"),
        (("libc:malloc", "-v", "str(arg1)", "-H"), "is a text"),
        (("libc:malloc", "-v", "arg1", "-v", "arg2", "-H"), "give one expression"),
        (("libc:mall*", "-v", "arg1"), "not of a pattern"),
        (("tracepoint:syscalls:sys_enter_kill", "-v", "ret"), "there are: pid"),
        (("tracepoint:sched:sched_switch", "-v", "next_comm + 1"), "is a text"),
        (("tracepoint:none:none", "-v", "pid"), "no such tracepoint"),
    ],
)
@pytest.mark.kernel
def test_expressions_that_make_no_sense(words: tuple[str, ...], reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tool", "argdist", *words, "--duration", "0"])
    assert ended.value.code == 1
    said = capfd.readouterr()
    assert reason in said.err
    assert said.out == ""


@pytest.mark.kernel
def test_functions_that_are_not_there(program: Path) -> None:
    for words, reason in (
        (("funccount", "no such"), "BINARY:FUNCTION"),
        (("funccount", f"{program}:nothing"), "nothing"),
        (("funccount", f"{program}:nothing*"), "no function"),
        (("funclatency", "/nonexistent:x"), "no file"),
        (("funclatency", "tracepoint:sched:sched_switch"), "a single function"),
        (("funclatency", f"{program}:step_*"), "a single function"),
        (("funccount", "tracepoint:none:*"), "no tracepoint matches"),
        (("funccount", "usdt:libc"), "usdt:BINARY:PROVIDER:NAME"),
    ):
        rows, said = tool(*words, "--duration", "0.1")
        assert rows == []
        assert reason in said
