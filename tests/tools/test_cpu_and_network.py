"""runqlat, cpudist, tcplife, tcpconnect: against the kernel's own counters, and what the programs they watch sent."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bpf2py.tools.dists import Runqlat
from bpf2py.tools.framework import Chart, Filter

pytestmark = pytest.mark.kernel
Watch = Callable[..., Any]

# Runs and sleeps; says what the kernel counted of this process' threads: nanoseconds on a CPU, waiting for one, times, switches.
BUSY = """
import os, threading, time
def work():
    for _ in range(60):
        sum(range(20000)); time.sleep(0.001)
stop = threading.Event()
begun = [threading.Event() for _ in range(3)]
tids = []
def body(n):
    tids.append(threading.get_native_id())
    work(); begun[n].set(); stop.wait()
threads = [threading.Thread(target=body, args=(n,)) for n in range(3)]
for t in threads: t.start()
for e in begun: e.wait()
time.sleep(0.05)
total = [0, 0, 0]
switches = 0
for tid in [os.getpid(), *tids]:
    for n, text in enumerate(open(f"/proc/self/task/{tid}/schedstat").read().split()): total[n] += int(text)
    for line in open(f"/proc/self/task/{tid}/status"):
        if "ctxt_switches" in line: switches += int(line.split()[1])
tell([*total, switches])
os._exit(0)
"""


def buckets(rows: list[dict[str, Any]]) -> tuple[int, int, int]:
    """(how many, least sum, largest sum) in a histogram, in microseconds."""
    found = [bucket for row in rows for bucket in row.get("buckets", ())]
    count = sum(bucket["count"] for bucket in found)
    return count, sum(b["low"] * b["count"] for b in found), sum((b["high"] + 1) * b["count"] for b in found)


def test_cpudist_agrees_with_the_kernels_counters(watch: Watch) -> None:
    seen = watch("cpudist", BUSY)
    on_cpu, _, _, switches = seen.told
    count, least, most = buckets(seen.records)
    assert 0.95 * switches - 10 <= count <= 1.05 * switches + 10
    # The first run began before exec, the last one does not end: a slice or two.
    assert least - 20_000 <= on_cpu / 1000 <= most + 20_000


def test_cpudist_has_the_last_run_of_a_process() -> None:
    """Which ends after its parent went on; a short program on an idle CPU has no other."""
    argv = [sys.executable, "-m", "bpf2py", "tool", "cpudist", "--process", "--json", "--", "/bin/true"]
    for _ in range(12):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
        assert [row["comm"] for row in map(json.loads, done.stdout.splitlines())] == ["true"], done.stderr


def test_runqlat_agrees_with_the_kernels_counters(watch: Watch) -> None:
    seen = watch("runqlat", BUSY)
    _, waited, times, _ = seen.told
    count, least, most = buckets(seen.records)
    assert 0.9 * times - 10 <= count <= 1.1 * times + 10
    assert 0.8 * least - 20_000 <= waited / 1000 <= 1.2 * most + 20_000


def test_histograms_by_process_and_as_bars(tmp_path: Path) -> None:
    script = "for i in 1 2 3; do /bin/true; sleep 0.01; done"
    for name in ("cpudist", "runqlat"):
        argv = [sys.executable, "-m", "bpf2py", "tool", name, "--process"]
        done = subprocess.run([*argv, "--json", "--", "sh", "-c", script], capture_output=True, text=True, timeout=60)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        names = Counter(row["comm"] for row in rows if "comm" in row)
        assert names["sleep"] == 3
        assert names["sh"] >= 1
        drawn = subprocess.run([*argv, "--", "sh", "-c", script], capture_output=True, text=True, timeout=60).stdout
        assert "***" in drawn
        assert " sh: " in drawn


@pytest.fixture
def cgroup() -> Iterator[Path]:
    root = next(
        p for p in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")) if (p / "cgroup.controllers").exists()
    )
    group = root / f"bpf2py-runqlat-{os.getpid()}"
    (group / "inner").mkdir(parents=True)
    yield group
    (group / "inner").rmdir()
    group.rmdir()


def test_runqlat_filters_those_who_wait(cgroup: Path) -> None:
    """They do not run when they are woken: their name and group are looked at in another way than elsewhere."""
    named = "import time; open('/proc/self/comm', 'w').write('waits-a-lot')\n"
    source = "for _ in range(40): time.sleep(0.002)"
    join = f"open('{cgroup}/inner/cgroup.procs', 'w').write('0')\n"
    for wanted, before in ((Filter(comm="waits-a-lot"), ""), (Filter(cgroup=str(cgroup)), join)):
        with Runqlat(wanted, by_process=True) as tool:
            tool.start()
            processes = [
                subprocess.Popen([sys.executable, "-I", "-c", start + source])
                for start in (named + before, "import time\n")
            ]
            assert [process.wait() for process in processes] == [0, 0]
            tool.stop()
            found = {}
            for chart in tool.results():
                assert isinstance(chart, Chart)
                found[chart.fields["pid"]] = chart.histogram.total
        assert set(found) == {processes[0].pid}
        assert 35 <= found[processes[0].pid] <= 200


CONNECTIONS = """
import random, socket, threading
random.seed(7)
told = []
def reads(s, size):
    while size:
        data = s.recv(min(size, 65536)); assert data; size -= len(data)
