from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, RingReader

pytestmark = pytest.mark.kernel

SOURCE = """
struct my_event { __u64 number; __u32 cpu; char name[12]; };
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 65536);
    __type(value, struct my_event);
} events SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
} bytes SEC(".maps");
__u64 wanted, next, failed;
__u32 each;  /* every so many records is discarded, 0: none */
__u64 flags;

static long put(__u32 index, void *ctx)
{
    struct my_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event) {
        failed++;
        return 0;
    }
    event->number = next++;
    event->cpu = bpf_get_smp_processor_id();
    __builtin_memcpy(event->name, "made by bpf", 12);
    if (each && event->number % each == 0)
        bpf_ringbuf_discard(event, flags);
    else
        bpf_ringbuf_submit(event, flags);
    return 0;
}
SEC("raw_tp/sched_switch")
int emit(void *ctx)
{
    bpf_loop(wanted, put, 0, 0);
    return 0;
}

static char text[512];
__u32 length;
SEC("raw_tp/sched_switch")
int output(void *ctx)
{
    __u32 size = length;
    if (size > sizeof(text))
        return 0;
    text[0] = size;
    if (bpf_ringbuf_output(&bytes, text, size, flags))
        failed++;
    return 0;
}
"""

CAPACITY = 65536 // 32 - 1  # the kernel never fills a ring to the last byte


@pytest.fixture
def obj(build: Callable[[str], bpf2py.ObjectSpec]) -> Iterator[bpf2py.Object]:
    with bpf2py.load(build(SOURCE)) as loaded:
        yield loaded


def emit(obj: bpf2py.Object, count: int, **variables: int) -> None:
    for name, value in {"wanted": count, **variables}.items():
        obj.variables[name].value = value
    obj.programs["emit"].test_run()


def output(obj: bpf2py.Object, length: int) -> None:
    obj.variables["length"].value = length
    obj.programs["output"].test_run()


def test_typed_events(obj: bpf2py.Object) -> None:
    with RingReader(obj.maps["events"]) as reader:
        assert reader.poll(0) == []
        emit(obj, 5)
        (batch,) = reader.poll(0)
        assert len(batch) == 5
        assert [event.number for event in batch] == [0, 1, 2, 3, 4]
        assert {(event.name, event.cpu < (os.cpu_count() or 1)) for event in batch.events()} == {("made by bpf", True)}
        assert (batch.source, batch.lost, batch.cpu) == ("events", 0, None)
        assert [bytes(record[:8]) for record in batch.records()] == [n.to_bytes(8, "little") for n in range(5)]
        assert reader.poll(0) == []


def test_numpy(obj: bpf2py.Object) -> None:
    np = pytest.importorskip("numpy")
    with RingReader(obj.maps["events"]) as reader:
        emit(obj, 100)
        (batch,) = reader.flush()
        array = batch.to_numpy()
        assert array.shape == (100,)
        assert array.dtype.names == ("number", "cpu", "name")
        assert array["number"].tolist() == list(range(100))
        assert batch.to_numpy("u8").tolist() == list(range(100))
        offsets, lengths = batch.offsets()
        assert offsets.tolist() == [offsets[0] + 32 * n for n in range(100)]
        assert set(lengths.tolist()) == {24}
        first = np.frombuffer(batch.data, "u8", 1, int(offsets[7]))
        assert first[0] == 7


def test_records_of_different_lengths(obj: bpf2py.Object) -> None:
    lengths = [1, 8, 9, 16, 100, 8, 8, 7, 255, 3]
    with RingReader(obj.maps["bytes"]) as reader:
        for length in lengths:
            output(obj, length)
        (batch,) = reader.flush()
        assert [len(event) for event in batch.events()] == lengths
        assert [event[0] for event in batch.events()] == lengths
        assert batch.offsets()[1].tolist() == lengths
        with pytest.raises(bpf2py.EncodeError, match="bytes: records of different lengths"):
            batch.to_numpy()
        with pytest.raises(bpf2py.EncodeError, match="bytes: a record of 1 bytes is too short for 8"):
            batch.to_numpy("u8")


