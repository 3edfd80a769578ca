"""Who holds what, and for how long: code and maps live while a program uses them, and no longer than somebody does."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, __u32); }
    jumps SEC(".maps");
struct inner { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, __u64); };
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 2); __type(key, __u32); __array(values, struct inner); }
    outer SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, __u64); } counts SEC(".maps");
__u64 calls, before = 17, after;

SEC("raw_tp/a") int first(void *ctx)
{
    __u64 number = before;
    __u32 key = bpf_get_smp_processor_id();

    bpf_map_update_elem(&counts, &key, &number, BPF_ANY);
    bpf_get_numa_node_id(); /* where the tests come in */
    bpf_map_update_elem(&counts, &key, &number, BPF_ANY);
    after = number + 1;
    bpf_ringbuf_output(&events, &number, sizeof(number), 0);
    bpf_tail_call(ctx, &jumps, 1);
    return 1;
}

SEC("raw_tp/b") int second(void *ctx)
{
    __sync_fetch_and_add(&calls, 1);
    bpf_get_numa_node_id();
    return 2;
}
char LICENSE[] SEC("license") = "GPL";
"""

TRANSLATORS = ("native", "python")


@pytest.fixture(scope="module")
def code(compile_bpf: Callable[[str], bytes]) -> bytes:
    return compile_bpf(SOURCE)


def load(code: bytes, engine: Engine) -> Any:
    obj = bpf2py.load(code, backend=engine)
    obj.maps["jumps"][1] = obj.programs["second"]
    return obj


def leaves_nothing(engine: Engine) -> None:
    gc.collect()
    engine.settle()
    assert (len(engine.maps), len(engine.cores), len(engine.programs), len(engine.units)) == (0, 0, 0, 0)
    assert not engine.timers
    assert not engine.hooks


@pytest.mark.parametrize("translator", TRANSLATORS)
def test_a_program_may_close_its_own_object(code: bytes, translator: str) -> None:
    seen: list[int] = []

    def close(_engine: Engine) -> int:
        seen.append(len(engine.units))
        obj.close()
        for _ in range(3):  # what is freed too early is used again
            with bpf2py.load(code, backend=Engine(translator=translator)):
                pass
            gc.collect()
        return 0

    engine = Engine(translator=translator, helpers={"get_numa_node_id": close})
    obj = load(code, engine)
    obj.attach()
    assert engine.fire("raw_tp/a") in ([1], [2])  # the jump is there or not
    assert seen
    with pytest.raises(bpf2py.errors.ClosedError):
        obj.programs["first"].run()
    leaves_nothing(engine)


@pytest.mark.parametrize("translator", TRANSLATORS)
def test_an_object_may_be_closed_by_another_thread(code: bytes, translator: str) -> None:
    within, closed = threading.Event(), threading.Event()

    def wait(_engine: Engine) -> int:
        within.set()
        assert closed.wait(60)
        return 0

    engine = Engine(translator=translator, helpers={"get_numa_node_id": wait})
    for how in ("close", "detach", "maps", "replace"):
        within.clear()
        closed.clear()
        obj = load(code, engine)
        links = obj.attach()
        results: list[int] = []
        thread = threading.Thread(target=lambda: results.extend(engine.fire("raw_tp/a")))  # noqa: B023
        thread.start()
        assert within.wait(60)
        if how == "close":
            obj.close()
        elif how == "detach":
            for link in links:
                link.close()
        elif how == "maps":
            for each in obj.maps.values():
                each.close()
        else:
            del obj.maps["jumps"][1]
        gc.collect()
        closed.set()
        thread.join(60)
        assert results in ([1], [2]), how
        obj.close()
        leaves_nothing(engine)


