"""The engine against the kernel's JIT compiler: the same object, the same work, turn and turn about in one run.

Bars: arithmetic 1.1x, array lookups 1.4x, hash lookups and updates 1x, LRU updates 1.5x; a small program from start to result
60 ms of CPU time beyond bare Python.
"""

from __future__ import annotations

import os
import resource
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

import bpf2py
from bpf2py.engine import Engine

SOURCE = Path(__file__).parent / "c" / "engine.bpf.c"
WORK = {
    "alu": (300, 1.1),
    "array_lookup": (300, 1.4),
    "hash_lookup": (100, 1.0),
    "hash_update": (60, 1.0),
    "lru_update": (40, 1.5),
}
ROUNDS = 15
START = """
import sys
import bpf2py
from bpf2py.engine import Engine
with bpf2py.load(sys.argv[1], backend=Engine()) as obj:
    obj.programs["run_hash_update"].test_run(context=bytes([1]) + bytes(15))
    assert len(obj.maps["hash"]) == 1024
"""


def seconds(program: bpf2py.Program, turns: int) -> float:
    """Time of one run."""
    context = struct.pack("<IIQ", turns, 12345, 1)
    started = time.perf_counter()
    program.test_run(context=context)
    return time.perf_counter() - started


def compare() -> None:
    """Print a line for each kind of work."""
    with bpf2py.load(SOURCE) as kernel, bpf2py.load(SOURCE, backend=Engine(possible_cpus=2)) as engine:
        for obj in (kernel, engine):
            for key in range(1024):
                obj.maps["hash"][key] = key
        for name, (turns, bar) in WORK.items():
            ratios, times = [], []
            for _ in range(ROUNDS):
                a = seconds(kernel.programs[f"run_{name}"], turns)
                b = seconds(engine.programs[f"run_{name}"], turns)
                ratios.append(b / a)
                times.append(a / (turns * 1024) * 1e9)
            ratio = statistics.median(ratios)
            print(
                f"{name:14} {ratio:5.2f}x the kernel's time (bar {bar}x; kernel {statistics.median(times):.1f} ns an operation)"
            )


# Helpers of which the engine's part is Python, and two whose part is native.
HELPERS = {
    "ktime_get_ns": "bpf_ktime_get_ns()",
    "get_current_comm": "bpf_get_current_comm(text, sizeof(text))",
    "probe_read_kernel": "bpf_probe_read_kernel(text, 16, other)",
    "snprintf": 'BPF_SNPRINTF(text, sizeof(text), "%d %s", 7, other)',
    "perf_event_output": "bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, text, 16)",
    "ringbuf_output": "bpf_ringbuf_output(&ring, text, 16, 0)",
    "get_current_pid_tgid": "bpf_get_current_pid_tgid()",
}
CALLS = 2000
HELPER_SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
char LICENSE[] SEC("license") = "GPL";
struct {{ __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 20); }} ring SEC(".maps");
struct {{ __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __type(key, int); __type(value, int); }} perf SEC(".maps");
char text[64], other[16] = "bpf";
__u64 sum;
SEC("raw_tp/sys_enter") int run(void *ctx)
{{
	for (int i = 0; i < {calls}; i++)
		sum += {call};
	return 0;
}}
"""


def compare_helpers() -> None:
    """Print how much longer calls of helpers take on the engine."""
    for name, call in HELPERS.items():
        data = bpf2py.compile(HELPER_SOURCE.format(calls=CALLS, call=call))
        ratios, times = [], []
        with bpf2py.load(data) as kernel, bpf2py.load(data, backend=Engine()) as engine:
            for _ in range(ROUNDS):
                for obj in (kernel, engine):
                    with bpf2py.RingReader(obj.maps["ring"]) as reader, bpf2py.PerfReader(obj.maps["perf"]) as perf:
                        started = time.perf_counter()
                        obj.programs["run"].test_run()
                        times.append((time.perf_counter() - started) / CALLS * 1e9)
                        reader.flush()
                        perf.flush()
                ratios.append(times[-1] / times[-2])
        print(
            f"{name:22} {statistics.median(ratios):6.1f}x the kernel's time (kernel {statistics.median(times[::2]):.0f} ns a call)"
        )


def start() -> None:
    """Print the CPU time of a process that loads an object and runs a program on the engine, beyond bare Python."""
    compiled = SOURCE.with_suffix(".o").name
    path = Path(os.environ.get("TMPDIR", "/tmp")) / compiled
    path.write_bytes(bpf2py.compile(SOURCE))
    # The least of each, taken in turns: what else the machine does only ever adds.
    pairs = [(cpu([sys.executable, "-c", "pass"]), cpu([sys.executable, "-c", START, str(path)])) for _ in range(15)]
    bare, whole = (min(column) for column in zip(*pairs, strict=True))
    print(f"from start to result {(whole - bare) * 1000:.1f} ms of CPU time beyond bare Python (bar 60 ms)")


def cpu(command: list[str]) -> float:
    """CPU seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Modules are to come from __pycache__, as they do after pip install.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    compare()
    compare_helpers()
    start()
