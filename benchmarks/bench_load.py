"""What loading costs in Python, as ratios to libbpf in C in the same run.

    python benchmarks/bench_load.py [--programs N] [--rounds N]

Both sides open the same object file, create its maps, relocate and load its programs, in a warm process, and count their
best round. One object is small; one has many programs; one has as many, each with CO-RE relocations. Needs libbpf's headers and
library (Debian: libbpf-dev).
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import bpf2py
from benchmarks.bench_maps import compiler

SOURCE = Path(__file__).parent / "c" / "load_object.c"
EXAMPLE = Path(__file__).parent.parent / "examples" / "map_basics.bpf.c"
HEAD = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, u32); __type(value, u64); } counts SEC(".maps");
const volatile u32 sampling = 1;
u64 total;
char LICENSE[] SEC("license") = "GPL";
static __noinline int count(u32 key)
{
    u64 one = 1, *value = bpf_map_lookup_elem(&counts, &key);

    if (value)
        __sync_fetch_and_add(value, 1);
    else
        bpf_map_update_elem(&counts, &key, &one, BPF_ANY);
    return 0;
}
"""
PLAIN = """
SEC("tracepoint/syscalls/sys_enter_getppid") int program_{n}(void *ctx)
{{
    u32 pid = bpf_get_current_pid_tgid();

    if (pid % sampling)
        return 0;
    __sync_fetch_and_add(&total, {n});
    count(pid + {n});
    return count({n});
}}
"""
RELOCATED = """
SEC("tracepoint/syscalls/sys_enter_getppid") int program_{n}(void *ctx)
{{
    struct task_struct *task = (void *)bpf_get_current_task();

    __sync_fetch_and_add(&total, BPF_CORE_READ(task, real_parent, tgid));
    return count(BPF_CORE_READ(task, pid) + {n});
}}
"""


def build_c(directory: Path) -> Path:
    """The C side. Raises SystemExit when there is no libbpf."""
    program = directory / "load_object"
    done = subprocess.run(
        [*compiler(), "-O2", "-o", str(program), str(SOURCE), "-lbpf"], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"the C side needs libbpf (Debian: libbpf-dev):\n{done.stderr}")
    return program


def measure_python(path: str, rounds: int) -> float:
    """Milliseconds of the best round."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        with bpf2py.load(path):
            best = min(best, (time.perf_counter() - start) * 1e3)
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    objects = {"one small program": bpf2py.compile(EXAMPLE)}
    for name, text in (("plain", PLAIN), ("with CO-RE relocations", RELOCATED)):
        source = HEAD + "".join(text.format(n=n) for n in range(options.programs))
        objects[f"{options.programs} programs, {name}"] = bpf2py.compile(source)
    print(f"best of {options.rounds} rounds{'':>20} bpf2py ms   libbpf ms   ratio")
    with tempfile.TemporaryDirectory() as scratch:
        loader = build_c(Path(scratch))
        for name, data in objects.items():
            path = Path(scratch) / "object.o"
            path.write_bytes(data)
            argv = [str(loader), str(path), str(options.rounds)]
            answers = []
            for _ in range(2):  # in turns, so that both see the same machine
                python = measure_python(str(path), options.rounds)
                c = int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout) / 1e6
                answers.append((python, c))
            python, c = min(p for p, _ in answers), min(c for _, c in answers)
            print(f"{name:<36} {python:9.2f} {c:11.2f} {python / c:7.2f}")


if __name__ == "__main__":
    main()