@pytest.mark.parametrize("translator", TRANSLATORS)
def test_an_object_may_be_closed_by_a_signal_handler(code: bytes, translator: str) -> None:
    engine = Engine(translator=translator)
    holder: list[Any] = []
    previous = signal.signal(signal.SIGALRM, lambda *_: [obj.close() for obj in holder])
    try:
        for microseconds in (50, 200, 1000, 3000):
            obj = load(code, engine)
            holder[:] = [obj]
            obj.attach()
            signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
            try:
                while True:
                    obj.programs["first"].run()
                    engine.fire("raw_tp/a")
            except bpf2py.errors.ClosedError:
                pass
            leaves_nothing(engine)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_threads_that_run_load_and_close(code: bytes) -> None:
    engine = Engine()
    errors: list[BaseException] = []
    shared = [load(code, engine)]
    done = threading.Event()

    def run() -> None:
        try:
            while not done.is_set():
                obj = shared[0]
                try:
                    obj.programs["first"].run()
                    obj.maps["counts"].get(0)
                    list(obj.maps["counts"].items())
                    engine.fire("raw_tp/a")
                except bpf2py.errors.ClosedError:
                    continue
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        obj = load(code, engine)
        obj.attach()
        before, shared[0] = shared[0], obj
        before.close()
    done.set()
    for thread in threads:
        thread.join(60)
    shared[0].close()
    assert not errors
    del before, obj
    shared.clear()
    leaves_nothing(engine)


@pytest.mark.parametrize("translator", TRANSLATORS)
def test_a_prog_array_holds_its_programs_as_long_as_it_has_a_descriptor(code: bytes, translator: str) -> None:
    engine = Engine(translator=translator)
    obj = load(code, engine)
    jumps = bpf2py.maps.Map.from_id(obj.maps["jumps"].info.id, backend=engine)
    link = obj.programs["first"].attach()
    for program in obj.programs.values():
        program.close()
    obj.maps["jumps"].close()
    assert engine.fire("raw_tp/a") == [2]
    jumps.close()
    assert engine.fire("raw_tp/a") == [1]  # emptied with its last descriptor, though the program still uses it
    link.close()
    obj.close()
    leaves_nothing(engine)


@pytest.mark.parametrize("translator", TRANSLATORS)
def test_engines_are_freed(code: bytes, translator: str) -> None:
    def use(close: bool) -> weakref.ref[Any]:
        engine = Engine(translator=translator, clock=0)
        obj = load(code, engine)
        inner = bpf2py.Map.create("HASH", key="u32", value="u64", max_entries=8, backend=engine)
        obj.maps["outer"][0] = inner
        obj.attach()
        engine.fire("raw_tp/a")
        list(bpf2py.RingReader(obj.maps["events"]).flush())
        if close:
            obj.close()
        del inner
        return weakref.ref(engine)

    def several(close: bool = False) -> list[weakref.ref[Any]]:
        made = [use(close) for _ in range(4)]
        gc.collect()
        return made

    found = several(close=True)
    assert [each() for each in found] == [None] * 4
    with pytest.warns(ResourceWarning, match="was never closed"):
        found = several()
    assert [each() for each in found] == [None] * 4


def test_load_and_close_leave_memory_as_it_was(code: bytes) -> None:
    engine = Engine()

    def cycle() -> None:
        with load(code, engine) as obj:
            obj.attach()
            with bpf2py.RingReader(obj.maps["events"]) as reader:
                engine.fire("raw_tp/a")
                assert len(list(reader.flush())) == 1
            obj.maps["counts"].clear()

    for _ in range(20):  # until each size of block was asked for at its most
        cycle()
    gc.collect()
    held = len(engine.memory._blocks), dict(engine.memory._next), engine._next_number
    for _ in range(300):
        cycle()
    gc.collect()
    assert (len(engine.memory._blocks), dict(engine.memory._next), engine._next_number) == held
    leaves_nothing(engine)


ENDS = """
import sys, bpf2py
from bpf2py.engine import Engine
keep = []
code = open(sys.argv[1], "rb").read()
for i in range(3):
    engine = Engine(translator=sys.argv[2])
    obj = bpf2py.load(code, backend=engine)
    obj.maps["jumps"][1] = obj.programs["second"]
    obj.attach()
    engine.fire("raw_tp/a")
    reader = bpf2py.RingReader(obj.maps["events"])
    slot = obj.maps["counts"]._slot()
    cycle = [engine, obj, reader, slot]
    cycle.append(cycle)
    if i:
        keep.append(cycle)
    globals()[f"name{i}"] = slot
"""


def test_the_end_of_the_process_is_silent(code: bytes, tmp_path: Path) -> None:
    path = tmp_path / "object.o"
    path.write_bytes(code)
    for i in range(6):
        done = subprocess.run(
            [sys.executable, "-W", "ignore::ResourceWarning", "-c", ENDS, str(path), TRANSLATORS[i % 2]],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONHASHSEED": str(i)},
        )
        assert (done.returncode, done.stderr) == (0, "")
