"""What users wait for, beside C with libbpf, cilium/ebpf in Go, a C++ binding and bpftool where these are: one table, in one run.

    python -m benchmarks.table [--rounds N] [--json FILE] [--page FILE] [--peer PYTHON]

Each row is measured in a process of its own, all rows in turns, so that a busy moment of the machine hits every side. Medians of
the rounds are printed, with the best. Times include the import of the library; only the interpreter's own start is left out, and
where a file of the user's cache matters there is a row with an empty cache. The engine is measured in the same rows, by
BPF2PY_BACKEND, and in a table of its own against the kernel's JIT compiler. What a row stands for is in page.py.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import bpf2py
from benchmarks.bench_engine import compare, start
from benchmarks.bench_events import CDrain, burst
from benchmarks.bench_load import HEAD, PLAIN, RELOCATED, build_c
from benchmarks.bench_maps import compiler
from benchmarks.page import ROWS, Line, Numbers, lines_of, page, terminal
from bpf2py.uapi.cpus import online_cpus

HERE = Path(__file__).parent
ROOT = HERE.parent
GO_PATH = Path("/usr/share/gocode")  # where Debian puts Go libraries
COUNTS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 100000); __type(key, __u32); __type(value, __u32); }
    counts SEC(".maps");
char LICENSE[] SEC("license") = "GPL";
"""
RING, PERF = 1_000_000, 200_000


