"""tcptop, tcpstates, tcpretrans, tcprtt, dnssnoop: against what programs and sockets say themselves."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.attach.network import in_new_network

import bpf2py
from bpf2py.tools.framework import Chart, Filter
from bpf2py.tools.tcp import Tcpretrans, Tcprtt
from bpf2py.tools.tcptop import Tcptop

pytestmark = pytest.mark.kernel
Watch = Callable[..., Any]

TRAFFIC = """
import json, os, random, socket, sys, threading
random.seed(5)
told = {}
def reads(s, size):
    while size:
        data = s.recv(min(size, 65536)); assert data; size -= len(data)
def serve(server, sizes):
    for up, down in sizes:
        connection, _ = server.accept()
        reads(connection, up); connection.sendall(bytes(down)); assert connection.recv(1) == b""; connection.close()
for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
    server = socket.create_server((host, 0), family=family)
    port = server.getsockname()[1]
    sizes = [(random.choice([0, 1, 200_000]), random.choice([1, 77, 300_000])) for _ in range(8)]
    thread = threading.Thread(target=serve, args=(server, sizes)); thread.start()
    for up, down in sizes:
        client = socket.create_connection((host, port)); mine = client.getsockname()[1]
        client.sendall(bytes(up)); reads(client, down); client.close()
        for key, (sent, received) in ((f"{mine} {port}", (up, down)), (f"{port} {mine}", (down, up))):
            old = told.get(key, [0, 0]); told[key] = [old[0] + sent, old[1] + received]
    thread.join(); server.close()
tell([os.getpid(), told])
"""


def test_tcptop_counts_every_byte_of_connections_that_are_closed(watch: Watch) -> None:
    seen = watch("tcptop --top 1000", TRAFFIC)
    pid, told = seen.told
    found = {f"{r['local_port']} {r['remote_port']}": [r["sent"], r["received"]] for r in seen.records}
    assert found == told
    assert {r["pid"] for r in seen.records} == {pid}
    assert {r["local"] for r in seen.records} == {"127.0.0.1", "::1"}


def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return client, server.accept()[0]


def exchange(here: socket.socket, there: socket.socket, size: int) -> None:
    here.sendall(bytes(size))
    left = size
    while left:
        left -= len(there.recv(left))
    unacknowledged = 1
    while unacknowledged:  # TCP_INFO: tcpi_unacked is the 7th word
        unacknowledged = struct.unpack_from("6I", here.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 8)[4]


def test_tcptop_counts_from_its_beginning_on(tmp_path: Path) -> None:
    """Connections that were there before, with what they carried before it began; of this process, not of another."""
    here, there = pair()
    with here, there:
        exchange(here, there, 5000)
        port = here.getsockname()[1]
        with Tcptop(Filter(pid=os.getpid()), port=port) as tool:
            tool.start()
            assert tool.table().rows == []
            exchange(here, there, 1234)
            exchange(there, here, 77)
            rows = tool.table().rows
            tool.stop()
        assert sorted((r["local_port"] == port, r["sent"], r["received"]) for r in rows) == [
            (False, 77, 1234),
            (True, 1234, 77),
        ]
        assert {(r["pid"], r["comm"]) for r in rows} == {(os.getpid(), Path("/proc/self/comm").read_text().strip())}
        with Tcptop(Filter(pid=os.getppid()), port=port) as tool:
            tool.start()
            exchange(here, there, 1234)
            tool.stop()
            assert tool.table().rows == []


def test_tcpstates_shows_every_change(watch: Watch) -> None:
    source = """