@pytest.mark.parametrize("each", [1, 2, 3, 10])
def test_discarded_records_are_left_out(obj: bpf2py.Object, each: int) -> None:
    with RingReader(obj.maps["events"]) as reader:
        for _ in range(3):
            start = obj.variables["next"].value
            emit(obj, 500, each=each)
            found = [event.number for batch in reader.flush() for event in batch]
            assert found == [n for n in range(start, start + 500) if n % each]
        emit(obj, 10, each=0)
        assert len(list(reader.flush()[0])) == 10


def test_around_the_end_many_times(obj: bpf2py.Object, scale: Callable[[int], int]) -> None:
    with RingReader(obj.maps["events"], obj.maps["bytes"]) as reader:
        expected, found, lengths, got = 0, [], [], []
        for round_number in range(scale(600)):
            count = 1 + round_number * 7 % 1900
            emit(obj, count)
            expected += count
            for length in (round_number % 500, 3):
                output(obj, length + 1)
                lengths.append(length + 1)
            for batch in reader.flush():
                if batch.source == "events":
                    found += [event.number for event in batch]
                else:
                    got += [len(event) for event in batch]
        assert found == list(range(expected))
        assert got == lengths
        assert obj.variables["failed"].value == 0


def test_a_full_ring_loses_only_what_the_program_counts(obj: bpf2py.Object) -> None:
    with RingReader(obj.maps["events"]) as reader:
        emit(obj, 5000)
        failed = obj.variables["failed"].value
        (batch,) = reader.flush()
        assert len(batch) == 5000 - failed == CAPACITY
        assert batch.events()[-1].number == CAPACITY - 1
        emit(obj, 5)  # there is room again
        assert len(reader.flush()[0]) == 5


def test_in_portions(obj: bpf2py.Object) -> None:
    with RingReader(obj.maps["events"], most=320) as reader:
        emit(obj, 25)
        assert [len(batch) for batch in reader.flush()] == [10, 10, 5]
        assert reader.flush() == []


def test_several_rings(obj: bpf2py.Object) -> None:
    with RingReader(obj.maps["events"], obj.maps["bytes"]) as reader:
        emit(obj, 2)
        output(obj, 4)
        found = {batch.source: len(batch) for batch in reader.poll(1)}
        assert found == {"events": 2, "bytes": 1}


def test_iterating(obj: bpf2py.Object) -> None:
    with RingReader(obj.maps["events"]) as reader:
        emit(obj, 10)
        assert [event.number for event in reader.events(timeout=0)] == list(range(10))
        assert list(reader.batches(timeout=0.01)) == []
        emit(obj, 3)
        for event in reader:
            if event.number == 11:
                reader.close()  # what was read already is still handed out
        assert event.number == 12


def test_async_for(obj: bpf2py.Object) -> None:
    async def read() -> list[int]:
        found: list[int] = []
        with RingReader(obj.maps["events"]) as reader:
            emit(obj, 3)
            loop = asyncio.get_running_loop()
            loop.call_later(0.01, emit, obj, 4)  # while the reader waits
            async for event in reader:
                found.append(event.number)
                if len(found) == 7:
                    break
            async for batch in reader.batches_async():
                raise AssertionError(batch)
                break
        return found

    async def limited() -> list[int]:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(endless(), 0.05)
        return await asyncio.wait_for(closed(), 10)

    async def endless() -> None:
        with RingReader(obj.maps["events"]) as reader:
            async for _ in reader:
                pass

    async def closed() -> list[int]:
        found = []
        with RingReader(obj.maps["events"]) as reader:
            loop = asyncio.get_running_loop()
            loop.call_later(0.01, emit, obj, 4)
            loop.call_later(0.05, reader.close)
            async for event in reader:
                found.append(event.number)
        return found

    assert asyncio.run(limited()) == [0, 1, 2, 3]


def test_close_from_another_thread_ends_a_wait(obj: bpf2py.Object, assert_no_leaks: Callable[[], Any]) -> None:
    with assert_no_leaks():
        reader = RingReader(obj.maps["events"])
        entered = threading.Event()
        found: list[Any] = []

        def read() -> None:
            entered.set()
            found.extend(reader.batches())

        thread = threading.Thread(target=read)
        thread.start()
        entered.wait()
        reader.close()
        thread.join(20)
        assert not thread.is_alive()
        assert found == []