def environment(**more: str) -> dict[str, str]:
    """That of a user: modules come from __pycache__, as after pip install."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | more


def child(*arguments: object, python: str = sys.executable, **more: str) -> Callable[[], Numbers]:
    """Run benchmarks.child."""

    def run() -> Numbers:
        argv = [python, str(HERE / "child.py"), *map(str, arguments)]
        done = subprocess.run(argv, capture_output=True, text=True, env=environment(**more))
        if done.returncode:
            sys.exit(f"{' '.join(argv)}: {done.stderr}")
        found: Numbers = json.loads(done.stdout)
        return found

    return run


def wall(*argv: str) -> Callable[[], Numbers]:
    """Milliseconds of a whole process."""

    def run() -> Numbers:
        start = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=environment())
        return {"ms": (time.perf_counter() - start) * 1e3}

    return run


class Sides:
    """Everything that is measured, by a name."""

    def __init__(self, scratch: Path, peer: str | None) -> None:
        self.scratch = scratch
        self.notes: list[str] = []
        self.sides: dict[str, Callable[[], Numbers]] = {}
        objects = {
            "plain.o": ROOT / "examples" / "map_basics.bpf.c",
            "core.o": HERE / "core.bpf.c",
            "events.o": HERE / "events.bpf.c",
        }
        for name, source in objects.items():
            (scratch / name).write_bytes(bpf2py.compile(source))
        for name, text in (("200.o", PLAIN), ("200core.o", RELOCATED)):
            (scratch / name).write_bytes(bpf2py.compile(HEAD + "".join(text.format(n=n) for n in range(200))))
        self._python()
        self._engine()
        self._c()
        self._go()
        if peer is not None:
            self.sides["pylibbpf plain"] = child("peer_first_read", scratch / "plain.o", python=peer)
            self.sides["pylibbpf core"] = child("peer_first_read", scratch / "core.o", python=peer)
            (scratch / "counts.o").write_bytes(bpf2py.compile(COUNTS))
            self.sides["pylibbpf maps"] = child("peer_maps", scratch / "counts.o", 100_000, python=peer)
        if tool := shutil.which("bpftool"):
            self.sides["bpftool list"] = wall(tool, "map", "list")

    def _python(self) -> None:
        at, sides = self.scratch, self.sides
        sides["plain"] = child("first_read", at / "plain.o")
        sides["core"] = child("first_read", at / "core.o")

        def cold() -> Numbers:
            with tempfile.TemporaryDirectory() as cache:
                return child("first_read", at / "core.o", BPF2PY_CACHE_DIR=cache)()

        sides["core, empty cache"] = cold
        for kind, records in (("ring", RING), ("perf", PERF)):
            sides[kind] = child("drain", at / "events.o", kind, records)
            sides[f"{kind} typed"] = child("typed", at / "events.o", kind, records)
        sides["maps"] = child("maps", 100_000)
        sides["maps 1M"] = child("maps", 1_000_000)
        sides["200"] = child("warm_load", at / "200.o")
        sides["200core"] = child("warm_load", at / "200core.o")
        script = str(Path(sys.executable).parent / "bpf2py")
        sides["list"] = wall(script, "map", "list")
        sides["help"] = wall(script, "--help")
        sides["import"] = wall(sys.executable, "-c", "import bpf2py")
        sides["bare"] = wall(sys.executable, "-c", "pass")
        for consumer in ("batches", "events"):
            sides[f"live {consumer}"] = self._live(consumer)

    def _engine(self) -> None:
        """What it can do of that: it fires no hooks by itself, and needs no types of a kernel."""
        at, sides = self.scratch, self.sides
        backend = {"BPF2PY_BACKEND": "engine"}
        sides["engine plain"] = child("first_read", at / "plain.o", **backend)
        sides["engine start"] = lambda: {"ms": start(1)}
        sides["engine 200"] = child("warm_load", at / "200.o", **backend)
        sides["engine maps"] = child("maps", 100_000, **backend)
        for kind, records in (("ring", RING), ("perf", PERF)):
            sides[f"engine {kind}"] = child("drain", at / "events.o", kind, records, **backend)
            sides[f"engine {kind} typed"] = child("typed", at / "events.o", kind, records, **backend)

    def _go(self) -> None:
        """cilium/ebpf as Debian packages it: golang-go and golang-github-cilium-ebpf-dev."""
        at, sides = self.scratch, self.sides
        if not (GO_PATH / "src" / "github.com" / "cilium" / "ebpf").is_dir() or shutil.which("go") is None:
            self.notes.append(
                "cilium/ebpf is not installed (Debian: golang-go and golang-github-cilium-ebpf-dev): its column is empty"
            )
            return
        program = at / "peer"
        settings = {
            "GO111MODULE": "off",
            "GOPATH": str(GO_PATH),
            "GOCACHE": str(at / "go"),
            "GOFLAGS": "",
            "CGO_ENABLED": "0",
        }
        argv = ["go", "build", "-o", str(program), str(HERE / "go" / "peer.go")]
        done = subprocess.run(argv, capture_output=True, text=True, env=os.environ | settings)
        if done.returncode:
            self.notes.append(
                "benchmarks/go/peer.go does not build with the cilium/ebpf that is installed: its column is empty"
            )
            return
        self.notes.append(f"cilium/ebpf is {_go_versions()}")
        left_out: dict[str, None] = {}
        for name, arguments in (
            ("plain", ("first_read", at / "plain.o")), ("core", ("first_read", at / "core.o")), ("200", ("load", at / "200.o")),
            ("200core", ("load", at / "200core.o")), ("maps", ("maps", 100_000)), ("maps 1M", ("maps", 1_000_000)),
        ):  # fmt: skip
            argv = [str(program), *map(str, arguments)]
            tried = subprocess.run(argv, capture_output=True, text=True)
            if tried.returncode:
                left_out[": ".join(tried.stderr.strip().rsplit(": ", 2)[-2:])] = None
            else:
                sides[f"go {name}"] = lambda argv=argv: json.loads(subprocess.check_output(argv, text=True))  # type: ignore[misc]
        if left_out:
            self.notes.append(f"cilium/ebpf is left out of the rows in which it fails here ({', '.join(left_out)})")
        for kind, records in (("ring", RING), ("perf", PERF)):
            sides[f"go {kind}"] = lambda kind=kind, records=records: self._go_drain(program, kind, records)  # type: ignore[misc]

    def _go_drain(self, program: Path, kind: str, records: int) -> Numbers:
        """In a fresh process, which gets the map's descriptor: older versions of cilium/ebpf cannot load the object."""
        spec = bpf2py.ObjectSpec.from_file(self.scratch / "events.o")
        spec.maps["ring"].max_entries = 64 << 20
        with bpf2py.load(spec) as obj:
            fd = obj.maps[kind].fileno()
            argv = [str(program), "drain", kind, str(fd), str(records)]
            running = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=(fd,))
            try:
                assert running.stdin is not None
                assert running.stdout is not None
                assert running.stdout.readline() == "ready\n"
                fill(obj, kind, records)
                answer, _ = running.communicate("\n", timeout=60)
            finally:
                running.kill()
                running.wait()
        found: Numbers = json.loads(answer)
        return found

    def _live(self, consumer: str) -> Callable[[], Numbers]:
        spec = bpf2py.ObjectSpec.from_file(self.scratch / "events.o")
        records = 500_000
        return lambda: {"percent": 100 * burst(spec, consumer, records, str(self.scratch)) / records}

    def _c(self) -> None:
        at, sides = self.scratch, self.sides
        sides["C live"] = self._live("C")
        operations = at / "map_ops"
        subprocess.run([*compiler(), "-O2", "-o", str(operations), str(HERE / "c" / "map_ops.c")], check=True)
        for entries, name in ((100_000, "C maps"), (1_000_000, "C maps 1M")):
            argv = [str(operations), str(entries), "3"]
            sides[name] = lambda argv=argv: json.loads(subprocess.check_output(argv, text=True))  # type: ignore[misc]
        for kind in ("ring", "perf"):
            sides[f"C {kind}"] = lambda kind=kind: self._c_drain(kind)  # type: ignore[misc]
        first = at / "first_read"
        argv = [*compiler(), "-O2", "-o", str(first), str(HERE / "c" / "first_read.c"), "-lbpf"]
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode:
            self.notes.append("libbpf's headers are not installed (Debian: libbpf-dev): its rows are empty")
            return
        loader = build_c(at)

        def first_read(name: str) -> Callable[[], Numbers]:
            def run() -> Numbers:
                nanoseconds, kib = subprocess.check_output([str(first), str(at / name)], text=True).split()
                return {"ms": int(nanoseconds) / 1e6, "mib": int(kib) / 1024}

            return run

        def load(name: str) -> Callable[[], Numbers]:
            return lambda: {"ms": int(subprocess.check_output([str(loader), str(at / name), "5"], text=True)) / 1e6}

        sides["C plain"], sides["C core"] = first_read("plain.o"), first_read("core.o")
        sides["C 200"], sides["C 200core"] = load("200.o"), load("200core.o")

    def _c_drain(self, kind: str) -> Numbers:
        records = RING if kind == "ring" else PERF
        spec = bpf2py.ObjectSpec.from_file(self.scratch / "events.o")
        spec.maps["ring"].max_entries = 64 << 20
        with bpf2py.load(spec) as obj:
            bpf_map = obj.maps[kind]
            if kind == "ring":
                c = CDrain(str(self.scratch), "ring", bpf_map.fileno(), 64 << 20, fd=bpf_map.fileno())
            else:
                cpus = max(online_cpus()) + 1
                c = CDrain(str(self.scratch), "perf", bpf_map.fileno(), cpus, 4096, fd=bpf_map.fileno())
            fill(obj, kind, records)
            count, nanoseconds = c.drain()
            c.close()
        assert count == records, count
        return {"mps": count / nanoseconds * 1e3}


