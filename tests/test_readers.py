"""What both readers promise on both backends: every record is handed out once, whoever asks and however asking ends."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import mmap
import os
import random
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import bpf2py
import bpf2py.kernel.perf_buffer
import bpf2py.readers.ring
from bpf2py import PerfReader, RingReader
from bpf2py.btf.codec_for import codec_for
from bpf2py.btf.least_size import least_size
from bpf2py.readers import batch as batch_module
from bpf2py.readers.batch import PIECE, same_words
from bpf2py.shared_memory import Copies, new_fence

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
struct event { __u64 number; __u32 count; char text[20]; };
union part { __u32 small; __u64 large[2]; };
struct tail { __u32 kind; __u32 pid; union part part; };
struct padded { __u64 number; __u32 last; };
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 18);
    __type(value, struct event);
} ring SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
    __type(value, struct event);
} other SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __type(key, int); __type(value, struct event); } perf SEC(".maps");
struct tail unused_tail;
struct padded unused_padded;
struct event event;
__u64 wanted, next, failed, length;
__u32 to_perf;

static long put(__u32 index, void *ctx)
{
    __u64 size = length;
    if (size < 1 || size > sizeof(event))
        size = sizeof(event);
    event.number = next;
    if (bpf_ringbuf_output(&ring, &event, size, 0))
        failed++;
    else
        next++;
    return 0;
}

SEC("raw_tp/sched_switch")
int emit(void *ctx)
{
    if (to_perf) {
        for (int i = 0; i < 64 && i < wanted; i++) {
            event.number = next;
            __u64 size = length;
            if (size < 1 || size > sizeof(event))
                size = sizeof(event);
            if (bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, size))
                failed++;
            else
                next++;
        }
        return 0;
    }
    bpf_loop(wanted, put, 0, 0);
    return 0;
}
SEC("raw_tp/sched_switch")
int emit_other(void *ctx)
{
    bpf_ringbuf_output(&other, &event, sizeof(event), 0);
    return 0;
}
"""
CPU = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


class Case:
    """An object on a backend, and its ring or perf buffer."""

    def __init__(self, obj: bpf2py.Object, kind: str) -> None:
        self.obj = obj
        self.kind = kind
        obj.variables["to_perf"].value = kind == "perf"

    def reader(self, **options: Any) -> Any:
        return (
            RingReader(self.obj.maps["ring"], **options)
            if self.kind == "ring"
            else PerfReader(self.obj.maps["perf"], **options)
        )

    def emit(self, count: int, length: int = 0) -> None:
        self.obj.variables["length"].value = length
        while count > 0:
            self.obj.variables["wanted"].value = part = min(count, 64)
            self.obj.programs["emit"].test_run(cpu=CPU if self.kind == "perf" else None)
            count -= part


@pytest.fixture(scope="module")
def spec(compile_bpf: Callable[[str], bytes]) -> bpf2py.ObjectSpec:
    return bpf2py.ObjectSpec.from_bytes(compile_bpf(SOURCE))


BACKENDS = [pytest.param("kernel", marks=pytest.mark.kernel), "engine"]


@pytest.fixture(params=BACKENDS)
def obj(request: pytest.FixtureRequest, spec: bpf2py.ObjectSpec) -> Iterator[bpf2py.Object]:
    with bpf2py.load(spec.copy(), backend=request.param) as loaded:
        yield loaded


@pytest.fixture(params=["ring", "perf"])
def case(request: pytest.FixtureRequest, obj: bpf2py.Object) -> Case:
    return Case(obj, request.param)


def numbers(events: Any) -> list[int]:
    return [event.number for event in events]


# -- iterations that end early -------------------------------------------------------------------------------------------


def test_next_again_and_again(case: Case) -> None:
    with case.reader() as reader:
        case.emit(5)
        assert [next(reader.events()).number for _ in range(5)] == [0, 1, 2, 3, 4]
        assert list(reader.events(timeout=0)) == []


