"""Machines whose pages are larger than 4 KiB (aarch64): the engine's own stay as they are, and no neighbour is touched."""

from __future__ import annotations

import mmap
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from bpf2py.engine.memory import Memory

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
__u64 runs;
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 16384); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_USER_RINGBUF); __uint(max_entries, 16384); } commands SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 3000); __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32); __type(value, __u64);
} array SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __type(key, int); __type(value, int); } events SEC(".maps");
static long taken(struct bpf_dynptr *command, void *ctx) { bpf_dynptr_read(&runs, 8, command, 0, 0); return 0; }
SEC("raw_tp/a") int run(void *ctx)
{
	__u32 key = 2999;
	__u64 *value = bpf_map_lookup_elem(&array, &key);
	if (value)
		(*value)++;
	bpf_user_ringbuf_drain(&commands, taken, 0, 0);
	bpf_ringbuf_output(&ring, &runs, 8, 0);
	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &runs, 8);
	return 0;
}
"""
CODE = """
    import mmap
    mmap.PAGESIZE = {page}  # as on aarch64
    import bpf2py
    with bpf2py.load({path!r}, backend="engine") as obj:
        obj.maps["commands"].push((7).to_bytes(8, "little"))
        ring, perf = bpf2py.RingReader(obj.maps["ring"]), bpf2py.PerfReader(obj.maps["events"], pages=2)
        obj.programs["run"].run()
        print(obj.variables["runs"].value, obj.maps["array"].mmap()[2999], [bytes(e)[0] for e in ring.events(timeout=0)],
              [bytes(e)[0] if isinstance(e, bytes) else e for e in perf.events(timeout=0)])
"""


@pytest.mark.parametrize("page", [4096, 16384, 65536])
def test_with_larger_pages(compile_bpf: Callable[[str], bytes], tmp_path: Path, page: int) -> None:
    path = tmp_path / "pages.bpf.o"
    path.write_bytes(compile_bpf(SOURCE))
    code = textwrap.dedent(CODE).format(page=page, path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("7 1 [7] [7]\n", "")


@pytest.mark.parametrize("size", [(1 << 20) + 4096, 1 << 16, (1 << 16) + 64, 3 * (1 << 16) + 4096])
def test_a_freed_block_takes_nothing_from_its_neighbours(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel here rounds to 4 KiB; that whole pages alone are given back is seen in what is asked of it."""
    monkeypatch.setattr(mmap, "PAGESIZE", 16384)
    memory = Memory()
    before = memory.allocate(64)
    block = memory.allocate(size)
    after = memory.allocate(64)
    for address, count in ((before, 64), (block, size), (after, 64)):
        memory.write(address, b"\xff" * count)
    asked: list[tuple[int, int]] = []

    class Watched:
        def __init__(self, mapping: object) -> None:
            self.mapping = mapping

        def __getattr__(self, name: str) -> object:
            return getattr(self.mapping, name)

        def madvise(self, _advice: int, start: int, length: int) -> None:
            asked.append((start, length))
            memory.view[start - memory._at : start - memory._at + length] = bytes(length)

    memory._map = Watched(memory._map)  # type: ignore[assignment]
    memory.free(block)
    assert memory.read(block, size) == bytes(size)
    assert memory.read(before, 64) == memory.read(after, 64) == b"\xff" * 64
    for start, length in asked:
        assert start % 16384 == length % 16384 == 0
