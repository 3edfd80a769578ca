"""The engine where there is no Linux: without what only Linux has, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct event { __u32 pid; char comm[16]; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct event); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __type(value, struct event); } perf SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 10); __type(key, __u32); __type(value, __u32); }
    lru SEC(".maps");
SEC("tracepoint/syscalls/sys_enter_openat") int report(void *ctx)
{
    struct event event = { .pid = bpf_get_current_pid_tgid() >> 32 }, *place;

    bpf_get_current_comm(event.comm, sizeof(event.comm));
    bpf_map_update_elem(&lru, &event.pid, &event.pid, BPF_ANY);
    bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
    place = bpf_ringbuf_reserve(&ring, sizeof(event), 0);
    if (!place)
        return 0;
    *place = event;
    bpf_ringbuf_submit(place, 0);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""
# What Windows lacks, macOS has part of; the platform is named when the standard library is there.
ELSEWHERE = """
import asyncio, ctypes, linecache, mmap, numpy, os, platform, select, socket, subprocess, sys, tempfile, threading, time, warnings
for module, names in (
    (os, "eventfd eventfd_read eventfd_write EFD_CLOEXEC EFD_NONBLOCK getuid getgid uname memfd_create sched_getaffinity sysconf"),
    (select, "poll epoll POLLIN"),
    (mmap, "MAP_PRIVATE MAP_ANONYMOUS MADV_DONTNEED"),
    (time, "CLOCK_BOOTTIME CLOCK_TAI"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
sys.platform = "win32"
import bpf2py
from bpf2py.engine import Engine, Task
engine = Engine(kernel="6.1", possible_cpus=2, clock=0, task=Task(42, comm="editor"))
with bpf2py.load(sys.argv[1], backend=engine) as obj:
    obj.attach()
    with bpf2py.RingReader(obj.maps["ring"]) as ring, bpf2py.PerfReader(obj.maps["perf"]) as perf:
        assert ring.poll(0.01) == []
        threading.Timer(0.05, lambda: engine.fire("tracepoint/syscalls/sys_enter_openat")).start()
        print([(event.pid, event.comm) for batch in ring.poll(30) for event in batch.events()])
        print([(event.pid, event.comm) for batch in perf.poll(30) for event in batch.events()])
    print(dict(obj.maps["lru"].items()), engine.code.__class__.__name__, Task.current().comm)
    try:
        bpf2py.load(sys.argv[1])
    except bpf2py.NotSupported as error:
        print(error)
"""


def test_without_linux(compile_bpf: Callable[[str], bytes], tmp_path: Path) -> None:
    path = tmp_path / "report.bpf.o"
    path.write_bytes(compile_bpf(SOURCE))
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, str(path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    ring, perf, lru, refused = done.stdout.splitlines()
    assert ring == perf == "[(42, 'editor')]"
    assert lru.startswith("{42: 42} PythonCode ")
    assert 'specs and backend="engine" work everywhere' in refused