def test_break_exception_islice(case: Case) -> None:
    with case.reader() as reader:
        case.emit(9)
        for event in reader:
            if event.number == 2:
                break
        with pytest.raises(ZeroDivisionError):
            [1 // (event.number - 4) for event in reader.events(timeout=5)]
        assert numbers(itertools.islice(reader, 2)) == [5, 6]
        case.emit(1)
        batches = reader.flush()  # the rest first, then what is new
        assert [numbers(batch) for batch in batches] == [[7, 8], [9]]
        assert reader.flush() == []


@pytest.mark.parametrize("taken", [1, PIECE - 1, PIECE, PIECE + 1])
def test_the_rest_of_a_large_batch(obj: bpf2py.Object, taken: int) -> None:
    case = Case(obj, "ring")
    with case.reader() as reader:
        case.emit(5000)
        assert numbers(itertools.islice(reader, taken)) == list(range(taken))
        (batch,) = reader.poll(0)
        assert len(batch) == 5000 - taken
        assert batch.to_numpy()["number"].tolist() == list(range(taken, 5000))


def test_the_buffer_is_emptied_while_events_are_handed_out(case: Case) -> None:
    full = 6000 if case.kind == "ring" else 4000
    with case.reader() as reader:
        case.emit(full)
        events = reader.events()
        assert next(events).number == 0
        case.emit(full)
        assert numbers(itertools.islice(events, PIECE)) == list(range(1, PIECE + 1))
        case.emit(full)  # there would be no room if nothing had been taken meanwhile
        assert case.obj.variables["failed"].value == 0
        assert numbers(itertools.islice(events, 3 * full - PIECE - 1)) == list(range(PIECE + 1, 3 * full))


def test_with_a_timeout_of_0_an_iteration_ends_however_busy_the_buffer(case: Case) -> None:
    with case.reader() as reader:
        case.emit(1)
        for event in reader.events(timeout=0):
            assert event.number == 0
            case.emit(2)


@pytest.mark.parametrize("most", [1, 4096, 1 << 22])
@pytest.mark.parametrize("how", ["flush", "poll", "batches", "events"])
def test_what_is_there_now_is_all_of_it_however_large_the_ring(obj: bpf2py.Object, how: str, most: int) -> None:
    """A ring is taken in several steps; what is written after the first one may wait."""
    case = Case(obj, "ring")
    count = 5000 if most > 1 else 50
    with RingReader(obj.maps["ring"], obj.maps["other"], most=most) as reader:
        case.emit(count)
        obj.programs["emit_other"].test_run()
        if how == "events":
            found = numbers(reader.events(timeout=0))
        else:
            forms: dict[str, Callable[[], Any]] = {
                "flush": reader.flush,
                "poll": lambda: reader.poll(0),
                "batches": lambda: reader.batches(0),
            }
            batches = list(forms[how]())
            found = [number for batch in batches for number in numbers(batch)]
            assert len(batches) > (20 if most <= 4096 else 1)
        assert sorted(found) == [*range(count), count - 1], "the last one is in the other ring as well"
        assert reader.flush() == []


def test_a_record_in_the_making_ends_what_is_there_now(obj: bpf2py.Object) -> None:
    case = Case(obj, "ring")
    with RingReader(obj.maps["ring"], most=512) as reader:
        case.emit(100)
        (ring,) = reader._rings
        busy = memoryview(bytearray(bytes(ring.heads)))
        at = 60 * 40
        struct.pack_into("<I", busy, at, struct.unpack_from("<I", busy, at)[0] | 1 << 31)
        real, ring.heads = (
            ring.heads,
            busy.cast("I"),
        )  # programs reserve and submit at once: no other moment can be seen
        strided, ring._strided = ring._strided, (busy, 0)
        assert [number for batch in reader.flush() for number in numbers(batch)] == list(range(60))
        assert numbers(reader.events(timeout=0)) == []
        ring.heads, ring._strided = real, strided
        assert numbers(reader.events(timeout=0)) == list(range(60, 100))


def test_a_signal_handler_that_reads_what_is_there_now(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with case.reader() as reader:
        case.emit(10)
        take = reader._take
        within = []

        def interrupted() -> Iterator[Any]:
            within.append(reader.flush())
            within.append(list(reader.events(timeout=0)))
            yield from take()

        monkeypatch.setattr(reader, "_take", interrupted)
        assert [numbers(batch) for batch in reader.flush()] == [list(range(10))]
        assert within == [[], []]


def test_batches_of_several_buffers(obj: bpf2py.Object) -> None:
    case = Case(obj, "ring")
    with RingReader(obj.maps["ring"], obj.maps["other"]) as reader:
        case.emit(3)
        obj.programs["emit_other"].test_run()
        for batch in reader.batches():
            assert batch.source == "ring"
            break
        assert [batch.source for batch in reader.batches(timeout=0)] == ["other"]
        case.emit(3)
        obj.programs["emit_other"].test_run()
        assert next(reader.events()).number == 3
        with reader.lease(0) as left:  # what was taken before comes first
            assert numbers(left) == [4, 5]
        with reader.lease(0) as left:
            assert left is not None and left.source == "other"  # noqa: PT018
        with reader.lease(0) as left:
            assert left is None


def test_what_was_taken_can_be_had_after_close(case: Case) -> None:
    reader = case.reader()
    case.emit(4)
    assert next(reader.events()).number == 0
    reader.close()
    assert numbers(reader) == [1, 2, 3]
    assert list(reader) == []
    with pytest.raises(bpf2py.ClosedError):
        reader.flush()


def test_maps_of_other_readers_are_left_alone(obj: bpf2py.Object) -> None:
    with RingReader(obj.maps["ring"]) as first:
        for maps in ([obj.maps["ring"]], [obj.maps["other"], obj.maps["ring"]]):
            with pytest.raises(bpf2py.BpfOSError, match="is read by another reader already"):
                RingReader(*maps)
        with RingReader(obj.maps["other"]):
            pass
        assert first.flush() == []
    with pytest.raises(bpf2py.NotSupported, match="a map is given twice"):
        RingReader(obj.maps["ring"], obj.maps["ring"])
    RingReader(obj.maps["ring"]).close()


# -- short records -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [12, 16, 20, 28, 32])
def test_short_tails_are_zeros(case: Case, length: int) -> None:
    """Perf buffers pad records to 4 more than a multiple of 8."""
    case.obj.variables["event"].value = {"number": 0, "count": 7, "text": "x" * 20}
    with case.reader() as reader:
        case.emit(2, length)
        (batch,) = reader.flush()
        there = max(length, 12) if case.kind == "ring" else (length + 4 + 7) // 8 * 8 - 4
        for event in (*batch, *batch.events()):
            assert (event.count, event.text[: length - 12]) == (7, "x" * (length - 12))
            assert len(event.text) <= there - 12
        array = batch.to_numpy()
        assert array["number"].tolist() == [0, 1]
        assert array["count"].tolist() == [7, 7]


def test_a_record_that_is_too_short_is_the_only_one_lost(case: Case) -> None:
    with case.reader() as reader:
        case.emit(2)
        case.emit(1, 3)
        case.emit(2)
        found: list[int] = []
        with pytest.raises(bpf2py.EncodeError, match=r"a record of [34] bytes is too short"):
            found.extend(event.number for event in reader.events(timeout=0))
        assert found == [0, 1]
        assert numbers(reader.events(timeout=0)) == [3, 4]
        case.emit(1, 3)
        case.emit(2)
        (batch,) = reader.flush()
        with pytest.raises(bpf2py.EncodeError):
            batch.events()
        assert [len(record) >= 32 for record in batch.records()] == [False, True, True]


def test_what_a_type_may_lack(obj: bpf2py.Object, spec: bpf2py.ObjectSpec) -> None:
    assert spec.types is not None
    sizes = {}
    for name in ("event", "tail", "padded"):
        codec = codec_for(spec.types, spec.types.find(name))
        sizes[name] = (least_size(codec), codec.size)
    assert sizes == {"event": (12, 32), "tail": (8, 24), "padded": (12, 16)}


# -- time ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["events", "batches"])
def test_a_timeout_is_the_whole_time_however_busy_the_ring(obj: bpf2py.Object, form: str) -> None:
    case, stop = Case(obj, "ring"), threading.Event()

    def produce() -> None:
        while not stop.is_set():
            case.emit(64)

    producer = threading.Thread(target=produce)
    with case.reader() as reader:
        producer.start()
        try:
            found = sum(1 for _ in getattr(reader, form)(timeout=0.2))  # without an end it would not get here
        finally:
            stop.set()
            producer.join()
        assert found
        rest = list(reader.events(timeout=0))  # what the time was too short for
        assert not rest or rest[-1].number == obj.variables["next"].value - 1


@pytest.mark.parametrize("timeout", [float("nan"), "1", object()])
def test_what_is_not_a_time(case: Case, timeout: Any) -> None:
    with case.reader() as reader:
        for call in (reader.poll, reader.events, reader.batches):
            with pytest.raises(bpf2py.EncodeError, match="a timeout is a number of seconds or None"):
                call(timeout)


def test_for_ever_and_a_negative_time(case: Case) -> None:
    with case.reader() as reader:
        assert reader.poll(-1) == []
        case.emit(1)
        assert len(reader.poll(float("inf"))) == 1
        case.emit(1)
        assert numbers(itertools.islice(reader.events(1e300), 1)) == [1]


# -- threads and tasks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["flush", "events", "batches", "poll"])
def test_threads_share_the_records(case: Case, how: str) -> None:
    total, found, errors = 3000, [[] for _ in range(4)], []  # type: ignore[var-annotated]
    with case.reader() as reader:
        done = threading.Event()

        def consume(mine: list[int]) -> None:
            try:
                if how == "events":
                    mine.extend(event.number for event in reader)
                elif how == "batches":
                    for batch in reader.batches():
                        mine.extend(numbers(batch))
                else:
                    while not done.is_set():
                        for batch in reader.flush() if how == "flush" else reader.poll(0.05):
                            mine.extend(numbers(batch))
            except bpf2py.ClosedError:
                pass
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=consume, args=(mine,)) for mine in found]
        for thread in threads:
            thread.start()
        for _ in range(total // 50):
            case.emit(50)
        made = case.obj.variables["next"].value
        while sum(map(len, found)) < made and any(thread.is_alive() for thread in threads):
            os.sched_yield()
        done.set()
        reader.close()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    assert errors == []
    assert sorted(itertools.chain(*found)) == list(range(made))


def test_tasks_share_the_records(case: Case) -> None:
    async def run() -> list[list[int]]:
        with case.reader() as reader:

            async def consume() -> list[int]:
                return [event.number async for event in reader]

            tasks = [asyncio.create_task(consume()) for _ in range(3)]
            for _ in range(20):
                case.emit(10)
                await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.05, reader.close)
            return list(await asyncio.wait_for(asyncio.gather(*tasks), 60))

    found = asyncio.run(run())
    assert sorted(itertools.chain(*found)) == list(range(200))


