"""Iteration and draining while a second process inserts and deletes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapFlags, MapType

pytestmark = pytest.mark.kernel

# Inserts and deletes keys from 10000 on until told to stop, as fast as it can.
CHURN = """
import sys, select
import bpf2py
made = bpf2py.Map.from_fd(int(sys.argv[1]))
kind = made.type.name
def key(number):
    raw = number.to_bytes(4, "big" if kind == "LPM_TRIE" else "little")
    return (32, raw) if kind == "LPM_TRIE" else raw
value = made.value_codec.encode(bytes(made.value_size))
slot, batch = made._handle.slot(), range(10000, 10200)
keys = [made.key_codec.encode(key(number)) for number in batch]
slot.value[:] = bytes(len(slot.value))
print("ready", flush=True)
sys.stdin.readline()
while not select.select([sys.stdin], [], [], 0)[0]:
    for one in keys:
        slot.key[:] = one
        slot.update()
    for one in keys:
        slot.key[:] = one
        slot.delete()
"""
KINDS = [MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LPM_TRIE]


@contextmanager
def running(source: str, bpf_map: Any, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Another process with the map as its first argument; told to go; it ends when its standard input does."""
    fd = bpf_map.fileno()
    with subprocess.Popen(
        [sys.executable, "-c", source, str(fd), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[fd],
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        yield process
        process.stdin.close()
        assert process.wait(60) == 0


def create(kind: MapType, max_entries: int = 4000) -> Any:
    if kind == MapType.LPM_TRIE:
        return Map.create(kind, 8, value="u32", max_entries=max_entries, flags=MapFlags.NO_PREALLOC)
    return Map.create(kind, key="u32", value="u32", max_entries=max_entries)


def key_of(kind: MapType, number: int) -> Any:
    return (32, number.to_bytes(4, "big")) if kind == MapType.LPM_TRIE else number


def number_of(kind: MapType, key: Any) -> int:
    return int(key.network_address) if kind == MapType.LPM_TRIE else int(key)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_while_another_process_inserts_and_deletes(kind: MapType, scale: Callable[[int], int]) -> None:
    staying = 500
    with create(kind) as made:
        made.update({key_of(kind, number): number for number in range(staying)})
        with running(CHURN, made):
            for round_number in range(scale(100)):
                keys = [number_of(kind, key) for key in (made if round_number % 2 else [k for k, _ in made.items()])]
                assert len(keys) == len(set(keys)), "a key came twice"
                assert set(range(staying)) <= set(keys), "a key that stayed was not seen"
                assert set(keys) - set(range(staying)) <= set(range(10000, 10200))
                if round_number % 10 == 0:
                    assert staying <= made.count() <= staying + 200
                    assert made.pressure() == pytest.approx(staying / 4000, abs=0.06)
                    assert len(made.snapshot()) >= staying
                    assert len(made.to_numpy()) >= staying
        made.delete_many([key_of(kind, number) for number in range(10000, 10200)])
        assert made.count() == staying


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_deleting_what_is_being_iterated(kind: MapType) -> None:
    with create(kind) as made:
        made.update({key_of(kind, number): number for number in range(300)})
        seen = []
        for key, _ in made.items():
            seen.append(number_of(kind, key))
            made.pop(key, None)
            made.pop(key_of(kind, (number_of(kind, key) + 1) % 300), None)
        assert len(seen) == len(set(seen))
        assert made.count() == 0 or kind != MapType.LPM_TRIE


def test_a_walk_that_never_ends_is_given_up() -> None:
    with create(MapType.LPM_TRIE, 10) as made:
        made["1.0.0.0/8"] = 1
        walking = iter(made)
        next(walking)
        # Each step finds its key gone, so the kernel starts again: only the budget ends such a walk.
        handle = made._handle

        class Endless:
            fd = handle.fd
            info = handle.info

            def slot(self) -> Any:
                slot = handle.slot()

                class Restarting:
                    key = slot.key
                    next_key = slot.next_key

                    @staticmethod
                    def get_next_key(first: bool) -> int:
                        result: int = slot.get_next_key(True)
                        return result

                return Restarting()

        from bpf2py.maps.batch import walk

        with pytest.raises(bpf2py.IterationAborted, match="keys were deleted so fast that 1 keys took"):
            list(walk("made", Endless()))  # type: ignore[arg-type]


# Adds 1 to one of 64 keys, over and over: like a program, it starts from nothing where the key is missing.
COUNTER = """
struct {
    __uint(type, BPF_MAP_TYPE_%s);
    __uint(max_entries, 128);
    __type(key, __u32);
    __type(value, __u64);
} counts SEC(".maps");
__u64 done, failed;
static long add(__u32 index, void *ctx)
{
    __u32 key = index %% 64;
    __u64 one = 1, *count;
    int attempt;
    for (attempt = 0; attempt < 10; attempt++) {
        count = bpf_map_lookup_elem(&counts, &key);
        if (count) {
            %s;
            __sync_fetch_and_add(&done, 1);
            return 0;
        }
        if (!bpf_map_update_elem(&counts, &key, &one, BPF_NOEXIST)) {
            __sync_fetch_and_add(&done, 1);
            return 0;
        }
    }
    failed++;
    return 0;
}
SEC("raw_tp/sched_switch")
int emit(void *ctx)
{
    bpf_loop(2000, add, 0, 0);
    return 0;
}
"""
EMIT = """
import sys
import bpf2py
counts = bpf2py.Map.from_fd(int(sys.argv[1]))
with bpf2py.load(sys.argv[2], maps={"counts": counts}) as obj:
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(sys.argv[3])):
        obj.programs["emit"].test_run()
    print(obj.variables["done"].value, obj.variables["failed"].value, flush=True)
    sys.stdin.read()
"""


def test_drain_takes_each_update_exactly_once(scale: Callable[[int], int]) -> None:
    """Another process inserts numbered keys, each once: each is drained exactly once."""
    writer = """
import sys
import bpf2py
made = bpf2py.Map.from_fd(int(sys.argv[1]), key="u32", value="u32")
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    while True:
        try:
            made[number] = number
            break
        except bpf2py.MapFull:
            pass
print("done", flush=True)
sys.stdin.read()
"""
    total = scale(60_000)
    with create(MapType.HASH, 500) as made, running(writer, made, str(total)) as process:
        drained: list[tuple[int, int]] = []
        import select

        assert process.stdout is not None
        while not select.select([process.stdout], [], [], 0)[0]:
            drained += made.drain()
        drained += made.drain()
        assert len(drained) == total
        assert dict(drained) == {number: number for number in range(total)}
        assert made.count() == 0


@pytest.mark.parametrize("kind", [MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH], ids=lambda kind: kind.name)
def test_draining_counts_while_a_program_adds(
    kind: MapType, compile_object: Callable[[str], bytes], scale: Callable[[int], int], tmp_path: Any
) -> None:
    """Each count is drained, or was added through a pointer to an element drained a moment before.

    The kernel frees elements after a grace period only, so a program that looked one up just before it was drained
    adds to the old copy: at most one such loss for each drained element and CPU can be, and nothing is counted twice.
    """
    path = tmp_path / "counter.bpf.o"
    add = "*count += 1" if kind == MapType.PERCPU_HASH else "__sync_fetch_and_add(count, 1)"
    path.write_bytes(compile_object(COUNTER % (kind.name, add)))
    total = 0
    drained_elements = 0

    def value_of(value: Any) -> int:
        return int(value.sum() if kind == MapType.PERCPU_HASH else value)

    with (
        Map.create(kind, key="u32", value="u64", max_entries=128) as made,
        running(EMIT, made, str(path), str(scale(400))) as process,
    ):
        import select

        assert process.stdout is not None
        while not select.select([process.stdout], [], [], 0)[0]:
            for _, value in made.drain():
                total += value_of(value)
                drained_elements += 1
        done, failed = map(int, process.stdout.readline().split())
        total += sum(value_of(value) for _, value in made.drain())
        assert failed == 0
        assert done == scale(400) * 2000
        assert total <= done
        assert done - total <= drained_elements
