"""Ring buffers: what programs write is byte for byte what the kernel's rings hold, and readers see it."""

from __future__ import annotations

import errno
import mmap
import random
import struct
import threading
import time
from typing import Any

import pytest
from tests.engine.differential import running_kernel

import bpf2py
from bpf2py.engine import Engine

SIZE = mmap.PAGESIZE
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
struct op { __u32 code, size; __u64 flags; __s64 result; };
struct io { __u64 count; struct op ops[16]; __u8 data[1024]; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct io); } io SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");

static void reserve(struct op *op, __u8 *data, __u64 size)
{
	__u64 *at = bpf_ringbuf_reserve(&ring, size, op->flags & 4);
	op->result = at != 0;
	if (!at)
		return;
	at[0] = *(__u64 *)data;
	if (op->code & 1)
		bpf_ringbuf_discard(at, op->flags & 3);
	else
		bpf_ringbuf_submit(at, op->flags & 3);
}

SEC("tc")
int run(void *ctx)
{
	__u32 zero = 0;
	struct io *at = bpf_map_lookup_elem(&io, &zero);
	if (!at)
		return 0;
	for (__u32 i = 0; i < 16; i++) {
		struct op *op = &at->ops[i];
		__u64 size = op->size;
		if (i >= at->count)
			break;
		if (op->code < 2)
			op->result = bpf_ringbuf_output(&ring, at->data, size & 1023, op->flags);
		else if (op->code < 4)
			reserve(op, at->data, 8);
		else if (op->code < 6)
			reserve(op, at->data, 200);
		else if (op->code < 8)
			reserve(op, at->data, 4088);
		else if (op->code == 8)
			op->result = bpf_ringbuf_query(&ring, op->flags & 7);
	}
	return 0;
}
"""
OP = struct.Struct("<IIQq")


class Side:
    def __init__(self, spec: bpf2py.ObjectSpec, backend: Any = None) -> None:
        self.object = bpf2py.load(spec.copy(), backend=backend)
        handle = self.object.maps["ring"]._handle
        self.consumer = memoryview(handle.mmap(SIZE, True)).cast("B")[:8].cast("Q")
        rest = memoryview(handle.mmap(SIZE + 2 * SIZE, False, SIZE)).cast("B")
        self.producer, self.data = rest[:8].cast("Q"), rest[SIZE:]

    def run(self, rows: list[tuple[int, int, int]], data: bytes) -> list[int]:
        io = self.object.maps["io"]
        raw = struct.pack("<Q", len(rows)) + b"".join(OP.pack(*row, -77) for row in rows)
        io[0] = (raw.ljust(8 + 16 * OP.size, b"\0") + data).ljust(io.value_size, b"\0")
        self.object.programs["run"].test_run(bytes(14))
        slot = io._handle.slot()
        slot.key[:] = bytes(4)
        assert slot.lookup() == 0
        return [OP.unpack_from(slot.value, 8 + i * OP.size)[3] for i in range(len(rows))]

    def records(self) -> list[tuple[int, int, bytes]]:
        """(length word, page word, bytes) of what is there."""
        found, at, end = [], self.consumer[0], self.producer[0]
        while at < end:
            start = at % SIZE
            head, page = struct.unpack_from("<II", self.data, start)
            length = head & 0x3FFFFFFF
            found.append((head, page, bytes(self.data[start + 8 : start + 8 + length])))
            at += (length + 15) & ~7
        return found

    def continued(self) -> bytes:
        """The same bytes as a reader gets them that goes on behind the end of the ring."""
        start, length = self.consumer[0] % SIZE, self.producer[0] - self.consumer[0]
        at, found = start, b""
        while at < start + length:
            head = struct.unpack_from("<I", self.data, at)[0] & 0x3FFFFFFF
            found += bytes(self.data[at : at + 8 + head])
            at += (head + 15) & ~7
        return found


@pytest.mark.kernel
@pytest.mark.parametrize("seed", range(8))
def test_as_the_kernels(seed: int) -> None:
    spec = bpf2py.ObjectSpec.from_bytes(bpf2py.compile(SOURCE))
    rng = random.Random(seed)
    sides = [Side(spec), Side(spec, Engine(kernel=running_kernel()))]
    refused = wrapped = 0
    for _ in range(200):
        rows = [
            (
                rng.choice((0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)),
                rng.choice((1, 8, 13, 100, 1000)),
                rng.choice((0, 0, 0, 1, 2, 3, 4)),
            )
            for _ in range(rng.randint(1, 16))
        ]
        data = rng.randbytes(1024)
        results = [side.run(rows, data) for side in sides]
        assert results[0] == results[1], rows
        refused += results[0].count(-11)
        assert sides[0].producer[0] == sides[1].producer[0]
        left, right = sides[0].records(), sides[1].records()
        assert [(h, p, b if not h & 1 << 30 else b"") for h, p, b in left] == [
            (h, p, b if not h & 1 << 30 else b"") for h, p, b in right
        ]
        if not any(row[0] in (4, 5, 6, 7) for row in rows):  # reserved records have bytes nobody wrote
            assert sides[0].continued() == sides[1].continued() or any(h & 1 << 30 for h, _, _ in left)
        wrapped += sides[0].producer[0] // SIZE != sides[0].consumer[0] // SIZE
        if rng.random() < 0.7:
            for side in sides:
                side.consumer[0] = side.producer[0]
    assert refused
    assert wrapped
    for side in sides:
        side.object.close()


def test_readers_wait_for_programs() -> None:
    engine = Engine()
    with bpf2py.load(bpf2py.ObjectSpec.from_bytes(bpf2py.compile(SOURCE)), backend=engine) as found:
        with bpf2py.RingReader(found.maps["ring"]) as reader:
            assert reader.poll(0) == []
            io = found.maps["io"]
            io[0] = (struct.pack("<Q", 1) + OP.pack(0, 13, 0, 0)).ljust(io.value_size, b"x")
            answers: list[Any] = []
            waiting = threading.Thread(target=lambda: answers.extend(reader.poll(20)))
            waiting.start()
            found.programs["run"].test_run(bytes(14))
            waiting.join()
            assert [bytes(event) for batch in answers for event in batch] == [b"x" * 13]
            assert reader.poll(0) == []
            before = time.monotonic()
            assert reader.poll(0.05) == []
            assert time.monotonic() - before >= 0.05
        assert engine.ring_events == []


def test_user_records_reach_the_library() -> None:
    engine = Engine()
    ring: Any = bpf2py.Map.create(bpf2py.MapType.USER_RINGBUF, max_entries=SIZE, backend=engine)
    peek, release = engine.function("user_ringbuf_peek"), engine.function("user_ringbuf_release")
    size, seen = engine.memory.allocate(8), b""
    expected = b""
    assert peek(ring._handle.header, size) == -errno.ENODATA
    for i in range(2000):
        data = bytes([i & 255]) * (i % 40 + 1)
        ring.push(data)
        expected += data
        if i % 7 == 6:
            for _ in range(7):
                address = peek(ring._handle.header, size)
                length = engine.memory.u32[size >> 2]
                seen += bytes(engine.memory.view[address : address + length])
                release(ring._handle.header, length)
            assert ring.pending() == 0
    assert expected.startswith(seen)
    assert len(seen) > 9 * SIZE
    ring.close()