def fill(obj: bpf2py.Object, kind: str, records: int) -> None:
    """Let the program write so many records."""
    if kind == "ring":
        obj.programs["fill_ring"].test_run(context=struct.pack("<I", records))
    else:
        obj.programs["fill_perf"].test_run(context=struct.pack("<12Q", records, *[0] * 11), cpu=0)


def _go_versions() -> str:
    """As Debian's packages say, else what Go says of itself."""
    query = ["dpkg-query", "-W", "-f", "${Version} ", "golang-github-cilium-ebpf-dev"]
    try:
        package = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    except OSError:
        package = ""
    language = subprocess.run(["go", "version"], capture_output=True, text=True).stdout.split()[2:3]
    return f"{package or 'of an unknown version'}, built with {' '.join(language)}"


def against_the_kernel() -> list[Line]:
    """Lines for the engine's table."""
    lines: list[Line] = []
    for found in compare():
        lines.append({
            "what": found.work.what, "wanted": float(found.work.bar), "median": found.median, "best": found.best,
            "kernel_ns": found.kernel_ns, "engine_ns": found.engine_ns,
        })  # fmt: skip
        print(f"\rthe engine's table: {len(lines)} lines", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return lines


def measured(sides: Sides, rounds: int) -> dict[str, list[Numbers]]:
    """What each side gave in each round; the first round is not counted: it fills caches of files and of modules."""
    found: dict[str, list[Numbers]] = {name: [] for name in sides.sides}
    for turn in range(rounds + 1):
        for name, measure in sides.sides.items():
            numbers = measure()
            if turn:
                found[name].append(numbers)
        print(f"\rround {turn} of {rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--page", type=Path, help="write the page of the documentation there")
    parser.add_argument("--peer", help="a Python that has pylibbpf")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sides = Sides(Path(scratch), options.peer)
        own = {row.key[side][0] for row in ROWS for side in ("bpf2py", "engine") if side in row.key}
        assert own <= sides.sides.keys(), own - sides.sides.keys()
        before = f"{os.getloadavg()[0]:.1f}"
        found = measured(sides, options.rounds)
        engine = against_the_kernel()
    if options.peer is None:
        sides.notes.append("pylibbpf is not installed: its column is empty")
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    facts: dict[str, object] = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{len(models)} x {models[0]}" if models else platform.machine(),
        "kernel": os.uname().release.split("-")[0],
        "python": platform.python_version(),
        "rounds": options.rounds,
        "load": f"{os.getloadavg()[1]:.1f}",
        "notes": sides.notes,
    }
    lines = lines_of(found)
    print(terminal(lines, engine))
    print(f"load average: {before} before, {facts['load']} after")
    for note in sides.notes:
        print(note)
    if options.json is not None:
        options.json.write_text(json.dumps({"facts": facts, "rows": lines, "engine": engine}, indent=1) + "\n")
    if options.page is not None:
        options.page.write_text(page(lines, engine, facts))


if __name__ == "__main__":
    main()