def test_closed(obj: bpf2py.Object, refused: Callable[..., Any]) -> None:
    reader = RingReader(obj.maps["events"])
    emit(obj, 1)
    reader.close()
    reader.close()
    assert reader.closed
    for operation in (reader.flush, lambda: reader.poll(0), lambda: reader.lease(0).__enter__()):
        with refused(bpf2py.ClosedError, None, "RingReader: the reader is closed"):
            operation()
    assert list(reader) == []
    with RingReader(obj.maps["events"]) as again:
        assert [event.number for event in again.flush()[0]] == [0]


def test_the_map_may_be_closed_first(obj: bpf2py.Object) -> None:
    with RingReader(obj.maps["events"]) as reader:
        emit(obj, 2)
        obj.maps["events"].close()
        emit(obj, 1)
        assert len(reader.flush()[0]) == 3


def test_a_lease_keeps_the_space_until_its_end(obj: bpf2py.Object) -> None:
    with RingReader(obj.maps["events"]) as reader:
        emit(obj, CAPACITY)
        with reader.lease(timeout=0) as batch:
            assert batch is not None
            assert len(batch) == CAPACITY
            assert batch.events()[5].number == 5
            emit(obj, 1)
            assert obj.variables["failed"].value == 1  # still full
            assert reader.flush() == []
            batch.commit()
            assert len(batch) == 0
            emit(obj, 1)
            assert obj.variables["failed"].value == 1
        with reader.lease(timeout=0) as batch:
            assert batch is not None
            assert [event.number for event in batch] == [CAPACITY]
        with reader.lease(timeout=0.01) as batch:
            assert batch is None


def test_no_leaks(obj: bpf2py.Object, assert_no_leaks: Callable[[], Any]) -> None:
    emit(obj, 1)  # maps the variables
    with assert_no_leaks():
        with RingReader(obj.maps["events"], obj.maps["bytes"]) as reader:
            emit(obj, 3)
            reader.flush()
        left = RingReader(obj.maps["events"])
        del left
        reader = RingReader(obj.maps["events"])
        with reader.lease(0):
            emit(obj, 1)
            with reader.lease(0) as batch:
                assert batch is not None
                array = batch.records()
                next(array)
                del array
        reader.close()


def test_what_is_no_ring(refused: Callable[..., Any]) -> None:
    with (
        Map.create("HASH", key="u32", value="u32", max_entries=4, name="counts") as counts,
        refused(bpf2py.NotSupported, None, "map counts: RingReader reads RINGBUF maps, this is <HASH map counts"),
    ):
        RingReader(counts)
    with refused(bpf2py.NotSupported, None, "no map given"):
        RingReader()


def test_too_short_for_the_type(obj: bpf2py.Object) -> None:
    codec = obj.maps["events"].value_codec
    with RingReader(obj.maps["bytes"], type=codec) as reader:
        output(obj, 10)
        (batch,) = reader.flush()
        with pytest.raises(bpf2py.EncodeError, match=r"bytes: a record of 10 bytes is too short for .*\(24 bytes\)"):
            batch.events()
        output(obj, 40)
        assert len(reader.flush()[0].events()) == 1  # longer ones are cut


PRODUCER = """
import os, sys
import bpf2py
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
ring, total, portion = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
given = bpf2py.Map.from_fd(ring)
spec = bpf2py.ObjectSpec.from_file(sys.argv[4])
with bpf2py.load(spec, maps={"events": given}) as obj:
    obj.variables["wanted"].value = portion
    for _ in range(total // portion):
        obj.programs["emit"].test_run()
    print(obj.variables["next"].value, obj.variables["failed"].value)
"""


