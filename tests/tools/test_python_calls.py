"""pyopens and pyconnects: which line did it, by the program's own account."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bpf2py.symbols import PythonFrame
from bpf2py.tools.pycalls import socket_address, where

Watch = Callable[..., Any]

OPENS = """
import os, sys, threading, time
time.sleep(0.2)
told = []
def note(path, error=""):
    frame = sys._getframe(1)
    told.append([path, error, frame.f_code.co_name, frame.f_lineno])
def direct(path):
    os.close(os.open(path, os.O_RDONLY)); note(path)
def missing(path):
    try:
        os.open(path, os.O_RDONLY); note(path, "ENOENT")
    except FileNotFoundError: note(path, "ENOENT")
class Reader:
    def read(self, path):
        with open(path) as file: note(path); return file.read()
for n in range(5):
    direct(PATH); Reader().read(PATH); missing(PATH + str(n))
threads = [threading.Thread(target=direct, args=(PATH,)) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
tell([os.getpid(), told])
"""


@pytest.mark.kernel
@pytest.mark.parametrize("options", ["", " --failed"])
def test_pyopens_shows_the_line_of_every_open(watch: Watch, tmp_path: Path, options: str) -> None:
    path = str(tmp_path / "opened")
    Path(path).write_text("x")
    source = OPENS.replace('os.open(path, os.O_RDONLY); note(path, "ENOENT")', "os.open(path, os.O_RDONLY)")
    seen = watch("pyopens" + options, f"PATH = {path!r}\n" + source)
    pid, told = seen.told
    found = []
    for record in seen.records:
        if (record.get("path") or "").startswith(path):
            inner = record["stack"][0]
            assert record["pid"] == pid
            assert record["where"] == f"{inner['function']} (watched.py:{inner['line']})"
            found.append([record["path"], record["error"], inner["function"].rpartition(".")[2], inner["line"]])
    # What fails is noted in the line after the one that opens.
    expected = [[p, e, f, line - 1 if e else line] for p, e, f, line in told if e or not options]
    assert sorted(found) == sorted(expected)
    assert len(found) == (5 if options else 19)


@pytest.mark.kernel
def test_pyconnects_shows_who_connects_where(watch: Watch, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    source = f"""
import os, socket, time
time.sleep(0.2)
def first(address):
    return socket.create_connection(address)
def second(address):
    with socket.socket() as s: return s.connect_ex(address)
def third():
    with socket.socket(socket.AF_UNIX) as s: s.connect({path!r})
four, six = socket.create_server(("127.0.0.1", 0)), socket.create_server(("::1", 0), family=socket.AF_INET6)
unix = socket.socket(socket.AF_UNIX); unix.bind({path!r}); unix.listen()
a, b = four.getsockname(), six.getsockname()
first(a); first(b[:2]); third()
four.close(); second(a)
tell([a[1], b[1]])
"""
    seen = watch("pyconnects", source)
    a, b = seen.told
    calls = [record for record in seen.records if "where" in record]
    assert [(r["address"], r["error"], r["where"].partition(" ")[0]) for r in calls] == [
        (f"127.0.0.1:{a}", "", "first"),
        (f"[::1]:{b}", "", "first"),
        (path, "", "third"),
        (f"127.0.0.1:{a}", "ECONNREFUSED", "second"),
    ]
    assert [frame["function"] for frame in calls[0]["stack"]] == ["create_connection", "first", "<module>"]


def test_socket_addresses() -> None:
    v4 = struct.pack("=H", socket.AF_INET) + struct.pack(">H4s8x", 80, bytes([10, 0, 0, 1]))
    assert socket_address(v4) == "10.0.0.1:80"
    v6 = struct.pack("=H", socket.AF_INET6) + struct.pack(">HI16sI", 443, 0, bytes(15) + b"\1", 0)
    assert socket_address(v6) == "[::1]:443"
    unix = struct.pack("=H", socket.AF_UNIX)
    assert [socket_address(unix + rest) for rest in (b"/a\0b", b"\0hidden", b"")] == ["/a", "@hidden", ""]
    assert socket_address(struct.pack("=H", 16) + bytes(10)) == "family 16"
    assert socket_address(v4[:6]) == "family 2"
    assert socket_address(b"") == "family 0"


def test_where() -> None:
    library = PythonFrame("/usr/lib/python3.12/socket.py", "create_connection", 8)
    frozen = PythonFrame("<frozen importlib._bootstrap>", "_find_and_load", 1)
    mine = PythonFrame("/srv/app.py", "main", 3)
    package = PythonFrame("/usr/lib/python3.12/site-packages/x.py", "get", 5)
    assert where([library, mine]) == "main (app.py:3)"
    assert where([frozen, library, package, mine]) == "get (x.py:5)"
    assert where([library]) == "create_connection (socket.py:8)"
    assert where([]) is None