import socket
server = socket.create_server(("127.0.0.1", 0)); port = server.getsockname()[1]
client = socket.create_connection(server.getsockname()); mine = client.getsockname()[1]
accepted, _ = server.accept()
client.close(); assert accepted.recv(1) == b""; accepted.close(); server.close()
tell([port, mine])
"""
    seen = watch("tcpstates", source)
    port, mine = seen.told
    sides = {
        name: [(r["old"], r["new"]) for r in seen.records if (r["local_port"] or mine, r["remote_port"] or port) == key]
        for name, key in (("client", (mine, port)), ("accepted", (port, mine)), ("server", (port, port)))
    }
    assert sides["client"] == [
        ("CLOSE", "SYN_SENT"), ("SYN_SENT", "ESTABLISHED"), ("ESTABLISHED", "FIN_WAIT1"), ("FIN_WAIT1", "FIN_WAIT2"),
        ("FIN_WAIT2", "CLOSE"),
    ]  # fmt: skip
    assert sides["accepted"] == [("CLOSE_WAIT", "LAST_ACK"), ("LAST_ACK", "CLOSE")]  # from when it is known whose it is
    assert [(r["old"], r["new"]) for r in seen.records if not r["remote_port"] and r["new"] != "SYN_SENT"] == [
        ("CLOSE", "LISTEN"), ("LISTEN", "CLOSE")
    ]  # fmt: skip
    assert all((r["ms"] is None) == (r["old"] == "CLOSE") for r in seen.records)


def test_tcpretrans_shows_what_is_sent_again(tmp_path: Path) -> None:
    """While a program drops all packets; the socket counts them, too."""
    drops = tmp_path / "drops.py"
    drops.write_text("from bpf2py.lang import *\n\n\n@xdp\ndef drop(ctx: XdpContext) -> int:\n    return XDP_DROP\n")

    def loses() -> None:
        here, there = pair()
        port = here.getsockname()[1]
        with here, there, bpf2py.load(drops, "kernel") as obj, Tcpretrans(Filter(), port=port) as tool:
            tool.start()
            link = obj.programs["drop"].attach(device="lo", mode="generic")
            here.sendall(b"x" * 321)
            records: list[dict[str, Any]] = []
            deadline = time.monotonic() + 30
            while len(records) < 2:
                records += tool.records()
                assert time.monotonic() < deadline
            link.close()
            there.recv(321)
            tool.stop()
            records += tool.records()
            info = here.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        assert len(records) == struct.unpack_from("I", info, 100)[0]  # tcpi_total_retrans
        assert [r["total"] for r in records] == list(range(1, len(records) + 1))
        assert {(r["local_port"], r["bytes"], r["state"], r["remote"]) for r in records} == {
            (port, 321, "ESTABLISHED", "127.0.0.1")
        }

    in_new_network(loses)


def test_tcprtt_counts_packets_of_a_port() -> None:
    here, there = pair()
    with here, there:
        port = here.getsockname()[1]
        with Tcprtt(Filter(), port=port, by_remote=True, by_port=True) as tool:
            tool.start()
            for _ in range(20):
                exchange(here, there, 10)
                exchange(there, here, 10)
            rtt = struct.unpack_from("I", here.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 68)[0]
            tool.stop()
            charts = {chart.fields["local_port"]: chart for chart in tool.results() if isinstance(chart, Chart)}
    assert set(charts) == {port, there_port(charts, port)}
    mine = charts[port]
    assert mine.fields["remote"] == "127.0.0.1"
    assert mine.histogram.total >= 20
    assert any(bucket.low <= max(rtt, 1) <= bucket.high and bucket.count for bucket in mine.histogram.buckets)


def there_port(charts: dict[int, Any], port: int) -> int:
    (other,) = set(charts) - {port}
    return other


def test_tools_that_know_no_process_say_so() -> None:
    for name in ("tcpretrans", "tcprtt"):
        argv = [sys.executable, "-m", "bpf2py", "tool", name, "--pid", str(os.getpid())]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert "--cgroup" in done.stderr


@pytest.mark.parametrize("options", ["", " --failed"])
def test_dnssnoop_shows_every_name(watch: Watch, options: str) -> None:
    source = """
import os, socket, threading
told = []
def asks(name, call=socket.getaddrinfo):
    try:
        call(name, *([80] if call is socket.getaddrinfo else [])); told.append([name, True])
    except OSError as error: told.append([name, False])
for name in ("localhost", "127.0.0.1", "nonexistent.invalid"): asks(name)
thread = threading.Thread(target=asks, args=["localhost"]); thread.start(); thread.join()
tell([os.getpid(), told])
"""
    seen = watch("dnssnoop" + options, source)
    pid, told = seen.told
    assert [[r["name"], not r["error"]] for r in seen.records] == [each for each in told if not options or not each[1]]
    assert {r["error"] for r in seen.records} <= {"", "EAI_NONAME", "EAI_AGAIN"}
    assert {(r["pid"], r["call"]) for r in seen.records} == {(pid, "getaddrinfo")}


def test_dnssnoop_of_getent() -> None:
    """Another function of the library, which a C program calls."""
    argv = [sys.executable, "-m", "bpf2py", "tool", "dnssnoop", "--json", "--", "getent", "hosts", "localhost"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(r["name"], r["call"]) for r in records} == {("localhost", "gethostbyname2")}
    assert records[-1]["error"] == ""
