"""The engine against the kernel's JIT compiler: the same object, the same work, turn and turn about in one run.

    python -m benchmarks.bench_engine [WORD...]

Each line is a program that does one thing many times in a loop; both sides run the same bytecode. With words only the lines that
have one of them. At the end, how long a small program takes from start to result: 60 ms of CPU time beyond bare Python is the bar.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import bpf2py
from bpf2py.engine import Engine

__all__ = ["WORK", "Ratio", "Work", "compare"]

ROUNDS = 9
INNER = 32  # how often the statement stands in the inner loop
HEAD = """
#include <linux/bpf.h>
struct bpf_iter_num { __u64 state; } __attribute__((aligned(8)));
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#define MAP(name, map_type, entries, key_type, value_type) \\
	struct { __uint(type, BPF_MAP_TYPE_##map_type); __uint(max_entries, entries); __type(key, key_type); \\
	__type(value, value_type); } name SEC(".maps")
MAP(array, ARRAY, 1024, __u32, __u64);
MAP(percpu, PERCPU_ARRAY, 1024, __u32, __u64);
MAP(hash, HASH, 2048, __u32, __u64);
MAP(lru, LRU_HASH, 2048, __u32, __u64);
struct prefix { __u32 length, address; };
struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __uint(max_entries, 1024); __uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix); __type(value, __u64); } lpm SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); __uint(max_entries, 1024); __uint(key_size, 4); __uint(value_size, 1016); }
	stacks SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 20); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_TASK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, int); __type(value, __u64); }
	tasks SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __type(key, int); __type(value, int); } perf SEC(".maps");
char text[64] __attribute__((aligned(8))), other[64] = "bpf";
struct line { __u64 words[8]; } from[8], to[8];
__u32 turns;
__u64 sum;
"""
PROGRAM = """
SEC("{section}") int {name}({context} *ctx)
{{
	struct bpf_iter_num it;
	int *turn, i;

	{before}
	bpf_iter_num_new(&it, 0, turns);
	while ((turn = bpf_iter_num_next(&it)))
		for (i = 0; i < %d; i++) {{
			__u32 index __attribute__((unused)) = *turn * %d + i;

			{statement}
		}}
	bpf_iter_num_destroy(&it);
	{after}
	return 0;
}}
""" % (INNER, INNER)  # noqa: UP031
TAIL = 'char LICENSE[] SEC("license") = "GPL";\n'


START = """
import sys
import bpf2py
from bpf2py.engine import Engine
with bpf2py.load(sys.argv[1], backend=Engine()) as obj:
    obj.programs["run"].test_run(context=bytes(4))
    assert len(obj.maps["hash"]) == 1024
"""
SMALL = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 2048); __type(key, __u32); __type(value, __u64); } hash SEC(".maps");
SEC("syscall") int run(__u32 *context)
{
	for (__u32 key = 0; key < 1024; key++) {
		__u64 value = key;

		bpf_map_update_elem(&hash, &key, &value, BPF_ANY);
	}
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


class Work(NamedTuple):
    """A line of the table.

    Attributes:
        what: as it is shown; of a helper its name.
        statement: in C.
        bar: how many times the kernel's time is wanted at most.
        section: of the program; ``tc`` and ``xdp`` get a packet.
        turns: of the outer loop.
        before, after: statements around the loop.
    """

    what: str
    statement: str
    bar: float = 4
    section: str = "raw_tp/sys_enter"
    turns: int = 4096
    before: str = ""
    after: str = ""


class Ratio(NamedTuple):
    """What came out, in times of the kernel's and in nanoseconds."""

    work: Work
    median: float
    best: float
    kernel_ns: float
    engine_ns: float


def _add(call: str) -> str:
    return f"sum += {call};"