def test_cancelled_tasks_take_nothing_with_them(case: Case) -> None:
    async def collect(events: Any, found: list[int]) -> None:
        while True:
            found.append((await anext(events)).number)

    async def run() -> list[int]:
        found: list[int] = []
        with case.reader() as reader:
            events = aiter(reader)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(events), 0.01)
            case.emit(3)
            found.append((await anext(events)).number)  # the same iterator goes on
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(collect(events, found), 0.01)
            task = asyncio.create_task(anext(aiter(reader)))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            case.emit(2)
            async for batch in reader.batches_async():
                found.extend(numbers(batch))
                if found[-1] == 4:
                    break
        return found

    found = asyncio.run(run())
    assert found == [0, 1, 2, 3, 4]


def test_breaking_out_of_async_for(case: Case) -> None:
    async def run() -> list[int]:
        found = []
        with case.reader() as reader:
            case.emit(4)
            async for event in reader:
                found.append(event.number)
                break
            async for event in reader:
                found.append(event.number)
                if len(found) == 3:
                    break
            found += numbers(reader.flush()[0])
        return found

    assert asyncio.run(run()) == [0, 1, 2, 3]


# -- closing while others are inside -------------------------------------------------------------------------------------


def _lease(reader: Any) -> None:
    with reader.lease(5) as batch:
        if batch is not None:
            numbers(batch)