def serve(server, sizes):
    for up, down in sizes:
        connection, _ = server.accept()
        reads(connection, up); connection.sendall(bytes(down))
        assert connection.recv(1) == b""
        connection.close()
for host, family in (("127.0.0.1", 4), ("::1", 6)):
    server = socket.create_server((host, 0), family=socket.AF_INET6 if family == 6 else socket.AF_INET)
    port = server.getsockname()[1]
    sizes = [(random.choice([0, 1, 1000, 300_000]), random.choice([0, 1, 77, 500_000])) for _ in range(15)]
    thread = threading.Thread(target=serve, args=(server, sizes)); thread.start()
    for up, down in sizes:
        client = socket.create_connection((host, port))
        mine = client.getsockname()[1]
        client.sendall(bytes(up)); reads(client, down)
        client.close()
        told += [[family, mine, port, up, down], [family, port, mine, down, up]]
    thread.join(); server.close()
"""


def test_tcplife_counts_every_byte_of_both_sides(watch: Watch) -> None:
    seen = watch("tcplife", CONNECTIONS + "\nimport os; tell([os.getpid(), told])")
    pid, told = seen.told
    found = [[r["ip"], r["local_port"], r["remote_port"], r["sent"], r["received"]] for r in seen.records]
    assert sorted(found) == sorted(told)
    assert {r["pid"] for r in seen.records} == {pid}
    assert {r["local"] for r in seen.records} == {"127.0.0.1", "::1"}
    assert all(r["ms"] > 0 for r in seen.records)


def test_tcpconnect_shows_what_succeeds_and_what_fails(watch: Watch) -> None:
    source = """
import os, socket
told = []
closed = socket.create_server(("127.0.0.1", 0)); port = closed.getsockname()[1]; closed.close()
server = socket.create_server(("127.0.0.1", 0))
for address in (server.getsockname(), ("127.0.0.1", port), server.getsockname()):
    with socket.socket() as s:
        told.append([address[1], "failed" if s.connect_ex(address) else "connected"])
tell([os.getpid(), told])
"""
    seen = watch("tcpconnect", source)
    pid, told = seen.told
    assert [[r["remote_port"], r["result"]] for r in seen.records] == told
    assert {(r["pid"], r["remote"], r["comm"][:6]) for r in seen.records} == {(pid, "127.0.0.1", "python")}


def test_ports_and_processes_are_filtered(watch: Watch) -> None:
    """What others connect to meanwhile is not shown."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        source = f"""
import socket
for _ in range(3): socket.create_connection({address!r}).close()
other = socket.create_server(("127.0.0.1", 0))
socket.create_connection(other.getsockname()).close()
tell(0)
"""
        seen = watch(f"tcpconnect --port {address[1]}", source)
    assert [r["remote_port"] for r in seen.records] == [address[1]] * 3
