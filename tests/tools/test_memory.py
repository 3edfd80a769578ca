"""memleak and bashreadline: against programs that say what they did."""

from __future__ import annotations

import os
import pty
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpf2py.errors import BpfError
from bpf2py.tools.bashreadline import Bashreadline
from bpf2py.tools.framework import Filter
from bpf2py.tools.mappings import Mappings
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


# Pages of its own are readable and executable, so that /proc/PID/maps tells them from all others.
MAPPER = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#define PAGE 4096L
static char *pages(long n)
{
    return mmap(NULL, n * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
__attribute__((noinline)) char *keep(long n) { char *at = pages(n); if (at == MAP_FAILED) abort(); return at; }
__attribute__((noinline)) void mapped(void) { for (int i = 0; i < 5; i++) keep(16); }
__attribute__((noinline)) void unmapped(void) { for (int i = 0; i < 100; i++) munmap(keep(3), 3 * PAGE - 5); }
__attribute__((noinline)) void partly(void)
{
    char *at = keep(10);

    munmap(at, 2 * PAGE);
    munmap(at + 5 * PAGE, PAGE);
    munmap(at + 1, PAGE); /* refused */
}
__attribute__((noinline)) void moved(void)
{
    char *at = keep(4), *behind = mmap(at + 4 * PAGE, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (mremap(at, 4 * PAGE, 1L << 50, 0) != MAP_FAILED)
        abort(); /* stays */
    if (mremap(at, 4 * PAGE, 40 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED)
        abort();
    munmap(behind, PAGE);
}
__attribute__((noinline)) void shrunk(void) { char *at = keep(8); if (mremap(at, 8 * PAGE, 3 * PAGE, 0) != at) abort(); }
__attribute__((noinline)) void over(void)
{
    char *at = keep(6);

    if (mmap(at + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        abort();
}
__attribute__((noinline)) void file(void)
{
    char *at = keep(5);
    int fd = open("/proc/self/exe", O_RDONLY);

    if (mmap(at + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED)
        abort();
}
__attribute__((noinline)) void allocated(void) { if (!malloc(1 << 20) || !malloc(100)) abort(); }
static void *both(void *unused)
{
    for (int i = 0; i < 300; i++) {
        char *at = keep(2);

        if (i % 30)
            munmap(at, 2 * PAGE);
    }
    return unused;
}
static void step(void) { putchar('.'); fflush(stdout); getchar(); }
int main(void)
{
    static char in[100], out[100];
    pthread_t threads[4];

    setvbuf(stdin, in, _IOFBF, sizeof(in));
    setvbuf(stdout, out, _IOFBF, sizeof(out));
    step();
    mapped(); unmapped(); partly(); moved(); shrunk(); over(); file(); allocated();
    for (int i = 0; i < 4; i++)
        pthread_create(threads + i, NULL, both, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    step();
    return 0;
}
"""


@pytest.fixture(scope="module")
def mapper(c_program: Callable[..., Path]) -> Path:
    flags = ["-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-fno-builtin", "-fno-inline", "-pthread"]
    return c_program(MAPPER, *flags)


@contextmanager
def stepping(program: Path) -> Iterator[tuple[int, Callable[[], None]]]:
    """A program that waits before each of its steps, and what lets it do the next one: (its number, that)."""
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:

        def waits() -> None:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"."

        def step() -> None:
            assert process.stdin is not None
            process.stdin.write(b"x")
            process.stdin.flush()
            waits()

        waits()
        yield process.pid, step
        assert process.stdin is not None
        process.stdin.close()


def own_pages(pid: int) -> int:
    """Bytes of the pages that are the program's own, as the kernel tells."""
    total = 0
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        area, rights, _, _, inode, *name = line.split()
        if rights == "r-xp" and inode == "0" and not name:
            start, end = (int(number, 16) for number in area.split("-"))
            total += end - start
    return total


@pytest.mark.kernel
def test_memleak_counts_what_is_not_unmapped(mapper: Path) -> None:
    """Of each function what it says, and in sum what the kernel says."""
    with (
        stepping(mapper) as (pid, step),
        Memleak(Filter(pid=pid), top=1000) as tool,
        Memleak(Filter(pid=pid), mappings=False) as without,
    ):
        tool.start()
        without.start()
        step()
        (flames,), (heap,) = tool.results(), without.results()
        assert tool.problems == []
        wanted = own_pages(pid)
    found: dict[str, tuple[int, int]] = {}
    names = ("mapped", "unmapped", "partly", "moved", "shrunk", "over", "file", "both", "allocated")
    for row in flames.rows:
        own = next((name for name in row["stack"] if name in names), "threads")  # stacks, and what belongs to them
        count, size = found.get(own, (0, 0))
        found[own] = count + row["count"], size + row["bytes"]
        assert own == "threads" or row["kind"] == ("malloc" if own == "allocated" else "mmap")
    assert found.pop("threads")[1] > 4 << 20
    assert found.pop("allocated") == (2, (1 << 20) + 100)
    page = 4096
    assert found == {
        "mapped": (5, 80 * page), "partly": (1, 7 * page), "moved": (1, 40 * page), "shrunk": (1, 3 * page),
        "over": (2, 6 * page), "file": (1, 4 * page), "both": (40, 80 * page),
    }  # fmt: skip
    assert sum(size for _, size in found.values()) == wanted
    assert {row["kind"] for row in heap.rows} == {"malloc"}


PAGE = 16


STEPS = st.tuples(
    st.sampled_from(["map", "unmap", "move", "fail"]),
    st.integers(0, 12 * PAGE),
    st.integers(-1, 6 * PAGE),
    st.integers(0, 12),
)


@settings(deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_mappings_are_cut_as_pages_are(steps: list[tuple[str, int, int, int]]) -> None:
    """Against a table that says of each page which call mapped it."""
    known, pages, calls = Mappings(PAGE), dict[int, int](), 0
    for what, start, size, other in steps:
        first, last = start // PAGE, -(-(start + size) // PAGE)
        whole = start % PAGE == 0 and size > 0
        if what == "map":
            calls += 1
            if size > 0:
                start = first * PAGE
                known.add(1, start, size, calls, 0)
                pages |= dict.fromkeys(range(first, -(-(start + size) // PAGE)), calls)
            continue
        gone = known.remove(1, start, size)
        was = {page: pages.pop(page) for page in range(first, last) if whole and page in pages}
        assert {page: piece.stack for piece in gone for page in range(piece.start // PAGE, piece.end // PAGE)} == was
        if what == "fail":
            known.put_back(1, gone)
            pages |= was
        elif what == "move" and gone:
            calls += 1
            known.add(1, other * PAGE, PAGE, calls, 0)
            pages[other] = calls
        found = {
            page: piece.stack for _, piece in known.items() for page in range(piece.start // PAGE, piece.end // PAGE)
        }
        assert found == pages
    pieces = [piece for _, piece in known.items()]
    assert all(one.end <= two.start for one, two in pairwise(pieces))


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
    with stepping(program) as (pid, step), Memleak(Filter(pid=pid), top=100) as tool:
        tool.start()
        step()
        assert list(tool.records()) == []
        first = {
            "small": (100, 6400), "zeroed": (10, 10_000), "grown": (1, 1_000_000), "aligned": (3, 333 + 444 + 640)
        }  # fmt: skip
        assert outstanding(tool) == first
        with Memleak(Filter(pid=pid), least=100) as large:
            large.start()
            step()
            assert list(tool.records()) == []
            assert outstanding(tool) == first | {"small": (150, 9600)}
            assert outstanding(large) == {}
        tool.stop()
        assert tool.problems == []
        tool._older_ns = time.monotonic_ns()
        assert outstanding(tool) == {}


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