def _async(reader: Any) -> None:
    async def run() -> None:
        async for _ in reader:
            pass

    asyncio.run(run())


USES: dict[str, Callable[[Any], Any]] = {
    "flush": lambda reader: [numbers(batch) for batch in reader.flush()],
    "poll": lambda reader: reader.poll(5),
    "events": lambda reader: numbers(reader),
    "batches": lambda reader: [batch.to_numpy() for batch in reader.batches()],
    "async": _async,
    "lease": _lease,
    "pause": lambda reader: (reader.pause(), reader.resume()),
}
ROUNDS = int(os.environ.get("BPF2PY_ROUNDS", "40"))


@pytest.mark.parametrize("use", USES)
def test_closing_while_another_thread_is_inside(case: Case, use: str) -> None:
    if use == ("lease" if case.kind == "perf" else "pause"):
        use = "flush"  # readers of these maps have no such method
    for _ in range(ROUNDS):
        reader = case.reader()
        case.emit(20)
        inside, errors = threading.Event(), []  # type: ignore[var-annotated]

        def work(reader: Any = reader, inside: threading.Event = inside, errors: list[BaseException] = errors) -> None:
            try:
                while True:
                    inside.set()
                    USES[use](reader)
                    if reader.closed:
                        return
            except bpf2py.ClosedError:
                pass
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        inside.wait()
        reader.close()
        thread.join(60)
        assert not thread.is_alive(), "close() must end the wait"
        assert errors == []
    with case.reader() as reader:  # it is whole
        list(reader.events(timeout=0))
        case.emit(1)
        assert len(list(reader.events(timeout=0))) == 1