_INDEX = "__u32 key = index * 7 & 1023; __u64 *value = bpf_map_lookup_elem(&%s, &key); if (value) sum += *value;"
_UPDATE = "__u32 key = index * 7 & %d; __u64 value = index; bpf_map_update_elem(&%s, &key, &value, BPF_ANY);"
WORK = [
    Work("arithmetic", "a ^= a << 13; a += b * 2654435761u; b = (b >> 7) | (a << 57); a -= b & 0xff;", 1.1,
         before="__u64 a = sum, b = turns;", after="sum = a + b;"),
    Work("array lookup", _INDEX % "array", 1.4),
    Work("per-CPU array lookup", _INDEX % "percpu", 1.5),
    Work("hash lookup", _INDEX % "hash", 1),
    Work("hash update", _UPDATE % (1023, "hash"), 1),
    Work("LRU hash update", _UPDATE % (0xFFFF, "lru"), 1.5),
    Work("longest prefix", "struct prefix key = {32, index * 2654435761u}; __u64 *value = bpf_map_lookup_elem(&lpm, &key); "
         "if (value) sum += *value;", 1.5),
    Work("copy of 64 bytes", 'to[index & 7] = from[index & 7]; asm volatile("" ::: "memory");', 1.5),
    Work("ring, output of 16 bytes", "bpf_ringbuf_output(&ring, text, 16, BPF_RB_NO_WAKEUP);", 1.5, turns=1024),
    Work("ring, reserve and submit", "__u64 *record = bpf_ringbuf_reserve(&ring, 16, 0); "
         "if (record) { *record = index; bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP); }", 1.5, turns=1024),
    Work("members of the context", "volatile struct __sk_buff *skb = ctx; "
         "sum += skb->len + skb->mark + skb->priority + skb->protocol;", 1.5, "tc"),
    Work("members of the packet", "void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end; "
         "if (data + 64 <= end) { volatile __u32 *p = data; sum += p[0] + p[3] + p[5] + p[7] + p[9]; p[6] = index; }", 1.5, "tc"),
    *(
        Work(name, _add(f"bpf_{name}({arguments})"))
        for name, arguments in (
            ("ktime_get_ns", ""), ("ktime_get_boot_ns", ""), ("jiffies64", ""), ("get_smp_processor_id", ""),
            ("get_numa_node_id", ""),
            ("get_prandom_u32", ""), ("get_current_pid_tgid", ""), ("get_current_uid_gid", ""), ("get_current_cgroup_id", ""),
            ("get_current_task", ""), ("get_current_comm", "text, 16"), ("get_attach_cookie", "ctx"),
            ("probe_read_kernel", "text, 16, other"), ("probe_read_kernel_str", "text, 16, other"),
            ("strncmp", 'text, 16, "bpf"'),
        )
    ),
    Work("strtol", 'long number; sum += bpf_strtol("-12345", 6, 0, &number) + number;'),
    Work("snprintf", 'BPF_SNPRINTF(text, sizeof(text), "%d %s", index, other);', turns=512),
    Work("trace_printk", 'bpf_printk("%d %s", index, other);', turns=512),
    Work("perf_event_output", "bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, text, 16);", turns=512),
    Work("task_storage_get", "__u64 *value = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0, 1); "
         "if (value) sum += ++*value;", section="syscall"),
    Work("get_stackid", _add("bpf_get_stackid(ctx, &stacks, 0)"), turns=64),
    *(
        Work(name, _add(f"bpf_{name}({arguments})"), 4, "tc")
        for name, arguments in (
            ("skb_load_bytes", "ctx, 14, text, 16"), ("skb_load_bytes_relative", "ctx, 0, text, 16, BPF_HDR_START_NET"),
            ("skb_store_bytes", "ctx, 34, other, 16, 0"), ("skb_pull_data", "ctx, 40"),
            ("csum_diff", "(void *)text, 16, (void *)other, 16, 0"), ("l3_csum_replace", "ctx, 24, 1, 2, 2"),
            ("l4_csum_replace", "ctx, 50, 1, 2, 2"), ("get_hash_recalc", "ctx"), ("redirect", "1, 0"), ("get_socket_cookie", "ctx"),
            ("ktime_get_coarse_ns", ""),
        )
    ),
    Work("xdp_load_bytes", _add("bpf_xdp_load_bytes(ctx, 14, text, 16)"), section="xdp"),
    Work("xdp_adjust_head and back", "bpf_xdp_adjust_head(ctx, 4); bpf_xdp_adjust_head(ctx, -4);", section="xdp", turns=64),
]  # fmt: skip
PACKET = bytes.fromhex(
    "ffffffffffff 020000000001 0800 45000054 00010000 4011 0000 0a000001 0a000002 1234 0035 00400000"
) + bytes(64)


