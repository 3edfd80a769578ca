"""What users wait for, beside C with libbpf, a C++ binding and bpftool where they are there: one table, in one run.

    python -m benchmarks.table [--rounds N] [--json FILE] [--page FILE] [--peer PYTHON]

Each row is measured in a process of its own, all rows in turns, so that a busy moment of the machine hits every side. Medians of
the rounds are printed, with the best. Times include the import of the library; only the interpreter's own start is left out, and
where a file of the user's cache matters there is a row with an empty cache.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import bpf2py
from benchmarks.bench_events import CDrain, burst
from benchmarks.bench_load import HEAD, PLAIN, RELOCATED, build_c
from benchmarks.bench_maps import compiler
from bpf2py.uapi.cpus import online_cpus

HERE = Path(__file__).parent
ROOT = HERE.parent
RING, PERF = 1_000_000, 200_000
Numbers = dict[str, float]


class Side(NamedTuple):
    """One side of a row: who, and what measures it."""

    name: str
    measure: Callable[[], Numbers]


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        what: is measured.
        unit: of it.
        wanted: the bar, as text.
        key: of the number in what a side gives, by the side.
        more: whether more is better.
    """

    what: str
    unit: str
    wanted: str
    key: dict[str, tuple[str, str]]
    more: bool = False


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
        self._c()
        if peer is not None:
            self.sides["pylibbpf plain"] = child("peer_first_read", scratch / "plain.o", python=peer)
            self.sides["pylibbpf core"] = child("peer_first_read", scratch / "core.o", python=peer)
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


ROWS = [
    Row("object file to first map read, import included", "ms", "<= 20",
        {"C": ("C plain", "ms"), "pylibbpf": ("pylibbpf plain", "ms"), "bpf2py": ("plain", "ms")}),
    Row("the same with CO-RE against vmlinux", "ms", "<= 30",
        {"C": ("C core", "ms"), "pylibbpf": ("pylibbpf core", "ms"), "bpf2py": ("core", "ms")}),
    Row("the same, for the first time on this kernel", "ms", "",
        {"C": ("C core", "ms"), "bpf2py": ("core, empty cache", "ms")}),
    Row("memory after the first read (peak)", "MiB", "<= 16",
        {"C": ("C plain", "mib"), "pylibbpf": ("pylibbpf plain", "mib"), "bpf2py": ("plain", "mib")}),
    Row("first drain of a 64 MiB ring, 1M records", "M/s", ">= 75", {"C": ("C ring", "mps"), "bpf2py": ("ring", "mps")}, True),
    Row("until such a RingReader is ready", "ms", "", {"bpf2py": ("ring", "ready_ms")}),
    Row("first drain of a perf buffer, 200k records", "M/s", ">= 50", {"C": ("C perf", "mps"), "bpf2py": ("perf", "mps")}, True),
    Row("typed events of a ring, for event in reader", "M/s", ">= 3", {"bpf2py": ("ring typed", "mps")}, True),
    Row("typed events of a perf buffer", "M/s", ">= 3", {"bpf2py": ("perf typed", "mps")}, True),
    Row("live, 500k records through 1 MiB, dropped: batches", "%", "0",
        {"C": ("C live", "percent"), "bpf2py": ("live batches", "percent")}),
    Row("live, dropped: typed events", "%", "0", {"C": ("C live", "percent"), "bpf2py": ("live events", "percent")}),
    Row("lookup, m[key]", "ns", "<= 1.2x", {"C": ("C maps", "lookup"), "bpf2py": ("maps", "m[key]")}),
    Row("update, m[key] = value", "ns", "<= 1.3x", {"C": ("C maps", "update"), "bpf2py": ("maps", "m[key] = value")}),
    Row("count() of 100k, first call", "ms", "<= 3", {"bpf2py": ("maps", "count_ms")}),
    Row("to_numpy() of 100k, an element", "ns", "<= 1.1x",
        {"C": ("C maps", "lookup_batch"), "bpf2py": ("maps", "m.to_numpy()")}),
    Row("to_numpy() of 1M, an element", "ns", "<= 1.1x",
        {"C": ("C maps 1M", "lookup_batch"), "bpf2py": ("maps 1M", "m.to_numpy()")}),
    Row("200 programs loaded, warm", "ms", "<= 1.3x", {"C": ("C 200", "ms"), "bpf2py": ("200", "ms")}),
    Row("200 programs with CO-RE loaded, warm", "ms", "<= 1.3x", {"C": ("C 200core", "ms"), "bpf2py": ("200core", "ms")}),
    Row("bpf2py map list (C: bpftool), whole process", "ms", "<= 60", {"C": ("bpftool list", "ms"), "bpf2py": ("list", "ms")}),
    Row("bpf2py --help, whole process", "ms", "2x import", {"bpf2py": ("help", "ms")}),
    Row("python -c 'import bpf2py', whole process", "ms", "", {"bpf2py": ("import", "ms")}),
    Row("python -c pass, whole process", "ms", "", {"bpf2py": ("bare", "ms")}),
]  # fmt: skip


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


