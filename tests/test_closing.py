"""Maps, programs and variables closed while other threads use them: a typed error, and never another object."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import bpf2py
from bpf2py import Map
from bpf2py.kernel.syscall import Fd

ROUNDS = int(os.environ.get("BPF2PY_ROUNDS", "5"))
BACKENDS = [pytest.param("kernel", marks=pytest.mark.kernel), "engine"]
SIZE = 64
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
__u64 runs;
struct { __uint(type, BPF_MAP_TYPE_USER_RINGBUF); __uint(max_entries, 4096); } commands SEC(".maps");
SEC("raw_tp/sched_switch") int count(void *ctx) { __sync_fetch_and_add(&runs, 1); return 0; }
"""


class Race:
    """A thread that does one thing again and again until it meets ClosedError; other errors are kept."""

    def __init__(self, step: Callable[[], object]) -> None:
        self.errors: list[BaseException] = []
        self._inside = threading.Event()
        self._step = step
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        self._inside.wait()

    def _work(self) -> None:
        try:
            while True:
                self._step()
                self._inside.set()
        except bpf2py.ClosedError:
            pass
        except BaseException as error:
            self.errors.append(error)
        self._inside.set()

    def end(self) -> None:
        """After what it uses was closed."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.errors == []


MAPS: dict[str, tuple[str, dict[str, Any]]] = {
    "HASH": ("HASH", {"key": "u32", "value": "u32"}),
    "PERCPU_HASH": ("PERCPU_HASH", {"key": "u32", "value": "u64"}),
    "LRU_HASH": ("LRU_HASH", {"key": "u32", "value": "u32"}),
    "ARRAY": ("ARRAY", {"value": "u32"}),
    "LPM_TRIE": ("LPM_TRIE", {"key_size": 8, "value": "u32", "flags": bpf2py.MapFlags.NO_PREALLOC}),
    "QUEUE": ("QUEUE", {"value": "u32"}),
}
KEYS: dict[str, Callable[[int], Any]] = {"LPM_TRIE": lambda number: f"10.0.0.{number}/32"}


def fill(made: Any, kind: str) -> None:
    if kind == "QUEUE":
        made.extend(range(SIZE))
    else:
        made.update({KEYS.get(kind, int)(number): number + 1 for number in range(SIZE)})


def contents(made: Any, kind: str) -> int:
    if kind == "QUEUE":
        return sum(1 for _ in made.drain())
    return sum(1 for key in range(SIZE) if KEYS.get(kind, int)(key) in made and made[KEYS.get(kind, int)(key)])


USES: dict[str, Callable[[Any, str], object]] = {
    "clear": lambda made, kind: made.clear(),
    "update": lambda made, kind: fill(made, kind) if kind != "QUEUE" else made.push(1, replace=True),
    "iterate": lambda made, kind: list(made.items()) if kind != "QUEUE" else made.peek(None),
    "delete": lambda made, kind: (
        made.delete_many([KEYS.get(kind, int)(3)]) if hasattr(made, "delete_many") else made.clear()
    ),
    "drain": lambda made, kind: list(made.drain()) if hasattr(made, "drain") else made.clear(),
    "count": lambda made, kind: made[0] if kind == "ARRAY" else made.count() if kind != "QUEUE" else made.peek(None),
    "numpy": lambda made, kind: made.to_numpy() if hasattr(made, "to_numpy") else made.peek(None),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("use", USES)
def test_a_closed_map_never_reaches_another_one(kind: str, use: str, backend: str) -> None:
    name, types = MAPS[kind]
    for _ in range(ROUNDS if backend == "kernel" else 10):
        victims: list[Any] = []
        made = Map.create(name, max_entries=SIZE, backend=backend, **types)
        fill(made, kind)
        race = Race(partial(USES[use], made, kind))
        made.close()
        for _ in range(4):  # they get the numbers that have become free
            victims.append(Map.create(name, max_entries=SIZE, backend=backend, **types))
            fill(victims[-1], kind)
        race.end()
        for victim in victims:
            assert contents(victim, kind) == SIZE
            victim.close()


@pytest.mark.kernel
def test_an_iteration_over_a_map_that_was_closed_and_replaced() -> None:
    """One thread is enough: the iteration is suspended meanwhile."""
    for kind in ("HASH", "LPM_TRIE", "ARRAY"):
        name, types = MAPS[kind]
        made = Map.create(name, max_entries=SIZE, **types)
        fill(made, kind)
        iterations = [iter(made.items()), iter(made)] + ([made.drain()] if hasattr(made, "drain") else [])
        for iteration in iterations[:-1]:
            next(iteration)
        number = made.fileno()
        made.close()
        with Map.create(name, max_entries=SIZE, **types) as victim:
            fill(victim, kind)
            for iteration in iterations:
                try:
                    list(iteration)
                except bpf2py.ClosedError:
                    pass
            assert contents(victim, kind) == SIZE
            del iterations, iteration, number


@pytest.mark.kernel
def test_the_map_itself_goes_when_it_is_closed() -> None:
    """What still holds the descriptor's number does not keep the map."""
    made = Map.create("LPM_TRIE", key_size=8, value="u32", max_entries=SIZE, flags=bpf2py.MapFlags.NO_PREALLOC)
    fill(made, "LPM_TRIE")
    suspended = iter(made)
    next(suspended)
    ident = made.id
    made.close()
    wait_until_gone(ident)
    with pytest.raises(bpf2py.ClosedError):
        list(suspended)


