"""filetop, and the live view of tools that rank: against what the program that is watched read and wrote."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bpf2py.tools.framework import Column, Filter, Table
from bpf2py.tools.ranking import changes
from bpf2py.tools.syscount import Syscount

Watch = Callable[..., Any]

READS = """
import os
os.chdir(FOLDER)
told = {}
def count(name, kind, size):
    row = told.setdefault(name, [0, 0, 0, 0]); row[kind] += 1; row[2 + kind] += size
def opened(name): return os.open(name, os.O_RDWR | os.O_CREAT)
for number in range(3):
    fd = opened(f"file-{number}"); name = f"{os.path.basename(FOLDER)}/file-{number}"
    count(name, 1, os.write(fd, bytes(1000 * (number + 1))))
    count(name, 1, os.pwrite(fd, b"12345", 10))
    count(name, 1, os.writev(fd, [b"12", b"345"]))
    count(name, 0, len(os.pread(fd, 100, 0)))
    count(name, 0, os.preadv(fd, [bytearray(7), bytearray(8)], 3))
    count(name, 0, len(os.read(fd, 10)))
    count(name, 0, len(os.read(fd, 10)))
    try: os.read(1 << 30, 10)
    except OSError: pass
    os.close(fd)
reader, writer = os.pipe(); os.write(writer, b"x"); os.read(reader, 1)
tell([os.getpid(), told])
"""


@pytest.mark.kernel
@pytest.mark.parametrize("options", ["", " --all"])
def test_filetop_counts_every_call_and_byte(watch: Watch, tmp_path: Path, options: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    seen = watch(f"filetop --top 10000{options}", f"FOLDER = {str(folder)!r}\n" + READS)
    pid, told = seen.told
    found = {
        r["file"]: [r["reads"], r["writes"], r["read_bytes"], r["written_bytes"]]
        for r in seen.records
        if "folder" in r["file"]
    }
    assert found == told
    assert {r["pid"] for r in seen.records} == {pid}
    inodes = {r["inode"] for r in seen.records if "folder" in r["file"]}
    assert inodes == {path.stat().st_ino for path in folder.iterdir()}
    pipes = [r for r in seen.records if (r["reads"], r["writes"], r["read_bytes"], r["written_bytes"]) == (1, 1, 1, 1)]
    assert len(pipes) == bool(options)
    totals = [r["read_bytes"] + r["written_bytes"] for r in seen.records]
    assert totals == sorted(totals, reverse=True)


def test_changes_between_two_tables() -> None:
    columns = [Column("pid", "PID", 7), Column("count", "COUNT", 7, True, True), Column("name", "NAME", 7)]
    before = Table(columns, [{"pid": 1, "count": 5, "name": "a"}, {"pid": 2, "count": 5, "name": "b"}])
    after = Table(
        columns,
        [
            {"pid": 1, "count": 7, "name": "a", "more": 3},
            {"pid": 2, "count": 5, "name": "b"},
            {"pid": 2, "count": 1, "name": "c"},
        ],
    )
    assert changes(before, after) == [
        {"pid": 1, "count": 2, "name": "a", "more": 3},
        {"pid": 2, "count": 1, "name": "c"},
    ]
    assert changes(None, before) == before.rows


@pytest.mark.kernel
def test_live_tables_add_up_to_the_whole(tmp_path: Path) -> None:
    """Each call is in exactly one of them, those of the last piece of an interval too."""
    source = "import os, time\nfor _ in range(40):\n  for _ in range(25): os.getppid()\n  time.sleep(0.01)"
    argv = [
        sys.executable,
        "-m",
        "bpf2py",
        "tool",
        "syscount",
        "--live",
        "--interval",
        "0.05",
        "--json",
        "-T",
        "1000",
        "--",
    ]
    done = subprocess.run([*argv, sys.executable, "-I", "-c", source], capture_output=True, text=True, timeout=60)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    counts = [row["count"] for row in rows if row["syscall"] == "getppid"]
    assert sum(counts) == 1000
    assert len(counts) > 3
    assert len({row["time"] for row in rows}) >= len(counts)


@pytest.mark.kernel
def test_live_without_a_terminal_has_one_heading() -> None:
    """And connections that change are shown with their difference."""
    source = """
import socket, time
server = socket.create_server(("127.0.0.1", 0)); here = socket.create_connection(server.getsockname()); there, _ = server.accept()
for size in (1000, 2000, 3000):
    here.sendall(bytes(size)); there.recv(size, socket.MSG_WAITALL); time.sleep(0.15)
"""
    argv = [
        sys.executable,
        "-m",
        "bpf2py",
        "tool",
        "tcptop",
        "--live",
        "--interval",
        "0.1",
        "--",
        sys.executable,
        "-I",
        "-c",
    ]
    done = subprocess.run([*argv, source], capture_output=True, text=True, timeout=60)
    heading, *lines = done.stdout.splitlines()
    assert heading.split() == ["TIME", "PID", "COMM", "LADDR", "LPORT", "RADDR", "RPORT", "TX", "RX"]
    sent = [int(line.split()[-2]) for line in lines]
    received = [int(line.split()[-1]) for line in lines]
    assert (sum(sent), sum(received)) == (6000, 6000)
    assert max(sent) < 6000


@pytest.mark.kernel
def test_live_on_a_terminal_is_refreshed_and_left() -> None:
    parent, child = pty.openpty()
    argv = [
        sys.executable,
        "-m",
        "bpf2py",
        "tool",
        "syscount",
        "--live",
        "--interval",
        "0.1",
        "--pid",
        str(os.getpid()),
    ]
    process = subprocess.Popen(
        argv, stdin=child, stdout=child, stderr=subprocess.PIPE, env=os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
        start_new_session=True,
    )  # fmt: skip
    os.close(child)
    shown = b""
    deadline = time.monotonic() + 60
    try:
        while shown.count(b"syscount, in 0.1 s") < 3 or b"getppid" not in shown:
            os.getppid()
            assert time.monotonic() < deadline, shown
            if select.select([parent], [], [], 0.01)[0]:
                shown += os.read(parent, 65536)
        process.send_signal(signal.SIGINT)
        while True:
            try:
                piece = os.read(parent, 65536)
            except OSError:
                break
            if not piece:
                break
            shown += piece
        assert process.wait(timeout=30) == 130
    finally:
        process.kill()
        process.communicate()
        os.close(parent)
    assert b"\x1b[?25h" in shown  # the cursor is back


@pytest.mark.kernel
def test_a_ranking_is_cut_at_the_end_and_not_before() -> None:
    with Syscount(Filter(pid=os.getpid()), top=1) as tool:
        tool.start()
        for _ in range(5):
            os.getppid()
        os.getpgid(0)
        tool.stop()
        assert len(tool.table().rows) > 1
        (table,) = tool.results()
        rows = [{"count": 1, "n": 0}, {"count": 3, "n": 1}, {"count": 2, "n": 2}]
        assert [row["n"] for row in tool.ranked(rows)] == [1, 2, 0]
    assert len(table.rows) == 1


def test_rows_of_the_same_sum_have_an_order() -> None:
    rows = [
        {"sent": 0, "received": 5},
        {"sent": 5, "received": 0},
        {"sent": 3, "received": 2},
        {"sent": 6, "received": 6},
    ]

    class Both(Syscount):
        def __init__(self) -> None:
            """Not loaded: it only ranks."""

        def sorted_by(self) -> tuple[str, ...]:
            return "sent", "received"

    assert [row["sent"] for row in Both().ranked(rows)] == [6, 5, 3, 0]
