"""PerfReader on the engine: each CPU's records in order, what was lost is counted."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

import bpf2py
from bpf2py.engine import Engine

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
struct event { __u32 number, cpu; };
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(max_entries, 4); __type(key, int); __type(value, int); }
    events SEC(".maps");
__u64 where = BPF_F_CURRENT_CPU;
__u32 number;
SEC("tc") int run(struct __sk_buff *skb)
{
    struct event event = {number++, bpf_get_smp_processor_id()};
    return bpf_perf_event_output(skb, &events, where, &event, sizeof(event));
}
"""


@pytest.fixture
def engine() -> Engine:
    return Engine(possible_cpus=4)


@pytest.fixture
def loaded(engine: Engine) -> Iterator[bpf2py.Object]:
    with bpf2py.load(bpf2py.ObjectSpec.from_bytes(bpf2py.compile(SOURCE)), backend=engine) as found:
        yield found


def run(found: bpf2py.Object) -> int:
    value: int = found.programs["run"].test_run(bytes(14)).return_value
    return value - (1 << 32) if value >> 31 else value


def unpacked(batch: bpf2py.Batch) -> list[tuple[int, int]]:
    return [struct.unpack_from("<II", record) for record in batch.records()]


def test_records_by_cpu(engine: Engine, loaded: bpf2py.Object) -> None:
    assert run(loaded) == -2  # nobody reads
    with bpf2py.PerfReader(loaded.maps["events"], pages=1) as reader:
        for cpu in (0, 3, 0, 2):
            with engine.cpu(cpu):
                assert run(loaded) == 0
        found = {batch.cpu: unpacked(batch) for batch in reader.poll(5)}
        assert found == {0: [(1, 0), (3, 0)], 2: [(4, 2)], 3: [(2, 3)]}
        assert reader.poll(0) == []
        loaded.variables["where"].value = 1
        assert run(loaded) == -95  # the buffer is another CPU's
        loaded.variables["where"].value = 4
        assert run(loaded) == -7
    assert run(loaded) != 0
    assert engine.events == {}


def test_what_is_lost_is_counted(loaded: bpf2py.Object) -> None:
    with bpf2py.PerfReader(loaded.maps["events"], pages=1) as reader:
        results = [run(loaded) for _ in range(200)]
        fitted = results.index(-28)
        assert set(results[fitted:]) == {-28}
        assert fitted == 4095 // 24
        assert sum(len(batch) for batch in reader.flush()) == fitted
        assert run(loaded) == 0
        (batch,) = reader.flush()
        assert batch.lost == reader.lost == 200 - fitted
        for _ in range(500):
            assert run(loaded) == 0
            assert len(reader.flush()) == 1


def test_the_newest_of_an_overwritable_buffer(loaded: bpf2py.Object) -> None:
    with bpf2py.PerfReader(loaded.maps["events"], pages=1, overwritable=True) as reader:
        for _ in range(500):
            assert run(loaded) == 0
        (batch,) = reader.snapshot()
        numbers = [number for number, _ in unpacked(batch)]
        assert numbers == list(range(499, 499 - 4096 // 24, -1))