def wait_until_gone(ident: int) -> None:
    """The kernel frees maps after a grace period."""
    for _ in range(1_000_000):
        try:
            Map.from_id(ident).close()
        except bpf2py.BpfOSError:
            return
        os.sched_yield()
    raise AssertionError(f"map {ident} is still there")


@pytest.mark.kernel
def test_closing_at_the_limit_of_descriptors() -> None:
    """There is no descriptor left to put in place of the one that is in use; nothing else gets its number all the same."""
    made = Map.create("LPM_TRIE", key_size=8, value="u32", max_entries=SIZE, flags=bpf2py.MapFlags.NO_PREALLOC)
    fill(made, "LPM_TRIE")
    suspended = iter(made)
    next(suspended)
    number = made.fileno()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (number + 20, hard))
    try:
        try:
            while True:
                opened.append(os.open("/", os.O_PATH))
        except OSError:
            pass
        made.close()
        with pytest.raises(OSError, match="Too many open files"):
            os.open("/", os.O_PATH)
        with pytest.raises(bpf2py.ClosedError):
            list(suspended)
        del suspended
        opened.append(os.open("/", os.O_PATH))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in opened:
            os.close(fd)


def test_descriptors(assert_no_leaks: Callable[[], Any]) -> None:
    with assert_no_leaks():
        fd = Fd(os.open("/", os.O_PATH))
        held = fd.hold()
        number = fd.number
        fd.close()
        fd.close()
        assert (fd.number, fd.closed, held.value) == (-1, True, number)
        taken = os.open("/", os.O_PATH)
        assert taken != number
        os.close(taken)
        del held
        other = os.open("/", os.O_PATH)
        assert other == number
        os.close(other)


@pytest.fixture(params=BACKENDS)
def obj(request: pytest.FixtureRequest, compile_bpf: Callable[[str], bytes]) -> Iterator[Callable[[], bpf2py.Object]]:
    data = compile_bpf(SOURCE)
    loaded: list[bpf2py.Object] = []

    def load() -> bpf2py.Object:
        loaded.append(bpf2py.load(data, backend=request.param))
        return loaded[-1]

    yield load
    for each in loaded:
        each.close()


OBJECT_USES: dict[str, Callable[[bpf2py.Object], object]] = {
    "variable": lambda obj: obj.variables["runs"].value,
    "set variable": lambda obj: setattr(obj.variables["runs"], "value", 3),
    "push": lambda obj: push(obj),
    "pending": lambda obj: obj.maps["commands"].pending(),
    "info": lambda obj: obj.programs["count"].info,
    "attach": lambda obj: obj.programs["count"].attach().close(),
    "test_run": lambda obj: obj.programs["count"].test_run(),
}


def push(obj: bpf2py.Object) -> None:
    try:
        obj.maps["commands"].push(b"x" * 100)
    except bpf2py.MapFull:
        pass


@pytest.mark.parametrize("use", OBJECT_USES)
def test_objects_closed_in_use(obj: Callable[[], bpf2py.Object], use: str, request: pytest.FixtureRequest) -> None:
    for _ in range(max(ROUNDS // 4, 10)):
        loaded = obj()
        race = Race(partial(OBJECT_USES[use], loaded))
        loaded.close()
        race.end()


# -- drain() -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["HASH", "PERCPU_HASH", "LRU_HASH", "LPM_TRIE", "QUEUE"])
def test_a_drain_that_ends_early_loses_nothing(kind: str, backend: str) -> None:
    name, types = MAPS[kind]
    with Map.create(name, max_entries=5000, backend=backend, **types) as made:
        total = 250 if kind == "LPM_TRIE" else 1000
        keys = [f"10.0.{n // 200}.{n % 200}/32" if kind == "LPM_TRIE" else n for n in range(total)]
        if kind == "QUEUE":
            made.extend(keys)
        else:
            made.update(dict.fromkeys(keys, 1))
        there = total if kind in ("QUEUE", "LPM_TRIE") else made.count()
        found = []
        for _ in range(3):
            for item in made.drain():
                found.append(item)
                if len(found) % 50 == 3:
                    break
        if kind != "QUEUE":
            assert made.count() + len(found) >= there - 4096
        found += made.drain()
        unique = {str(item[0]) for item in found} if kind != "QUEUE" else set(map(str, found))
        assert len(found) == len(unique) == there
        assert list(made.drain()) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_little_is_taken_by_a_drain_that_stops_soon(backend: str) -> None:
    with Map.create("HASH", key="u32", value="u32", max_entries=1000, backend=backend) as made:
        made.update(dict.fromkeys(range(500), 1))
        drain = made.drain()
        for _ in range(3):
            next(drain)
        assert made.count() >= 500 - 64
