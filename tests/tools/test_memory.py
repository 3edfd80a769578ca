"""memleak and bashreadline: against programs that say what they did."""

from __future__ import annotations

import os
import pty
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bpf2py.errors import BpfError
from bpf2py.tools.bashreadline import Bashreadline
from bpf2py.tools.framework import Filter
from bpf2py.tools.memleak import Memleak

PROGRAM = r"""
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static void *kept[1000];
static int count;
__attribute__((noinline)) void small(void) { for (int i = 0; i < 100; i++) kept[count++] = malloc(64); }
__attribute__((noinline)) void zeroed(void) { for (int i = 0; i < 10; i++) kept[count++] = calloc(10, 100); }
__attribute__((noinline)) void grown(void)
{
    char *piece = NULL;

    for (int i = 1; i <= 20; i++)
        piece = realloc(piece, i * 50000); /* moved, mapped and mapped elsewhere */
    kept[count++] = piece;
}
__attribute__((noinline)) void aligned(void)
{
    void *piece;

    if (!posix_memalign(&piece, 16, 333)) /* no more than malloc() gives by itself */
        kept[count++] = piece;
    if (!posix_memalign(&piece, 4096, 444))
        kept[count++] = piece;
    kept[count++] = aligned_alloc(64, 640);
}
__attribute__((noinline)) void given_back(void)
{
    for (int i = 0; i < 500; i++) {
        void *piece = malloc(i + 1);

        piece = realloc(piece, 2000);
        free(piece);
    }
}
static void step(void)
{
    close(dup(1));
    putchar('.');
    fflush(stdout);
    getchar();
}
int main(void)
{
    static char in[100], out[100];

    setvbuf(stdin, in, _IOFBF, sizeof(in));
    setvbuf(stdout, out, _IOFBF, sizeof(out));
    step();
    small();
    zeroed();
    grown();
    aligned();
    given_back();
    step();
    for (int i = 0; i < 50; i++)
        free(kept[i]);
    small();
    step();
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(c_program: Callable[..., Path]) -> Path:
    flags = ["-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-fno-builtin", "-fno-inline"]
    return c_program(PROGRAM, *flags)


def outstanding(tool: Memleak) -> dict[str, tuple[int, int]]:
    """(allocations, bytes) by the innermost function of the program."""
    (flames,) = tool.results()
    found: dict[str, tuple[int, int]] = {}
    for row in flames.rows:
        own = next(name for name in row["stack"] if name in ("small", "zeroed", "grown", "aligned", "given_back"))
        count, size = found.get(own, (0, 0))
        found[own] = count + row["count"], size + row["bytes"]
    return found


@pytest.mark.kernel
def test_memleak_counts_what_is_not_given_back(program: Path) -> None:
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def step() -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"x")
            process.stdin.flush()
            assert process.stdout.read(1) == b"."

        assert process.stdout.read(1) == b"."
        with Memleak(Filter(pid=process.pid), top=100) as tool:
            tool.start()
            step()
            assert list(tool.records()) == []
            first = {
                "small": (100, 6400), "zeroed": (10, 10_000), "grown": (1, 1_000_000), "aligned": (3, 333 + 444 + 640)
            }  # fmt: skip
            assert outstanding(tool) == first
            with Memleak(Filter(pid=process.pid), least=100) as large:
                large.start()
                step()
                assert list(tool.records()) == []
                assert outstanding(tool) == first | {"small": (150, 9600)}
                assert outstanding(large) == {}
            tool.stop()
            assert tool.problems == []
            tool._older_ns = time.monotonic_ns()
            assert outstanding(tool) == {}
        process.stdin.close()


@pytest.mark.kernel
def test_memleak_says_whom_it_needs() -> None:
    with pytest.raises(BpfError, match="say whom to watch"):
        Memleak(Filter())


@pytest.mark.kernel
def test_bashreadline_shows_lines_that_are_typed() -> None:
    parent, child = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PS1": "prompt> ", "TERM": "dumb"}
    process = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=child,
        stdout=child,
        stderr=child,
        env=environment,
        start_new_session=True,
    )
    os.close(child)

    def until(text: bytes) -> None:
        shown = b""
        while text not in shown:
            shown += os.read(parent, 65536)

    lines = ["true", "  echo 'two  words' | cat", "", "# größe " + "x" * 300, "cat <<EOF", "inside", "EOF"]
    records: list[dict[str, Any]] = []
    try:
        until(b"prompt> ")
        with Bashreadline(Filter(pid=process.pid)) as tool:
            tool.start()
            for line in lines:
                os.write(parent, f"{line}\n".encode())
                until(b"> ")
            os.write(parent, b"exit 0\n")
            assert process.wait(timeout=30) == 0
            records += tool.records()
    finally:
        process.kill()
        process.wait()
        os.close(parent)
    assert [record["line"] for record in records] == [*lines[1:], "exit 0"]  # it waited for the first before
    assert {(record["pid"], record["comm"], record["uid"]) for record in records} == {(process.pid, "bash", 0)}


@pytest.mark.kernel
def test_bashreadline_of_a_program_that_has_none() -> None:
    with pytest.raises(BpfError, match=r"--binary libreadline\.so\.8"):
        Bashreadline(Filter(), binary="sleep")
