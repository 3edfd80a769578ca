"""funccount and funclatency: against a C program that counts and times its own calls."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = r"""
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <time.h>
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
static void *thread(void *unused)
{
    for (int i = 0; i < 2500; i++)
        step_one();
    return unused;
}
int main(void)
{
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], 0, thread, 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], 0);
    for (int i = 0; i < 321; i++)
        step_two();
    other();
    for (int i = 0; i < 3; i++)
        if (!setjmp(out))
            nested(-1); /* left without returning */
    for (int i = 0; i < 5; i++)
        nested(30);
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("functions")
    (folder / "calls.c").write_text(PROGRAM)
    cc = shutil.which("cc")
    command = [cc] if cc is not None else [sys.executable, "-m", "ziglang", "cc"]
    subprocess.run([*command, "-O0", "-pthread", str(folder / "calls.c"), "-o", str(folder / "calls")], check=True)
    return folder / "calls"


def tool(*words: str) -> tuple[list[dict[str, Any]], str]:
    argv = [sys.executable, "-m", "bpf2py", "tool", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100)
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.kernel
def test_funccount_counts_one_function(program: Path) -> None:
    rows, _ = tool("funccount", f"{program}:step_one", "--json", "--", str(program))
    assert rows == [{"function": "step_one", "count": 10_000}]


@pytest.mark.kernel
@pytest.mark.since("6.6")
def test_funccount_counts_all_that_match(program: Path) -> None:
    rows, _ = tool("funccount", f"{program}:step_*", "--json", "--", str(program))
    assert rows == [{"function": "step_one", "count": 10_000}, {"function": "step_two", "count": 321}]


@pytest.mark.kernel
def test_funclatency_times_every_call_that_returns(program: Path) -> None:
    """31 nested ones, of which each takes as long as the innermost, which sleeps; not those that longjmp leaves."""
    ((row),), _ = tool("funclatency", f"{program}:nested", "--json", "--", str(program))
    assert row["count"] == 5 * 31
    assert sum(bucket["count"] for bucket in row["buckets"]) == 5 * 31
    assert all(bucket["high"] > 1_000_000 for bucket in row["buckets"] if bucket["count"])
    assert row["average_ns"] > 1_000_000


@pytest.mark.kernel
def test_functions_that_are_not_there(program: Path) -> None:
    for words, reason in (
        (("funccount", "step_one"), "BINARY:FUNCTION"),
        (("funccount", f"{program}:nothing"), "nothing"),
        (("funccount", f"{program}:nothing*"), "no function"),
        (("funclatency", "/nonexistent:x"), "no file"),
    ):
        rows, said = tool(*words, "--duration", "0.1")
        assert rows == []
        assert reason in said