def source(work: Work) -> str:
    """The program for a line."""
    context = {"tc": "struct __sk_buff", "xdp": "struct xdp_md"}.get(work.section, "void")
    program = PROGRAM.format(
        section=work.section,
        name="run",
        context=context,
        before=work.before,
        after=work.after,
        statement=work.statement,
    )
    return HEAD + program + TAIL


def _filled(obj: bpf2py.Object) -> None:
    for key in range(1024):
        obj.maps["hash"][key] = key
    for key in range(512):
        obj.maps["lpm"][{"length": 12 + key % 20, "address": key * 7919 * 65536 & 0xFFFFFFFF}] = key


def _seconds(obj: bpf2py.Object, work: Work) -> tuple[float, float]:
    """Of a run, and of one that only starts and ends."""
    program = obj.programs["run"]
    data = PACKET if work.section in ("tc", "xdp") else b""
    spent = []
    # A reader that is not woken for each record: what that costs is the reader's.
    with (
        bpf2py.RingReader(obj.maps["ring"]) as ring,
        bpf2py.PerfReader(obj.maps["perf"], pages=1024, wakeup_events=1 << 20) as perf,
    ):
        for turns in (0, 0, work.turns):  # the first warms up what starts a run
            obj.variables["turns"].value = turns
            started = time.perf_counter()
            program.test_run(data=data)
            spent.append(time.perf_counter() - started)
            ring.flush()
            perf.flush()
    return spent[2], spent[1]


def compare(works: Iterable[Work] = tuple(WORK), rounds: int = ROUNDS) -> Iterator[Ratio]:
    """Run each on both sides in turns."""
    for work in works:
        data = bpf2py.compile(source(work))
        times: tuple[list[float], list[float]] = ([], [])
        starts: tuple[list[float], list[float]] = ([], [])
        with bpf2py.load(data) as kernel, bpf2py.load(data, backend=Engine(possible_cpus=2)) as engine:
            for obj in (kernel, engine):
                _filled(obj)
            for turn in range(rounds + 1):
                for obj, found, start in zip((kernel, engine), times, starts, strict=True):
                    whole, empty = _seconds(obj, work)
                    if turn:  # the first fills caches
                        found.append(whole)
                        start.append(empty)
        calls = work.turns * INNER
        kernel_ns, engine_ns = (
            [(whole - min(start)) / calls * 1e9 for whole in found] for found, start in zip(times, starts, strict=True)
        )
        median = statistics.median(b / a for a, b in zip(kernel_ns, engine_ns, strict=True))
        yield Ratio(work, median, min(engine_ns) / min(kernel_ns), min(kernel_ns), min(engine_ns))


def start(rounds: int = 15) -> float:
    """CPU milliseconds of a process that loads an object and runs a program on the engine, beyond bare Python."""
    with tempfile.NamedTemporaryFile(suffix=".o") as file:
        file.write(bpf2py.compile(SMALL))
        file.flush()
        # The least of each, taken in turns: what else the machine does only ever adds.
        pairs = [
            (cpu([sys.executable, "-c", "pass"]), cpu([sys.executable, "-c", START, file.name])) for _ in range(rounds)
        ]
    bare, whole = (min(column) for column in zip(*pairs, strict=True))
    beyond: float = (whole - bare) * 1000
    return beyond


def cpu(command: list[str]) -> float:
    """CPU seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Modules are to come from __pycache__, as they do after pip install.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent: float = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent


def main() -> None:
    """Print a line for each."""
    words = sys.argv[1:]
    for found in compare([work for work in WORK if not words or any(word in work.what for word in words)]):
        over = " over" if found.best > found.work.bar else ""
        print(
            f"{found.work.what:26} {found.median:6.2f}x the kernel's time, best {found.best:6.2f}x (bar {found.work.bar}x; "
            f"kernel {found.kernel_ns:.1f} ns, engine {found.engine_ns:.1f} ns){over}",
            flush=True,
        )
    if not words:
        print(f"from start to result {start():.1f} ms of CPU time beyond bare Python (bar 60 ms)")


if __name__ == "__main__":
    main()
