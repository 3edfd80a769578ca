"""What dumping a map as JSON costs, as a ratio to bpftool in the same run.

    python benchmarks/bench_dump.py [--entries N] [--repeats N]

Whole processes, the start of the interpreter included, writing to a file; best of the repeats, in turns. Needs bpftool.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bpf2py

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct usage { __u64 count; __u64 last_ns; __u32 pid, uid; char comm[16]; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, ENTRIES); __type(key, __u32); __type(value, __u64); }
    numbers SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, ENTRIES); __type(key, __u32); __type(value, struct usage); }
    structs SEC(".maps");
char LICENSE[] SEC("license") = "GPL";
"""


def seconds(argv: list[str], output: Path) -> float:
    """How long a process takes that writes to a file."""
    with output.open("wb") as out:
        start = time.perf_counter()
        # Modules are to come from __pycache__, as they do after pip install.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        subprocess.run(argv, stdout=out, check=True, env=environment)
        return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    bpftool = shutil.which("bpftool") or "/usr/sbin/bpftool"
    data = bpf2py.compile(SOURCE, cflags=(f"-DENTRIES={options.entries}",))
    print(f"best of {options.repeats}, {options.entries} elements   bpf2py s  bpftool s  bpftool/bpf2py")
    with tempfile.TemporaryDirectory() as scratch, bpf2py.load(data) as obj:
        obj.maps["numbers"].update({n: n * 3 for n in range(options.entries)})
        usage = [
            {"count": n, "last_ns": n << 20, "pid": n, "uid": 0, "comm": f"task{n % 50}"}
            for n in range(options.entries)
        ]
        obj.maps["structs"].update(dict(enumerate(usage)))
        for name in ("numbers", "structs"):
            ident = str(obj.maps[name].info.id)
            commands = {
                "bpf2py": [sys.executable, "-m", "bpf2py", "map", "dump", ident, "--json"],
                "bpftool": [bpftool, "map", "dump", "-j", "id", ident],
            }
            best = dict.fromkeys(commands, float("inf"))
            for _ in range(options.repeats):
                for tool, argv in commands.items():
                    best[tool] = min(best[tool], seconds(argv, Path(scratch) / tool))
            print(f"{name:<30} {best['bpf2py']:9.3f} {best['bpftool']:10.3f} {best['bpftool'] / best['bpf2py']:10.1f}")


if __name__ == "__main__":
    main()