def test_closing_within_ones_own_lease(obj: bpf2py.Object) -> None:
    case = Case(obj, "ring")
    reader = case.reader()
    case.emit(3)
    with reader.lease(0) as batch:
        assert batch is not None
        reader.close()
        assert numbers(batch) == [0, 1, 2]
    assert len(batch) == 0


def test_others_read_on_after_a_lease(obj: bpf2py.Object) -> None:
    case = Case(obj, "ring")
    with case.reader() as reader:
        case.emit(2)
        found: list[Any] = []
        with reader.lease(0) as batch:
            assert batch is not None
            thread = threading.Thread(target=lambda: found.extend(reader.poll(60)))
            thread.start()
            case.emit(1)
            assert numbers(batch) == [0, 1]
        thread.join(60)
        assert [numbers(batch) for batch in found] == [[2]]


# -- processes -----------------------------------------------------------------------------------------------------------


@pytest.mark.kernel
@pytest.mark.parametrize("kind", ["ring", "perf"])
def test_a_forked_child_leaves_its_parents_reader_alone(spec: bpf2py.ObjectSpec, kind: str) -> None:
    with bpf2py.load(spec.copy()) as obj:
        case = Case(obj, kind)
        reader = case.reader()
        for ending in ("close", "exit", "collect"):
            child = os.fork()
            if not child:
                try:
                    if ending == "close":
                        reader.close()
                    elif ending == "collect":
                        reader._finalizer()
                finally:
                    os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            start = obj.variables["next"].value
            case.emit(3)
            assert numbers(reader.events(timeout=0)) == [start, start + 1, start + 2], ending
        reader.close()


@pytest.mark.kernel
def test_a_daemonised_child_reads_on_its_own(compile_bpf: Callable[[str], bytes], tmp_path: Any) -> None:
    """sys.exit() in a child runs what is registered to run at exit."""
    path = tmp_path / "readers.bpf.o"
    path.write_bytes(compile_bpf(SOURCE))
    code = f"""
        import os, sys, bpf2py
        obj = bpf2py.load({str(path)!r})
        obj.variables["to_perf"].value, obj.variables["wanted"].value = 1, 4
        reader = bpf2py.PerfReader(obj.maps["perf"])
        if os.fork() == 0:
            sys.exit(0)
        os.wait()
        obj.programs["emit"].test_run()
        print([event.number for event in reader.events(timeout=0)], reader.lost)
    """
    done = subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[0, 1, 2, 3] 0\n", "")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["ring", "perf"])
