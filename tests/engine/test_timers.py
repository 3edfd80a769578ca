"""Timers and work queues: the answers of the kernel, and callbacks that run when they should, and never after their value."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct element { struct bpf_timer timer; __u64 number; };
struct { __uint(type, KIND); __uint(max_entries, 2); __type(key, __u32); __type(value, struct element); } timers SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
int answers[16];
__u64 delay;
__u32 nth;

static int expired(void *map, __u32 *key, struct element *element)
{
	__u64 number = element->number << 32 | *key;

	answers[15] = bpf_timer_cancel(&element->timer);
	bpf_ringbuf_output(&events, &number, sizeof(number), 0);
	return 0;
}

SEC("tc") int arm(struct __sk_buff *skb)
{
	struct element *element, new = {.number = skb->mark};
	__u32 key = nth;

	bpf_map_update_elem(&timers, &key, &new, BPF_ANY);
	element = bpf_map_lookup_elem(&timers, &key);
	if (!element)
		return 1;
	bpf_timer_init(&element->timer, &timers, 1);
	bpf_timer_set_callback(&element->timer, expired);
	return bpf_timer_start(&element->timer, delay, 0);
}

SEC("tc") int answer(struct __sk_buff *skb)
{
	struct element *element, new = {};
	__u32 key = nth;

	bpf_map_update_elem(&timers, &key, &new, BPF_ANY);
	element = bpf_map_lookup_elem(&timers, &key);
	if (!element)
		return 1;
	answers[0] = bpf_timer_start(&element->timer, 1000, 0);
	answers[1] = bpf_timer_init(&element->timer, &timers, 3);
	answers[2] = bpf_timer_init(&element->timer, &timers, 1 << 8 | 1);
	answers[3] = bpf_timer_init(&element->timer, &timers, 7);
	answers[4] = bpf_timer_init(&element->timer, &timers, 1);
	answers[5] = bpf_timer_start(&element->timer, 1000, 0);
	answers[6] = bpf_timer_set_callback(&element->timer, expired);
	answers[7] = bpf_timer_start(&element->timer, 1ULL << 60, 4);
	answers[8] = bpf_timer_start(&element->timer, 1ULL << 60, 0);
	answers[9] = bpf_timer_cancel(&element->timer);
	answers[10] = bpf_timer_start(&element->timer, 1ULL << 60, 0);
	answers[11] = bpf_timer_cancel(&element->timer);
	bpf_timer_set_callback(&element->timer, expired);
	answers[12] = bpf_timer_start(&element->timer, 1ULL << 60, 0);
	if (bpf_map_delete_elem(&timers, &key))
		bpf_map_update_elem(&timers, &key, &new, BPF_ANY);
	answers[13] = bpf_timer_start(&element->timer, 1ULL << 60, 0);
	answers[14] = bpf_timer_cancel(&element->timer);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""
KINDS = ["HASH", "LRU_HASH", "ARRAY"]
TRANSLATORS = ["native", "python"]


@pytest.fixture(scope="module")
def code(compile_bpf: Callable[[str], bytes]) -> Callable[[str], bytes]:
    return lambda kind: compile_bpf(SOURCE.replace("KIND", f"BPF_MAP_TYPE_{kind}"))


def arm(obj: Any, key: int, number: int, delay: int) -> None:
    obj.variables["nth"].value, obj.variables["delay"].value = key, delay
    context = bytes(8) + number.to_bytes(4, "little") + bytes(180)
    assert obj.programs["arm"].test_run(bytes(64), context=context).return_value == 0


def fired(obj: Any) -> list[tuple[int, int]]:
    """(number, key) of each callback since the last time."""
    with bpf2py.RingReader(obj.maps["events"]) as reader:
        numbers = [int.from_bytes(event, "little") for event in reader.events(timeout=0)]
    return [(number >> 32, number & 0xFFFFFFFF) for number in numbers]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", [*TRANSLATORS, pytest.param("kernel", marks=pytest.mark.kernel)])
def test_answers(code: Callable[[str], bytes], kind: str, where: str) -> None:
    backend = "kernel" if where == "kernel" else Engine(clock=5, translator=where)
    with bpf2py.load(code(kind), backend=backend) as obj:
        obj.programs["answer"].test_run(bytes(64))
        found = list(obj.variables["answers"].value)
    assert found == [-22, -22, -22, 0, -16, -22, 0, -22, 0, 1, -22, 0, 0, -22, -22, 0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("translator", TRANSLATORS)
def test_a_timer_ends_with_its_value(code: Callable[[str], bytes], kind: str, translator: str) -> None:
    engine = Engine(clock=5, possible_cpus=1, translator=translator)
    with bpf2py.load(code(kind), backend=engine) as obj:
        timers = obj.maps["timers"]
        for again in (True, False):
            arm(obj, 0, 7, 100)
            arm(obj, 1, 8, 200)
            if kind == "ARRAY":
                timers[0] = {"number": 9}
            else:
                del timers[0]
            if again and kind != "ARRAY":
                timers[3] = {"number": 10}  # gets the memory of the one that went
            assert engine.advance(1000) == 1
            assert fired(obj) == [(8, 1)]
            if kind != "ARRAY":
                timers.clear()
        arm(obj, 0, 7, 100)
        arm(obj, 0, 8, 50)  # a new value for the key
        assert engine.advance(1000) == 1
        assert fired(obj) == [(8, 0)]
        assert obj.variables["answers"].value[15] == -35  # a callback cannot cancel its own
        arm(obj, 0, 7, 100)
        program = obj.programs["arm"]
        program.close()  # the timer holds it
        assert engine.advance(1000) == 1
        assert fired(obj) == [(7, 0)]
    assert engine.advance(1000) == 0
    assert len(engine.timers) == len(engine.units) == 0


def test_timers_that_were_never_started_are_forgotten(code: Callable[[str], bytes]) -> None:
    engine = Engine(clock=5)
    with bpf2py.load(code("HASH"), backend=engine) as obj:
        for i in range(500):
            arm(obj, i, 0, 1 << 60)
            del obj.maps["timers"][i]
        assert len(engine.timers) < 100


@pytest.mark.parametrize("clock", ["real", "function"])
def test_other_clocks(code: Callable[[str], bytes], clock: str) -> None:
    now = [1000]
    engine = Engine(clock=None if clock == "real" else lambda: now[0])
    with bpf2py.load(code("HASH"), backend=engine) as obj:
        with bpf2py.RingReader(obj.maps["events"]) as reader:
            arm(obj, 1, 5, 1 << 40)
            arm(obj, 0, 4, 1_000_000)
            if clock == "function":
                now[0] += 1_000_000
                assert not list(reader.events(timeout=0))
                arm(obj, 1, 6, 1 << 40)  # with the end of a run what is due follows
            assert next(iter(reader.events(timeout=60))) == (4 << 32).to_bytes(8, "little")
        threads = [thread for thread in threading.enumerate() if thread.name == "bpf2py timers"]
        assert len(threads) == (clock == "real")
    del obj, reader, engine
    for thread in threads:
        while thread.is_alive():  # it may have had the engine in its hands when that was to be collected
            gc.collect()
            thread.join(0.1)


WORK = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct bpf_wq { __u64 opaque[2]; } __attribute__((aligned(8)));
struct element { struct bpf_wq work; __u64 number; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 2); __type(key, __u32); __type(value, struct element); }
    works SEC(".maps");
extern int bpf_wq_init(struct bpf_wq *wq, void *map, unsigned int flags) __ksym;
extern int bpf_wq_start(struct bpf_wq *wq, unsigned int flags) __ksym;
extern int bpf_wq_set_callback_impl(struct bpf_wq *wq, int (*callback)(void *map, int *key, void *value), unsigned int flags,
    void *aux) __ksym;
int answers[8];
__u32 done;

static int work(void *map, int *key, void *value)
{
	struct element *element = value;

	done = element->number + *key;
	return 0;
}

SEC("tc") int queue(struct __sk_buff *skb)
{
	struct element *element, new = {.number = 40};
	__u32 key = 2;

	bpf_map_update_elem(&works, &key, &new, BPF_ANY);
	element = bpf_map_lookup_elem(&works, &key);
	if (!element)
		return 1;
	answers[0] = bpf_wq_start(&element->work, 0);
	answers[1] = bpf_wq_init(&element->work, &works, 1);
	answers[2] = bpf_wq_init(&element->work, &works, 0);
	answers[3] = bpf_wq_init(&element->work, &works, 0);
	answers[4] = bpf_wq_start(&element->work, 0);
	answers[5] = bpf_wq_set_callback_impl(&element->work, work, 0, 0);
	answers[6] = bpf_wq_start(&element->work, 1);
	answers[7] = bpf_wq_start(&element->work, 0);
	return done;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize("where", [*TRANSLATORS, pytest.param("kernel", marks=pytest.mark.kernel)])
def test_work_queues(compile_bpf: Callable[[str], bytes], where: str) -> None:
    backend = "kernel" if where == "kernel" else Engine(translator=where)
    with bpf2py.load(compile_bpf(WORK), backend=backend) as obj:
        done = obj.programs["queue"].test_run(bytes(64)).return_value
        assert done == 0 or (where == "kernel" and done == 42)  # another CPU of the kernel's may be as fast
        assert list(obj.variables["answers"].value) == [-22, -22, 0, -16, -22, 0, -22, 0]
        if where != "kernel":
            assert obj.variables["done"].value == 42
