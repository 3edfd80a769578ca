"""What map operations cost in Python, as ratios to a C program that does the same in the same run.

    python benchmarks/bench_maps.py [--entries N] [--repeats N]

Both use a HASH map u32 -> u32. The ratio is what to look at: the times belong to the machine. Both sides count their
best round, because what disturbs a round only ever makes it slower.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpf2py

SOURCE = Path(__file__).parent / "c" / "map_ops.c"
# What Python does, and the operation of map_ops.c it is compared with.
Row = tuple[str, Callable[[], object], str]


def compiler() -> list[str]:
    """The system's C compiler, else the one in the ziglang wheel."""
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return [path]
    return [sys.executable, "-m", "ziglang", "cc"]


def measure_c(entries: int, repeats: int) -> dict[str, float]:
    """Nanoseconds per entry of each operation in C."""
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "map_ops"
        subprocess.run([*compiler(), "-O2", "-o", str(program), str(SOURCE)], check=True)
        answer = subprocess.run([program, str(entries), str(repeats)], check=True, capture_output=True, text=True)
    costs: dict[str, float] = json.loads(answer.stdout)
    return costs


def best_of(repeats: int, entries: int, run: Callable[[], object]) -> float:
    """Nanoseconds per entry in the best round."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter_ns()
        run()
        best = min(best, time.perf_counter_ns() - start)
    return best / entries


def operations(counts: Any, entries: int) -> list[Row]:
    """What is measured, on a map that is full."""
    content = {key: key + 1 for key in range(entries)}

    def update_each() -> None:
        for key in range(entries):
            counts[key] = key + 1

    def lookup_each() -> None:
        for key in range(entries):
            counts[key]

    def walk_items() -> None:
        for _key, _value in counts.items():
            pass

    return [
        ("m[key] = value", update_each, "update"),
        ("m[key]", lookup_each, "lookup"),
        ("for key, value in m.items()", walk_items, "lookup_batch"),
        ("m.to_numpy()", counts.to_numpy, "lookup_batch"),
        ("m.update({...})", lambda: counts.update(content), "update_batch"),
    ]


def main() -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=65536)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    in_c = measure_c(options.entries, options.repeats)
    print(f"HASH u32 -> u32 with {options.entries} entries, best of {options.repeats}, ns per entry")
    print(f"{'Python':<30} {'ns':>9}   {'C':<14} {'ns':>9} {'ratio':>8}")
    with bpf2py.Map.create(bpf2py.MapType.HASH, key="u32", value="u32", max_entries=options.entries) as counts:
        for name, run, yardstick in operations(counts, options.entries):
            run()
            cost = best_of(options.repeats, options.entries, run)
            print(f"{name:<30} {cost:9.1f}   {yardstick:<14} {in_c[yardstick]:9.1f} {cost / in_c[yardstick]:7.1f}x")
    print(f"(in C, a walk with next_key and lookup takes {in_c['walk']:.1f} ns per entry)")


if __name__ == "__main__":
    main()
