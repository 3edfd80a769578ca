from __future__ import annotations

import asyncio
import errno
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, PerfReader

pytestmark = pytest.mark.kernel

SOURCE = """
struct my_event { __u64 number; __u32 cpu; char name[16]; };
struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __type(key, __u32);
    __type(value, struct my_event);
} events SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, 4);
    __uint(value_size, 4);
} bytes SEC(".maps");
__u64 wanted, next, failed;
long error;
SEC("raw_tp/sched_switch")
int emit(void *ctx)
{
    struct my_event event = {};
    __u64 i;
    event.cpu = bpf_get_smp_processor_id();
    __builtin_memcpy(event.name, "made by bpf", 12);
    for (i = 0; i < 1000; i++) {
        if (i >= wanted)
            break;
        event.number = next++;
        error = bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
        if (error)
            failed++;
    }
    return 0;
}
static char text[256];
__u32 length_less_1;
SEC("raw_tp/sched_switch")
int output(void *ctx)
{
    __u32 size = length_less_1 & 255; /* a bound all verifiers understand */
    text[0] = size + 1;
    error = bpf_perf_event_output(ctx, &bytes, BPF_F_CURRENT_CPU, text, size + 1);
    return 0;
}
"""
CPUS = sorted(os.sched_getaffinity(0))
RECORD = 8 + 4 + 4 + 28 + 4  # header, size of the raw data, the data, padding: a multiple of 8


@pytest.fixture
def obj(build: Callable[[str], bpf2py.ObjectSpec]) -> Iterator[bpf2py.Object]:
    with bpf2py.load(build(SOURCE)) as loaded:
        yield loaded


def emit(obj: bpf2py.Object, count: int, cpu: int = CPUS[0]) -> None:
    """Emit records, at most 1000 in each run of the program."""
    while count > 0:
        obj.variables["wanted"].value = min(count, 1000)
        obj.programs["emit"].test_run(cpu=cpu)
        count -= 1000


def numbers(batches: list[Any]) -> list[int]:
    return [event.number for batch in batches for event in batch]


def test_typed_events_by_cpu(obj: bpf2py.Object) -> None:
    with PerfReader(obj.maps["events"]) as reader:
        assert reader.poll(0) == []
        for cpu in CPUS:
            emit(obj, 3, cpu)
        batches = reader.flush()
        assert [batch.cpu for batch in batches] == CPUS
        assert numbers(batches) == list(range(3 * len(CPUS)))
        for batch in batches:
            assert {(event.cpu, event.name) for event in batch} == {(batch.cpu, "made by bpf")}
            assert (batch.lost, batch.source, len(batch)) == (0, "events", 3)
        assert reader.lost == 0
        assert reader.poll(0.01) == []


def test_as_many_entries_as_cpus(obj: bpf2py.Object) -> None:
    assert obj.maps["events"].max_entries == obj.backend.possible_cpus


def test_numpy(obj: bpf2py.Object) -> None:
    pytest.importorskip("numpy")
    with PerfReader(obj.maps["events"]) as reader:
        emit(obj, 100)
        (batch,) = reader.flush()
        array = batch.to_numpy()
        assert array["number"].tolist() == list(range(100))
        assert set(array["cpu"].tolist()) == {CPUS[0]}
        assert batch.to_numpy("u8").tolist() == list(range(100))


