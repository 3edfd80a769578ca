"""What draining event buffers costs in Python, as ratios to a C consumer of the same buffer in the same run.

    python benchmarks/bench_events.py [--records N] [--rounds N] [--live N] [--burst N]

Records have 32 bytes. Python and C take turns at the same ring buffer, which a program fills each time; for perf buffers each
opens its own. The last parts are live: a producer on one core, the reader on the other, every record accounted for; then bursts
that overflow a small ring if its reader is not there in time, which C and Python read in turns.
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import bpf2py
from benchmarks.bench_maps import compiler
from bpf2py.uapi.cpus import online_cpus

HERE = Path(__file__).parent


class CDrain:
    """The C consumer, run as a child that drains on command."""

    def __init__(self, directory: str, *arguments: object, fd: int) -> None:
        program = Path(directory) / "event_drain"
        if not program.exists():
            subprocess.run([*compiler(), "-O2", "-o", str(program), str(HERE / "c" / "event_drain.c")], check=True)
        os.set_inheritable(fd, True)
        argv = [str(program), *[str(a) for a in arguments]]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, close_fds=False)
        self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def drain(self) -> tuple[int, float]:
        """(records, nanoseconds)."""
        assert self.process.stdin is not None
        self.process.stdin.write("drain\n")
        self.process.stdin.flush()
        records, nanoseconds, _ = self.line().split()
        return int(records), float(nanoseconds)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def timed(records: int, rounds: int, fill: Callable[[], object], drain: Callable[[], int]) -> float:
    """Nanoseconds per record in the best round."""
    best = float("inf")
    for _ in range(rounds):
        fill()
        start = time.perf_counter_ns()
        count = drain()
        best = min(best, time.perf_counter_ns() - start)
        if count != records:
            sys.exit(f"{count} records came, {records} were sent")
    return best / records


def timed_c(records: int, rounds: int, fill: Callable[[], object], drain: CDrain) -> float:
    """The same for the C consumer, by its own clock."""
    best = float("inf")
    for _ in range(rounds):
        fill()
        count, nanoseconds = drain.drain()
        best = min(best, nanoseconds)
        if count != records:
            sys.exit(f"C: {count} records came, {records} were sent")
    return best / records


def measure(obj: Any, kind: str, records: int, rounds: int, directory: str) -> list[tuple[str, float, float]]:
    """Rows of (what, Python ns, C ns) for one kind of buffer."""
    cpus, pages = online_cpus(), 4096
    if kind == "ring":
        c = CDrain(directory, "ring", obj.maps["ring"].fileno(), obj.maps["ring"].size, fd=obj.maps["ring"].fileno())
    else:
        fd = obj.maps["perf"].fileno()
        c = CDrain(directory, "perf", fd, max(cpus) + 1, pages, fd=fd)

    def fill() -> None:
        if kind == "ring":
            obj.programs["fill_ring"].test_run(context=struct.pack("<I", records))
        else:
            obj.programs["fill_perf"].test_run(context=struct.pack("<12Q", records, *[0] * 11), cpu=cpus[0])

    base = timed_c(records, rounds, fill, c)
    c.close()
    reader = bpf2py.RingReader(obj.maps["ring"]) if kind == "ring" else bpf2py.PerfReader(obj.maps["perf"], pages=pages)
    with reader:
        return [
            ("batches", timed(records, rounds, fill, lambda: sum(len(batch) for batch in reader.flush())), base),
            ("to_numpy()", timed(records, rounds, fill, lambda: sum(len(b.to_numpy()) for b in reader.flush())), base),
            ("typed events", timed(records, rounds, fill, lambda: sum(len(b.events()) for b in reader.flush())), base),
        ]


def live(obj: Any, total: int) -> str:
    """A producer thread (in the kernel, without the interpreter lock) and a reader: everything is accounted for."""
    step = 200_000
    obj.variables["failed"].value = 0
    sent = 0
    done = threading.Event()

    def produce() -> None:
        nonlocal sent
        while sent < total:
            obj.programs["stream_ring"].test_run(context=struct.pack("<I", step))
            sent += step
        done.set()

    received = 0
    start = time.perf_counter()
    with bpf2py.RingReader(obj.maps["ring"]) as reader:
        thread = threading.Thread(target=produce)
        thread.start()
        while True:
            batches = reader.poll(0.05)
            received += sum(len(batch) for batch in batches)
            if done.is_set() and not batches:
                break
        thread.join()
    failed = obj.variables["failed"].value
    seconds = time.perf_counter() - start
    verdict = "all accounted for" if received + failed == sent else "MISMATCH"
    return (
        f"live: {sent} sent, {received} received, {failed} found no room: {verdict}; {received / seconds / 1e6:.1f} M/s"
    )


def burst(spec: bpf2py.ObjectSpec, consumer: str, records: int, directory: str) -> int:
    """Records that found no room in a ring of 1 MiB, sent by a process on the other CPU as fast as it can."""
    small = spec.copy()
    small.maps["ring"].max_entries = 1 << 20
    cpus = sorted(os.sched_getaffinity(0))
    with bpf2py.load(small) as obj:
        ring, (wait, start) = obj.maps["ring"], os.pipe()
        child = os.fork()
        if child == 0:
            os.sched_setaffinity(0, {cpus[-1]})
            os.close(start)
            os.read(wait, 1)
            obj.programs["stream_ring"].test_run(context=struct.pack("<I", records))
            os._exit(0)
        os.sched_setaffinity(0, {cpus[0]})
        try:
            if consumer == "C":
                c = CDrain(directory, "live", ring.fileno(), ring.size, fd=ring.fileno())
                os.write(start, b"x")
                received = int(c.line().split()[0])
                c.close()
            else:
                with bpf2py.RingReader(ring) as reader:
                    os.write(start, b"x")
                    if consumer == "batches":
                        received = sum(len(batch) for batch in reader.batches(timeout=2))
                    else:
                        received = sum(1 for _ in reader.events(timeout=2))
        finally:
            os.sched_setaffinity(0, cpus)
            os.waitpid(child, 0)
            os.close(wait)
            os.close(start)
        failed: int = obj.variables["failed"].value
    if received + failed != records:
        sys.exit(f"{consumer}: {received} records came and {failed} found no room, {records} were sent")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--live", type=int, default=10_000_000)
    parser.add_argument("--burst", type=int, default=500_000)
    arguments = parser.parse_args()
    table = Table("buffer", "what", "Python ns/event", "C ns/event", "ratio", box=None)
    with tempfile.TemporaryDirectory() as directory, bpf2py.load(HERE / "events.bpf.c") as obj:
        for kind in ("ring", "perf"):
            for what, python, base in measure(obj, kind, arguments.records, arguments.rounds, directory):
                table.add_row(kind, what, f"{python:.1f}", f"{base:.1f}", f"{python / base:.1f}x")
        Console().print(table)
        print(live(obj, arguments.live))
        lost: dict[str, list[int]] = {"C": [], "batches": [], "events": []}
        for _ in range(arguments.rounds):
            for consumer, losses in lost.items():
                losses.append(burst(obj.spec, consumer, arguments.burst, directory))
        print(f"bursts of {arguments.burst} records into a ring of 1 MiB, dropped of each:")
        for consumer, losses in lost.items():
            print(f"    {consumer:8}{losses}")


if __name__ == "__main__":
    main()