def test_live_from_another_process(
    obj: bpf2py.Object, compile_object: Callable[[str], bytes], scale: Callable[[int], int], tmp_path: Path
) -> None:
    np = pytest.importorskip("numpy")
    total, portion = scale(1_000_000), 500
    path = tmp_path / "producer.bpf.o"
    path.write_bytes(compile_object(SOURCE))
    ring = obj.maps["events"].fileno()
    argv = [sys.executable, "-c", PRODUCER, str(ring), str(total), str(portion), str(path)]
    with RingReader(obj.maps["events"]) as reader:
        found: list[Any] = []

        def read() -> None:
            found.extend(batch.to_numpy()["number"] for batch in reader.batches())

        thread = threading.Thread(target=read)
        thread.start()
        done = subprocess.run(argv, pass_fds=[ring], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        made, failed = map(int, done.stdout.split())
        deadline = 2000
        while thread.is_alive() and sum(map(len, found)) < made and deadline:
            deadline -= 1
            thread.join(0.005)
        reader.close()
        thread.join()
    numbers = np.concatenate(found)
    assert made + failed == total
    assert len(numbers) == made  # nothing that was submitted is lost
    assert (np.diff(numbers.astype(np.int64)) == 1).all()  # nor doubled, nor out of order


class Memory:
    """Stands for the map: a ring in plain memory, whose producer is the test."""

    size = page_size = 4096
    name = "memory"

    def __init__(self) -> None:
        self.consumer, self.producer = bytearray(8), bytearray(4096 + 2 * self.size)
        self._handle = self

    def mmap(self, length: int, writable: bool, offset: int = 0) -> Any:
        return self.producer if offset else self.consumer

    def fileno(self) -> int:
        return -1

    def put(self, at: int, payload: bytes, flags: int = 0) -> int:
        """Write a record; the position behind it."""
        record = (len(payload) | flags).to_bytes(4, "little") + bytes(4) + payload
        for position, octet in enumerate(record):
            place = (at + position) % self.size
            self.producer[4096 + place] = self.producer[4096 + self.size + place] = octet
        end = at + (len(record) + 7) // 8 * 8
        self.producer[:8] = end.to_bytes(8, "little")
        return end


BUSY, DISCARD = 1 << 31, 1 << 30


@pytest.mark.parametrize("start", [0, 8 * 500, (1 << 64) - 4096 * 5 + 4000])
@pytest.mark.parametrize("before", [0, 1, 7, 8, 30])
def test_a_record_still_being_written_holds_back_those_behind_it(start: int, before: int) -> None:
    from bpf2py.btf.codec import BytesCodec
    from bpf2py.readers.ring import Ring

    memory = Memory()
    memory.consumer[:] = start.to_bytes(8, "little")
    ring = Ring(memory, BytesCodec(0))  # type: ignore[arg-type]
    at = start
    for number in range(before):
        at = memory.put(at, bytes([number]) * 8)
    at = memory.put(at, b"discarded", DISCARD)
    busy = at
    at = memory.put(busy, b"late....", BUSY)
    memory.put(at, b"behind..")
    batch = ring.take(1 << 20)
    assert [event[0] for event in batch.events()] == list(range(before)) if batch is not None else not before
    assert ring.position[0] == busy
    assert ring.take(1 << 20) is None
    memory.put(busy, b"late....")
    memory.put(at, b"behind..")
    again = ring.take(1 << 20)
    assert again is not None
    assert again.events() == [b"late....", b"behind.."]
    assert ring.take(1 << 20) is None


@pytest.mark.parametrize("name", ["event", "struct event", "event_t"])
def test_records_by_the_name_of_their_type(build: Callable[[str], bpf2py.ObjectSpec], name: str) -> None:
    source = """
typedef struct event { int a; char b[4]; } event_t;
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps");
event_t *unused;
SEC("syscall") int send(void *ctx)
{
    event_t e = { 5, "abc" };
    return bpf_ringbuf_output(&ring, &e, sizeof(e), 0);
}
SEC("raw_tp") int send_perf(void *ctx)
{
    event_t e = { 6, "def" };
    return bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &e, sizeof(e));
}
"""
    with bpf2py.load(build(source)) as obj:
        with bpf2py.RingReader(obj.maps["ring"], type=name) as reader:
            obj.programs["send"].test_run()
            assert [tuple(event) for event in reader.poll(10)[0].events()] == [(5, "abc")]
        with bpf2py.PerfReader(obj.maps["perf"], type=name) as reader:
            obj.programs["send_perf"].test_run()
            assert next(reader.events(10)).b == "def"
        with pytest.raises(bpf2py.EncodeError, match=r"map ring: 'evnt' is not a basic C type .* none of this name"):
            bpf2py.RingReader(obj.maps["ring"], type="evnt")
