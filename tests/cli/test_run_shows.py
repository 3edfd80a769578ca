"""What `bpf2py run` shows of what programs say: records, printk lines, variables, histograms, sums over CPUs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bpf2py

BACKENDS = ["engine", pytest.param("kernel", marks=pytest.mark.kernel)]
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct event { __u32 pid; char comm[16]; };
struct sample { __u64 number; __u32 kind; };
struct other { __u64 a; __u32 b; };
struct hist { __u32 slots[16]; };
struct slot_key { __u32 kind; __u32 slot; };
struct owner { __u32 id; };
struct owned { __u32 id; __u64 count; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, struct hist); }
    latency_ns SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, struct slot_key); __type(value, __u64); }
    sizes SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 8); __type(key, __u32); __type(value, __u64); }
    hist_linear SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, struct owner); __type(value, struct owned); }
    owners SEC(".maps");
__u64 total, never;
char last[16];
const volatile __u32 wanted = 7;
SEC("tracepoint/sched/sched_process_exec") int executed(void *ctx)
{
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    struct sample sample = {.number = 42, .kind = 3};
    struct other other = {.a = bpf_get_prandom_u32()};
    struct hist hist = {.slots = {[10] = 2, [12] = 4}};
    struct slot_key key = {.kind = 5, .slot = 3};
    struct owner owner = {.id = 9};
    struct owned owned = {.id = 8, .count = 1};
    __u32 one = 1;
    __u64 three = 3, *counter;

    if (event) {
        event->pid = bpf_get_current_pid_tgid() >> 32;
        bpf_get_current_comm(event->comm, sizeof(event->comm));
        bpf_ringbuf_submit(event, 0);
    }
    bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &sample, sizeof(sample));
    never = other.a == 1;
    bpf_map_update_elem(&latency_ns, &one, &hist, BPF_ANY);
    bpf_map_update_elem(&sizes, &key, &three, BPF_ANY);
    bpf_map_update_elem(&owners, &owner, &owned, BPF_ANY);
    counter = bpf_map_lookup_elem(&hist_linear, &one);
    if (counter)
        *counter += 1;
    total++;
    bpf_get_current_comm(last, sizeof(last));
    bpf_printk("executed %d", wanted);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, tracefs: Path) -> str:
    path = tmp_path_factory.mktemp("shows") / "shows.bpf.c"
    path.write_text(SOURCE)
    return str(path)


def run(backend: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "bpf2py", "run", "--backend", backend, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, **{"stdin": subprocess.DEVNULL, **options})


@pytest.mark.parametrize("backend", BACKENDS)
def test_everything_a_program_says(source: str, backend: str) -> None:
    done = run(backend, source, "--", "sh", "-c", "/bin/true; exit 4")
    assert done.returncode == 4, done.stderr
    event = re.search(r"^events: pid=(\d+), comm=true$", done.stdout, re.M)
    assert event, done.stdout
    assert re.search(r"^perf: 2a 00 00 00 00", done.stdout, re.M)
    assert (
        "records of perf are shown as bytes: they may be any of other, sample; choose with --type perf=NAME"
        in done.stderr
    )
    # The kernel may know the process by its name before exec, or by that of an earlier process with this number.
    printed = re.compile(rf"^printk: (.{{1,15}}-{event[1]} \[\d+\] [\d.]+: )?executed 7$", re.M)
    assert printed.search(done.stdout), done.stdout
    assert "latency_ns[1] (6 values)" in done.stdout
    assert re.search(r"^ +1\.0 us -> 2\.0 us : 2 \|\*{20} +\|$", done.stdout, re.M)
    assert re.search(r"^ +4\.1 us -> 8\.2 us : 4 \|\*{40}\|$", done.stdout, re.M)
    assert "sizes[5] (3 values)" in done.stdout
    assert re.search(r"^ +8 -> 15 : 3 \|\*{40}\|$", done.stdout, re.M)
    assert re.search(r"^hist_linear \(\d+ values\)\n +1 : \d+ \|\*{40}\|$", done.stdout, re.M)
    assert re.search(r"^ +key\.id +value\.id +count\n +9 +8 +1$", done.stdout, re.M)
    variables = done.stdout.partition("global variables\n")[2]
    assert re.search(r"^ +total +[1-9]\d*\n", variables, re.M)
    assert re.search(r"^ +last +\w\S*$", variables, re.M), variables  # of whoever started a program last
    assert "wanted" not in variables  # a constant is not a result
    assert "PERF_EVENT_ARRAY" not in done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_json_is_an_object_a_line(source: str, backend: str) -> None:
    done = run(backend, source, "--json", "--type", "perf=sample", "--", "/bin/true")
    *events, report = [json.loads(line) for line in done.stdout.splitlines()]
    # Other processes of the machine start programs as well.
    mine = [event for event in events if event.get("map") == "events" and event["event"]["comm"] == "true"]
    assert [event["type"] for event in mine] == ["struct event"]
    samples = [event for event in events if event.get("map") == "perf"]
    assert all(event["event"] == {"number": 42, "kind": 3} and event["cpu"] >= 0 for event in samples)
    total = report["variables"]["total"]
    assert len(samples) == total >= 1
    assert [event["printk"] for event in events if "printk" in event] == ["executed 7"] * total
    assert report["exit_status"] == 0
    assert set(report["maps"]) == {"latency_ns", "sizes", "hist_linear", "owners"}
    assert "records of perf" not in done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_per_cpu_and_histograms_as_wanted(source: str, backend: str) -> None:
    arguments = ["--per-cpu", "--map", "hist_linear", "--map", "latency_ns", "--histogram", "hist_linear=off"]
    done = run(backend, source, *arguments, "--histogram", "latency_ns=linear", "--", "/bin/true")
    assert re.search(r"^ +index +cpu +value\n +1 +0 +\d+$", done.stdout, re.M), done.stdout
    assert "10 us -> 11 us" not in done.stdout
    assert re.search(r"^ +10 ns -> 11 ns : 2 \|", done.stdout, re.M)
    assert "owners" not in done.stdout
    wrong = run(backend, source, "--histogram", "sizes=cubic", "--", "true")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "after = comes one of log2, linear, off" in wrong.stderr


def test_a_type_there_is_not(source: str) -> None:
    done = run("engine", source, "--type", "evnt", "--", "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"--type evnt: shows has no such type; there are: .*event.*sample", done.stderr)


@pytest.mark.parametrize("backend", BACKENDS)
def test_standard_input_and_one_liners(source: str, backend: str) -> None:
    with open(source) as file:
        done = run(backend, "-", "--json", "--", "/bin/true", stdin=file)
    assert json.loads(done.stdout.splitlines()[-1])["variables"]["total"] >= 1
    text = 'int n; SEC("tracepoint/sched/sched_process_exec") { n++; /* } */ bpf_printk("}"); }'
    done = run(backend, "-e", text, "--json", "--", "/bin/true")
    *lines, report = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["printk"] for line in lines} == {"}"}, done.stderr
    assert report["variables"] == {"n": len(lines)}
    assert report["command"] == ["/bin/true"]


def test_programs_in_python() -> None:
    example = Path(__file__).parents[2] / "examples" / "python" / "execs.py"
    done = run("engine", str(example), "--json", "--", "/bin/true")
    (element,) = json.loads(done.stdout)["maps"]["commands"]["elements"]
    assert element["key"] == {"comm": "true"}
    assert bpf2py.ObjectSpec.from_file(example).name == "execs"


def test_one_liners_that_are_wrong() -> None:
    for text, words in (
        ('SEC("nonsense") { }', "SEC('nonsense') is not the section name of a program"),
        ('SEC("xdp") { if (1) { }', "-e: a { is not closed"),
        ('SEC("xdp") { nothing(); }', "-e:1:"),
    ):
        done = run("engine", "-e", text, "--", "true")
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
    done = run("engine")
    assert done.returncode == 2
    assert "give a FILE" in done.stderr


@pytest.mark.kernel
def test_nothing_is_left_behind(source: str) -> None:
    from bpf2py.kernel.tracefs import Tracefs

    run("kernel", source, "--", "/bin/true")
    with Tracefs() as tracefs:
        assert [name for name in tracefs.listdir("instances") if name.startswith("bpf2py-")] == []


@pytest.mark.kernel
def test_iterators_are_read() -> None:
    text = """SEC("iter/task") int each(struct bpf_iter__task *ctx) {
        if (ctx->task && !ctx->meta->seq_num) BPF_SEQ_PRINTF(ctx->meta->seq, "first\\n");
        return 0; }"""
    done = run("kernel", "-e", text)
    assert (done.returncode, done.stdout) == (0, "first\n"), done.stderr
