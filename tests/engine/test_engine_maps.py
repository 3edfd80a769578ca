"""Maps of the engine through the public API: what only shows there."""

from __future__ import annotations

import gc

import pytest

import bpf2py
from bpf2py import Map, MapType
from bpf2py.engine import Engine
from bpf2py.spec.map_spec import MapSpec


@pytest.fixture
def engine() -> Engine:
    return Engine(possible_cpus=4)


@pytest.mark.parametrize("kind", [MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS])
def test_maps_of_maps_keep_their_maps(engine: Engine, kind: MapType) -> None:
    template = MapSpec("inner", MapType.HASH, 4, 8, 4)
    outer = Map.create(kind, key_size=4, max_entries=4, inner=template, key="u32", backend=engine)
    inner = Map.create(MapType.HASH, key="u32", value="u64", max_entries=4, backend=engine)
    inner[1] = 2
    outer[3] = inner
    assert outer.ids() == {3: inner.id}
    inner.close()
    del inner
    gc.collect()
    with outer[3] as again:
        assert dict(again.items()) == {1: 2}
        again[5] = 6
    assert dict(outer[3].items()) == {1: 2, 5: 6}
    with pytest.raises(bpf2py.BpfOSError) as caught:
        outer[2] = Map.create(MapType.HASH, key="u32", value="u32", max_entries=4, backend=engine)
    assert caught.value.errno == 22
    del outer[3]
    assert outer.ids() == {}


def test_the_cpu_is_the_one_chosen(engine: Engine) -> None:
    """max_entries 10 on a kernel with large local lists: one key stays (11 inserts on one CPU), per CPU."""
    old = Engine(kernel="6.1", possible_cpus=6)
    lru = Map.create(MapType.LRU_HASH, key="u32", value="u32", max_entries=10, backend=old)
    for key in range(1, 12):
        lru[key] = key
    assert dict(lru.items()) == {11: 11}
    lru = Map.create(MapType.LRU_HASH, key="u32", value="u32", max_entries=1003, backend=old)
    counts = []
    for cpu in range(6):
        with old.cpu(cpu):
            for key in range(1, 1005):
                lru[key + 2000 * cpu] = key
        counts.append(lru.count())
    assert counts[0] == 983
    assert counts == sorted(counts, reverse=True)


def test_the_seed_decides_the_order() -> None:
    def order(seed: int) -> list[int]:
        made = Map.create(MapType.HASH, key="u32", value="u32", max_entries=100, backend=Engine(seed=seed))
        made.update({key: key for key in range(100)})
        return list(made)

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(3)) == list(range(100))


def test_large_batches(engine: Engine) -> None:
    made = Map.create(MapType.HASH, key="u32", value="u64", max_entries=200_000, backend=engine)
    made.update({key: 3 * key for key in range(150_000)})
    assert made.count() == 150_000
    array = made.to_numpy()
    assert array.shape == (150_000,)
    assert (array["value"] == 3 * array["key"]).all()
    assert len(dict(made.drain())) == 150_000
    assert made.count() == 0


def test_closed_maps_answer_as_closed(engine: Engine) -> None:
    made = Map.create(MapType.HASH, key="u32", value="u32", max_entries=4, backend=engine)
    handle = made._handle
    made.close()
    assert handle.fd < 0
    assert handle.lookup_batch(None, bytearray(4), bytearray(16), bytearray(16), 4, 0, False)[0] == -9
    assert handle.freeze() == -9
    with pytest.raises(bpf2py.ClosedError):
        made[1]


@pytest.mark.parametrize(("kernel", "again"), [("6.1", -16), ("6.12", -1)])
def test_freezing_twice(kernel: str, again: int) -> None:
    made = Map.create(MapType.HASH, key="u32", value="u32", max_entries=4, backend=Engine(kernel=kernel))
    assert [made._handle.freeze(), made._handle.freeze()] == [0, again]


def test_the_python_translation_gives_the_same() -> None:
    answers = []
    for translator in ("native", "python"):
        engine = Engine(possible_cpus=2, seed=5, translator=translator)
        lru = Map.create(MapType.LRU_HASH, key="u32", value="u64", max_entries=30, backend=engine)
        trie = Map.create(MapType.LPM_TRIE, key_size=8, value="u32", max_entries=30, flags=1, backend=engine)
        queue = Map.create(MapType.QUEUE, value="u32", max_entries=5, backend=engine)
        for number in range(200):
            lru[number * 7 % 50] = number
            trie[f"10.{number % 20}.0.0/16"] = number
            queue.push(number, replace=True)
        answers.append((list(lru.items()), list(trie.items()), list(queue.drain())))
    assert answers[0] == answers[1]
