"""What it costs to start: importing bpf2py, a whole process up to its first map read, loading in a warm process.

    python benchmarks/bench_startup.py [--repeats N]

Whole processes are compared with ``python -c pass`` in the same run, alternating, by their medians. The object is
compiled beforehand.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bpf2py

EXAMPLE = Path(__file__).parent.parent / "examples" / "map_basics.bpf.c"
FIRST_READ = """
import sys, bpf2py
with bpf2py.load(sys.argv[1]) as obj:
    assert obj.maps["my_array_map"][0] == 0
"""
# The high water mark of this process alone: what wait4() says includes the parent's pages from before exec().
PEAK = """
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def run_process(code: str, *arguments: str) -> str:
    """Run one Python process and return what it prints."""
    # Modules are to come from __pycache__, as they do after pip install.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    argv = [sys.executable, "-c", code, *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=environment).stdout


def measure_processes(path: str, repeats: int) -> dict[str, tuple[float, float]]:
    """Median milliseconds and peak KiB of each kind of process, measured in turns so that all see the same machine."""
    kinds = {
        "python -c pass": ("pass",),
        "import bpf2py": ("import bpf2py",),
        "object file to first map read": (FIRST_READ, path),
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(repeats + 1):
        for name, arguments in kinds.items():
            start = time.perf_counter()
            run_process(*arguments)
            times[name].append((time.perf_counter() - start) * 1e3)
    return {
        # The first round filled __pycache__.
        name: (statistics.median(times[name][1:]), float(run_process(f"{code}\n{PEAK}", *arguments)))
        for name, (code, *arguments) in kinds.items()
    }


def measure_warm(path: str, repeats: int) -> list[float]:
    """Milliseconds from the path of an object to its first map read, in this process."""
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        with bpf2py.load(path) as obj:
            array: Any = obj.maps["my_array_map"]
            array[0]
            took.append((time.perf_counter() - start) * 1e3)
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=21)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "map_basics.o")
        Path(path).write_bytes(bpf2py.compile(EXAMPLE))
        processes = measure_processes(path, options.repeats)
        warm = measure_warm(path, options.repeats)
    bare_time, bare_size = processes["python -c pass"]
    print(f"median of {options.repeats}{'':>22} ms  beyond bare   peak MiB  beyond bare")
    for name, (took, size) in processes.items():
        print(f"{name:<30} {took:6.1f} {took - bare_time:12.1f} {size / 1024:10.1f} {(size - bare_size) / 1024:12.1f}")
    print(f"load in a warm process         {statistics.median(warm):6.1f} (first {warm[0]:.1f})")


if __name__ == "__main__":
    main()
