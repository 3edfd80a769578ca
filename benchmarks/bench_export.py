"""A long run of `bpf2py export`: many events of many short-lived processes, with bounded series and memory, and none lost.

    python -m benchmarks.bench_export [--events 4000000] [--processes 200000]

Each round a program counts events of processes that were not there before, a scrape tells them, and those of the round before last
have ended. Printed are the events told (each series' last value, added up), the series at most, and resident memory after a
quarter of the rounds and at the end.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from bpf2py.export.annotations import annotated
from bpf2py.export.collector import ConfigCollector
from bpf2py.export.expiry import Expiry
from bpf2py.export.exported import Exported
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.toolchain.compiler import compile

SOURCE = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf2py/metrics.h>
struct who { __u32 pid METRIC_EXPIRES("process"); char comm[16]; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 65536); __type(key, struct who); __type(value, __u64); }
    events SEC(".maps") METRIC_COUNTER;
struct burst { __u32 first, processes, events; };
__u64 failed METRIC_COUNTER;

static long one(__u32 index, struct burst *round)
{
    struct who who = { .pid = round->first + index % round->processes, .comm = "short-lived" };
    __u64 first = 1, *count = bpf_map_lookup_elem(&events, &who);

    if (count)
        __sync_fetch_and_add(count, 1);
    else if (bpf_map_update_elem(&events, &who, &first, BPF_NOEXIST))
        __sync_fetch_and_add(&failed, 1);
    return 0;
}

SEC("syscall") int run(struct burst *ctx)
{
    struct burst round = *ctx;

    if (round.processes)
        bpf_loop(round.events, one, &round, 0);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


def resident() -> int:
    """Resident memory in KiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=4_000_000)
    parser.add_argument("--processes", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    spec = ObjectSpec.from_bytes(compile(SOURCE), "long")
    alive: set[int] = set()
    now = [0.0]
    expiry = Expiry(1, _NoCgroups(), processes=lambda: alive, clock=lambda: now[0])  # type: ignore[arg-type]
    each, count = arguments.processes // arguments.rounds, arguments.events // arguments.rounds
    first = 1 << 24  # above pid_max: none of them is a process of this machine
    told: dict[str, float] = {}
    total = most = quarter = 0
    spent = 0.0
    with Exported(annotated(spec), spec, "kernel", expiry=expiry) as exported:
        collector = ConfigCollector(lambda: [exported], 20_000, stats=False)
        program: Any = exported.obj.programs["run"]
        for number in range(arguments.rounds):
            now[0] = float(number)
            alive = set(range(first, first + each))
            context = b"".join(n.to_bytes(4, "little") for n in (first, each, count))
            program.test_run(context=context)
            first += each
            started = time.perf_counter()
            families = list(collector.collect())
            spent += time.perf_counter() - started
            found = {
                sample.labels["pid"]: sample.value
                for family in families
                for sample in family.samples
                if sample.name == "long_events_total"
            }
            total += int(sum(value for pid, value in told.items() if pid not in found))
            told = found
            most = max(most, len(found))
            if number == arguments.rounds // 4:
                quarter = resident()
        total += int(sum(told.values()))
        failed = int(exported.obj.variables["failed"].value)
    events = count * arguments.rounds
    print(f"events {events:,}, told {total:,}, refused by the full map {failed:,}")
    print(f"processes {each * arguments.rounds:,}, series at most {most:,}, elements removed {expiry.removed:,}")
    print(f"resident memory {quarter:,} KiB after a quarter, {resident():,} KiB at the end")
    print(f"scrapes {arguments.rounds}, {1000 * spent / arguments.rounds:.1f} ms each")
    assert total + failed == events


class _NoCgroups:
    def refresh(self) -> dict[int, str]:
        return {}


if __name__ == "__main__":
    main()