@pytest.mark.parametrize("uses_numpy", [False, True])
def test_a_reader_is_ready_when_its_constructor_returns(
    compile_bpf: Callable[[str], bytes], tmp_path: Any, backend: str, kind: str, uses_numpy: bool
) -> None:
    """What is imported later is time in which a ring overflows; numpy takes longest, and only arrays need it."""
    also = "== batch.to_numpy()['number'].tolist()" if uses_numpy else ""
    path = tmp_path / "readers.bpf.o"
    path.write_bytes(compile_bpf(SOURCE))
    code = f"""
        import sys, bpf2py
        {"import numpy" if uses_numpy else ""}
        with bpf2py.load({str(path)!r}, backend={backend!r}) as obj:
            obj.variables["to_perf"].value, obj.variables["wanted"].value = {int(kind == "perf")}, 60
            with bpf2py.{"PerfReader" if kind == "perf" else "RingReader"}(obj.maps[{kind!r}]) as reader:
                before = set(sys.modules)
                for _ in range(2):
                    obj.programs["emit"].test_run()
                emitted = set(sys.modules)
                (batch,) = reader.poll(0)
                assert [event.number for event in batch] {also} == list(range(120))
                print(sorted(set(sys.modules) - emitted), "numpy" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"[] {uses_numpy}\n", "")


def test_fences_where_the_cpu_needs_them(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they order anything cannot be seen here, but that every place has one that works can."""
    made: list[int] = []

    def counting(_ordered: bool = True) -> Callable[[], None]:
        fence = new_fence(False)

        def count() -> None:
            made.append(1)
            fence()

        return count

    monkeypatch.setattr(bpf2py.readers.ring, "new_fence", counting)
    monkeypatch.setattr(bpf2py.kernel.perf_buffer, "new_fence", counting)
    with case.reader() as reader:
        case.emit(3)
        assert numbers(reader.events(timeout=0)) == [0, 1, 2]
        if case.kind == "ring":
            case.emit(1)
            with reader.lease(0) as batch:
                assert numbers(batch) == [3]
            assert len(made) >= 3
        elif case.obj.backend.name == "kernel":
            assert len(made) == 2


@pytest.mark.parametrize("source", [bytes, bytearray, memoryview, "mmap", "ctypes"])
@pytest.mark.parametrize("numpy_there", [False, True])
def test_words_that_are_the_same(source: Any, numpy_there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not numpy_there:
        monkeypatch.setattr(batch_module, "sys", SimpleNamespace(modules={}))
    chance = random.Random(5)
    for _ in range(200):
        count, stride, start = chance.randrange(1, 5000), chance.choice((8, 16, 40, 48)), chance.choice((0, 8, 4))
        word = chance.choice((0x20, 0x12345678, 0x300009, 0))
        same = chance.choice((count, 0, 1, 63, 64, 65, chance.randrange(count)))
        data = bytearray(chance.randbytes(start + count * stride))
        for index in range(count):
            struct.pack_into("<I", data, start + index * stride, word)
        if same < count:
            at = start + same * stride
            struct.pack_into("<I", data, at, word ^ 1 << chance.randrange(32))
        given: Any = data
        if source == "mmap":
            given = mmap.mmap(-1, len(data))
            given[:] = bytes(data)
        elif source == "ctypes":
            given = (ctypes.c_char * len(data)).from_buffer(data)
        elif source is not bytearray:
            given = source(bytes(data))
        assert same_words(given, start, count, stride, word) == min(same, count)


def test_copies_are_made_in_memory_that_nobody_looks_at_any_more() -> None:
    copies = Copies(1 << 16)
    one = copies.copy(memoryview(b"a" * 70_000), memoryview(b"b" * 10))
    two = copies.copy(memoryview(b"c" * 70_000))
    part = one[69_990:70_010]
    del one
    three = copies.copy(memoryview(b"d" * 70_010))
    assert bytes(part) == b"a" * 10 + b"b" * 10
    assert (two[0], two[-1], three[-1]) == (b"c"[0], b"c"[0], b"d"[0])
    assert not copies._free
    del two, part
    assert len(copies._free) == 2
    free = list(copies._free)
    four = copies.copy(memoryview(b"e" * 70_000))
    assert len(copies._free) == 1
    assert any(bytes(block[:70_000]) == bytes(four) for block in free)