def results(found: dict[str, list[Numbers]]) -> list[dict[str, object]]:
    """A dict for each row: median and best by side, and the ratio of the medians to C."""
    lines = []
    for row in ROWS:
        line: dict[str, object] = {"what": row.what, "unit": row.unit, "wanted": row.wanted}
        medians = {}
        for side, (name, key) in row.key.items():
            values = [numbers[key] for numbers in found.get(name, [])]
            if values:
                medians[side] = statistics.median(values)
                line[side] = {"median": medians[side], "best": (max if row.more else min)(values)}
        if medians.get("C") and "bpf2py" in medians:
            a, b = medians["bpf2py"], medians["C"]
            line["ratio"] = b / a if row.more and a else a / b
        lines.append(line)
    return lines


def page(lines: list[dict[str, object]], facts: dict[str, object]) -> str:
    """The table as Markdown."""

    def cell(value: object) -> str:
        return f"{value['median']:.3g} ({value['best']:.3g})" if isinstance(value, dict) else ""

    out = [
        "# How fast",
        "",
        f"Measured on {facts['date']}: {facts['machine']}, Linux {facts['kernel']}, Python {facts['python']}, by `make bench`, "
        "which measures everything in turns in one run, each figure in a fresh process: medians, and in brackets the best, of "
        f"{facts['rounds']} rounds. The last column says how many times slower than C bpf2py is. The load average was "
        f"{facts['load']}: on a quiet machine times are shorter, most of all those of whole processes.",
        "",
        "| what | unit | C with libbpf | pylibbpf | bpf2py | of C |",
        "|---|---|---|---|---|---|",
    ]
    for line in lines:
        ratio = line.get("ratio")
        cells = [line["what"], line["unit"], *(cell(line.get(side)) for side in ("C", "pylibbpf", "bpf2py"))]
        out.append(f"| {' | '.join(map(str, cells))} | {f'{ratio:.2f}x' if isinstance(ratio, float) else ''} |")
    notes = facts["notes"]
    assert isinstance(notes, list)
    out += ["", *(f"{note[0].upper()}{note[1:]}." for note in notes)]
    out += [
        "",
        "What a kernel's types are called is kept in the user's cache directory (`BPF2PY_CACHE_DIR`): the row "
        "*for the first time on this kernel* has none. How the engine compares with the kernel stands in "
        "[What it is, and is not](../engine/index.md).",
    ]
    return "\n".join(out).rstrip() + "\n"


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
        found = measured(sides, options.rounds)
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
    lines = results(found)
    print(f"{'':52} {'unit':5} {'wanted':9} {'C':>16} {'pylibbpf':>16} {'bpf2py':>16} {'of C':>7}   median (best)")
    for line in lines:
        cells = [
            f"{value['median']:.3g} ({value['best']:.3g})" if isinstance(value := line.get(side), dict) else ""
            for side in ("C", "pylibbpf", "bpf2py")
        ]
        ratio = line.get("ratio")
        shown = f"{ratio:.2f}x" if isinstance(ratio, float) else ""
        print(
            f"{line['what']:52} {line['unit']:5} {line['wanted']:9} {' '.join(f'{each:>16}' for each in cells)} {shown:>7}"
        )
    for note in sides.notes:
        print(note)
    if options.json is not None:
        options.json.write_text(json.dumps({"facts": facts, "rows": lines}, indent=1) + "\n")
    if options.page is not None:
        options.page.write_text(page(lines, facts))


if __name__ == "__main__":
    main()