def test_records_of_different_lengths(obj: bpf2py.Object) -> None:
    with PerfReader(obj.maps["bytes"]) as reader:
        lengths = [1, 4, 5, 12, 13, 100, 100, 256]
        for length in lengths:
            obj.variables["length_less_1"].value = length - 1
            obj.programs["output"].test_run(cpu=CPUS[0])
        (batch,) = reader.flush()
        # The kernel rounds up so that the next header is aligned.
        assert [len(event) for event in batch.events()] == [(length + 4 + 7) // 8 * 8 - 4 for length in lengths]
        assert [event[0] for event in batch.events()] == [length % 256 for length in lengths]


def test_around_the_end_many_times(obj: bpf2py.Object, scale: Callable[[int], int]) -> None:
    with PerfReader(obj.maps["events"], pages=4, cpus=[CPUS[0]]) as reader:
        found, expected = [], 0
        for round_number in range(scale(600)):
            count = 1 + round_number * 7 % 340
            emit(obj, count)
            expected += count
            found += numbers(reader.flush())
        assert found == list(range(expected))
        assert reader.lost == 0


def test_losses_are_counted_exactly(obj: bpf2py.Object) -> None:
    capacity = mmap.PAGESIZE // RECORD
    with PerfReader(obj.maps["events"], pages=1, cpus=[CPUS[0]]) as reader:
        for round_number in range(1, 4):
            start = obj.variables["next"].value
            emit(obj, 500)
            failed = obj.variables["failed"].value
            assert obj.variables["error"].value == -errno.ENOSPC
            kept = numbers(reader.flush())
            assert kept == list(range(start, start + len(kept)))
            assert len(kept) == 500 * round_number - failed - (round_number - 1) * (capacity + 1) or round_number > 1
            # The kernel tells of what it dropped in front of the next record it has room for.
            emit(obj, 1)
            (batch,) = reader.flush()
            assert batch.lost == failed - (reader.lost - batch.lost)
            assert reader.lost == failed
            assert numbers([batch]) == [start + 500]


def test_poll_waits_for_the_watermark(obj: bpf2py.Object) -> None:
    with PerfReader(obj.maps["events"], cpus=[CPUS[0]], watermark=10 * RECORD) as reader:
        emit(obj, 3)
        assert not reader._wait(0)  # three records do not wake
        assert numbers(reader.flush()) == [0, 1, 2]  # but can be had
        emit(obj, 20)
        assert reader._wait(20)
        assert len(numbers(reader.flush())) == 20


def test_poll_waits_for_so_many_events(obj: bpf2py.Object) -> None:
    with PerfReader(obj.maps["events"], cpus=[CPUS[0]], wakeup_events=5) as reader:
        emit(obj, 4)
        assert not reader._wait(0)
        emit(obj, 1)
        assert reader._wait(20)
        assert len(numbers(reader.flush())) == 5


def test_the_newest_of_an_overwritable_buffer(obj: bpf2py.Object, refused: Callable[..., Any]) -> None:
    with PerfReader(obj.maps["events"], pages=1, cpus=[CPUS[0]], overwritable=True) as reader:
        assert reader.snapshot() == []
        emit(obj, 3)
        assert numbers(reader.snapshot()) == [2, 1, 0]
        for total in (300, 1003, 2000):
            emit(obj, total - obj.variables["next"].value)
            newest = numbers(reader.snapshot())
            assert newest == list(range(total - 1, total - 1 - len(newest), -1))
            assert len(newest) in (mmap.PAGESIZE // RECORD, mmap.PAGESIZE // RECORD - 1)
        assert obj.variables["failed"].value == 0
        with refused(bpf2py.NotSupported, None, "an overwritable buffer is read with snapshot()"):
            reader.flush()
    with (
        PerfReader(obj.maps["events"]) as reader,
        refused(bpf2py.NotSupported, None, "snapshot() needs overwritable=True"),
    ):
        reader.snapshot()


def test_pause_and_resume(obj: bpf2py.Object) -> None:
    with PerfReader(obj.maps["events"], cpus=[CPUS[0]]) as reader:
        emit(obj, 1)
        reader.pause()
        emit(obj, 5)
        assert obj.variables["failed"].value == 5
        reader.resume()
        emit(obj, 1)
        assert numbers(reader.flush()) == [0, 6]


def test_iterating_and_async(obj: bpf2py.Object) -> None:
    async def read() -> list[int]:
        found = []
        with PerfReader(obj.maps["events"]) as reader:
            loop = asyncio.get_running_loop()
            loop.call_later(0.01, emit, obj, 4)
            loop.call_later(0.05, reader.close)
            async for event in reader:
                found.append(event.number)
        return found

    assert asyncio.run(asyncio.wait_for(read(), 20)) == [0, 1, 2, 3]
    with PerfReader(obj.maps["events"]) as reader:
        emit(obj, 2)
        assert [event.number for event in reader.events(timeout=0)] == [4, 5]
        assert list(reader.batches(timeout=0.01)) == []


def test_close_from_another_thread_ends_a_wait(obj: bpf2py.Object, assert_no_leaks: Callable[[], Any]) -> None:
    with assert_no_leaks():
        reader = PerfReader(obj.maps["events"])
        entered = threading.Event()

        def read() -> None:
            entered.set()
            list(reader.batches())

        thread = threading.Thread(target=read)
        thread.start()
        entered.wait()
        reader.close()
        thread.join(20)
        assert not thread.is_alive()


def test_closed(obj: bpf2py.Object, refused: Callable[..., Any]) -> None:
    reader = PerfReader(obj.maps["events"])
    reader.close()
    reader.close()
    with refused(bpf2py.ClosedError, None, "PerfReader: the reader is closed"):
        reader.flush()
    for operation in (reader.pause, reader.resume, reader.snapshot):
        with refused(bpf2py.ClosedError, None, "PerfReader: the reader is closed"):
            operation()
    emit(obj, 1)
    assert obj.variables["error"].value == -errno.ENOENT  # nothing is left in the map
    with PerfReader(obj.maps["events"]) as again:
        emit(obj, 1)
        assert numbers(again.flush()) == [1]


def test_a_second_reader_of_the_same_buffers_is_refused(obj: bpf2py.Object, refused: Callable[..., Any]) -> None:
    events = obj.maps["events"]
    with PerfReader(events, cpus=CPUS[:1]) as first:
        with refused(bpf2py.BpfOSError, errno.EBUSY, "PerfReader: map events is read by another reader already"):
            PerfReader(events)
        with Map.from_id(events.id) as same, refused(bpf2py.BpfOSError, errno.EBUSY, "is read by another reader"):
            PerfReader(same)
        with PerfReader(events, cpus=CPUS[1:]):  # other CPUs' buffers
            emit(obj, 2)
        emit(obj, 1)
        assert numbers(first.flush()) == [0, 1, 2]


def test_a_reader_that_closes_late_leaves_its_successor_alone(obj: bpf2py.Object) -> None:
    first = PerfReader(obj.maps["events"])
    with first._in_use():  # as by another thread
        first.close()
        second = PerfReader(obj.maps["events"])
    with second:
        emit(obj, 2)
        assert numbers(second.flush()) == [0, 1]


def test_what_is_refused(obj: bpf2py.Object, refused: Callable[..., Any], assert_no_leaks: Callable[[], Any]) -> None:
    events = obj.maps["events"]
    with assert_no_leaks():
        for pages in (0, 3, -1):
            with refused(bpf2py.BpfOSError, None, f"PerfReader: pages must be a power of two, is {pages}"):
                PerfReader(events, pages=pages)
        with refused(bpf2py.IndexOutOfRange, None, "map events: PerfReader: CPU 4095 has no entry: max_entries is "):
            PerfReader(events, cpus=[4095])
        with (
            Map.create("HASH", key="u32", value="u32", max_entries=4, name="counts") as counts,
            refused(bpf2py.NotSupported, None, "map counts: PerfReader reads PERF_EVENT_ARRAY maps, this is <HASH map"),
        ):
            PerfReader(counts)  # type: ignore[call-overload]


def test_perf_events_in_the_map(obj: bpf2py.Object, refused: Callable[..., Any]) -> None:
    events = obj.maps["events"]
    with refused(bpf2py.EncodeError, None, "map events: update: value: 'x' is not a descriptor"):
        events[0] = "x"
    with pytest.raises(bpf2py.BpfError, match="map events: update: "):
        events[0] = 999_999
    with refused(bpf2py.NotSupported, 524, "PERF_EVENT_ARRAY does not support BPF_MAP_LOOKUP_ELEM"):
        events[0]


PRODUCER = """
import os, sys
import bpf2py
cpu, total = int(sys.argv[2]), int(sys.argv[3])
os.sched_setaffinity(0, {cpu})
events = bpf2py.Map.from_fd(int(sys.argv[1]))
with bpf2py.load(sys.argv[4], maps={"events": events}) as obj:
    obj.variables["wanted"].value = 1000
    for _ in range(total // 1000):
        obj.programs["emit"].test_run(cpu=cpu)
    print(obj.variables["next"].value, obj.variables["failed"].value)
    obj.variables["wanted"].value = 1
    while obj.variables["error"].value:  # one more, so that the kernel tells of the last it dropped
        obj.programs["emit"].test_run(cpu=cpu)
    print(obj.variables["next"].value, obj.variables["failed"].value)
"""


def test_live_from_another_process(
    obj: bpf2py.Object, compile_object: Callable[[str], bytes], scale: Callable[[int], int], tmp_path: Path
) -> None:
    np = pytest.importorskip("numpy")
    total, cpu = max(scale(200_000) // 1000 * 1000, 1000), CPUS[-1]
    path = tmp_path / "producer.bpf.o"
    path.write_bytes(compile_object(SOURCE))
    fd = obj.maps["events"].fileno()
    argv = [sys.executable, "-c", PRODUCER, str(fd), str(cpu), str(total), str(path)]
    with PerfReader(obj.maps["events"], pages=256, cpus=[cpu]) as reader:
        found: list[Any] = []

        def read() -> None:
            found.extend(batch.to_numpy()["number"] for batch in reader.batches())

        thread = threading.Thread(target=read)
        thread.start()
        done = subprocess.run(argv, pass_fds=[fd], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        made, failed = map(int, done.stdout.split()[-2:])
        for _ in range(2000):
            if sum(map(len, found)) + failed >= made:
                break
            thread.join(0.005)
        reader.close()
        thread.join()
    numbers_found = np.concatenate(found)
    assert made >= total
    assert len(numbers_found) == made - failed
    assert reader.lost == failed
    steps = np.diff(numbers_found.astype(np.int64))
    assert (steps >= 1).all()  # in order, none twice
    assert int((steps - 1).sum()) + int(numbers_found[0]) + made - 1 - int(numbers_found[-1]) == failed
