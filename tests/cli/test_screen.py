"""Several maps on one screen: each has its share of the lines, and keys scroll through all of them."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.file_proxy import FileProxy

from bpf2py.cli.render import Block, apart
from bpf2py.cli.screen import DOWN, HOME, PAGE_DOWN, QUIT, SOLID, UP, Keys, moved, rows_of, screen, share
from bpf2py.cli.table import aligned


def block(name: str, count: int, hidden: int = 0) -> Block:
    return Block(name, "head", [f"{name}{number}" for number in range(count)], hidden, 1)


@pytest.mark.parametrize("height", [10, 13, 20, 40])
def test_blocks_share_the_lines(height: int) -> None:
    shown = share([block("a", 30), block("b", 2), block("c", 30, 7)], height)
    rows = rows_of(shown)
    assert len(rows) <= height
    small = shown[1]
    assert small.lines == ["b0", "b1"] or height < 14  # it needs less than its share
    for full, cut in ((30, shown[0]), (37, shown[2])):
        assert len(cut.lines) + cut.hidden == full
    assert abs(len(shown[0].lines) - len(shown[2].lines)) <= 1


def test_scrolling_reaches_everything() -> None:
    blocks = [block("a", 30), block("b", 30)]
    everything = [row.plain for row in rows_of(blocks)]
    rows, furthest = screen(blocks, 20)
    assert len(rows) <= 20
    assert furthest == len(everything) - 20
    offset, seen = 0, []
    while (after := moved(offset, PAGE_DOWN, 20, furthest)) != offset:
        offset = after
        seen += [row.plain for row in screen(blocks, 20, offset)[0]]
    assert set(everything[19:]) <= set(seen)
    assert seen[-1] == "b29"
    assert moved(5, UP, 20, furthest) == 4
    assert moved(furthest, DOWN, 20, furthest) == furthest
    assert moved(9, HOME, 20, furthest) == 0
    assert screen([block("a", 3)], 20) == (rows_of([block("a", 3)]), 0)


def test_keys() -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"\x1b[Bx\x1b[6~jq")
        assert Keys(reader).pressed() == [DOWN, PAGE_DOWN, DOWN, QUIT]
    finally:
        os.close(reader)
        os.close(writer)


def test_lines_fit_the_terminal() -> None:
    rows = [["a" * 50, "1", "b" * 70], ["c", "2000000", "d"]]
    for width in (40, 60, 100):
        lines = aligned(["name", "count", "text"], rows, width)
        assert max(map(len, lines)) <= width
        assert "2000000" in lines[2]  # numbers stay whole
        assert "\u2026" in lines[1]
    assert aligned(["name"], [["x" * 300]])[1] == "x" * 300
    assert apart(["a", "b"], ["b", "c"]) == ["a", "key.b", "value.b", "c"]


def test_bars_are_solid_while_the_live_view_stands_before_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = Block("hist (3 values)", None, ["1 : 3 |****    |"], bars=True)
    for encoding, drawn in (("utf-8", SOLID * 4), ("ascii", "****")):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        for out in (sys.stdout, FileProxy(Console(file=sys.stdout), sys.stdout)):
            monkeypatch.setattr(sys, "stdout", out)
            assert drawn in rows_of([bars])[1].plain


SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); __type(key, __u32); __type(value, __u64); } one SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); __type(key, __u32); __type(value, __u64); } two SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 16); __type(key, __u32); __type(value, __u64); } hist SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, __u64); } events SEC(".maps");
SEC("tracepoint/syscalls/sys_enter_getpgid") int count(void *ctx)
{
    __u64 number = 1;
    for (int i = 0; i < 40; i++) {
        __u32 key = i;
        bpf_map_update_elem(&one, &key, &number, BPF_ANY);
        bpf_map_update_elem(&two, &key, &number, BPF_ANY);
        __u32 slot = key & 15;
        bpf_map_update_elem(&hist, &slot, &number, BPF_ANY);
    }
    bpf_ringbuf_output(&events, &number, sizeof(number), 0);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


SEVERAL = ("one (HASH, 40 of 64 elements)", "two (HASH, 40 of 64 elements)", "hist (16 values)", "arrow keys scroll")


@pytest.mark.kernel
def test_a_live_view_of_several_maps(tmp_path: Path) -> None:
    source = tmp_path / "several.bpf.c"
    source.write_text(SOURCE)
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24", "PYTHONUTF8": "1"}
    argv = [sys.executable, "-m", "bpf2py", "run", str(source), "--interval", "0.05", "--rows", "40"]
    process = subprocess.Popen(argv, stdin=child, stdout=child, stderr=child, env=environment, preexec_fn=own_terminal)
    os.close(child)
    shown, pressed, ended = b"", False, False
    try:
        while True:
            if not select.select([parent], [], [], 60)[0]:
                raise AssertionError(f"nothing more came for a minute: {shown[-2000:]!r}")
            os.getpgid(0)
            try:
                data = os.read(parent, 65536)
            except OSError:
                break
            shown += data
            full = all(name.encode() in shown for name in SEVERAL)  # the program has filled the maps
            if not pressed and full and shown.count(b"hist (16 values)") >= 2:
                os.write(parent, b"\x1b[6~")
                pressed = True
            if pressed and b"from line" in shown:
                if not ended:
                    process.send_signal(signal.SIGINT)
                ended = True
        assert process.wait(60) == 130, shown[-3000:].decode("utf-8", "replace")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(parent)
    text = shown.decode()
    first = text[: text.index("from line")]
    assert all(name in first for name in SEVERAL)
    assert re.search(r"events: \S*1", text)
    assert "Traceback" not in text


def own_terminal() -> None:
    """In the child: a session whose terminal is its standard input."""
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
