"""Programs with their configs, in the engine: what is read of which map, and what does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bpf2py.engine import Engine
from bpf2py.errors import EncodeError
from bpf2py.export.collector import ConfigCollector, Series
from bpf2py.export.config import Config, Decoder, config_from
from bpf2py.export.decoders import _FUNCTIONS, Decoders
from bpf2py.export.exported import Exported, program_beside
from bpf2py.export.hooks import perf_event_options
from bpf2py.export.service import check
from bpf2py.spec.object_spec import ObjectSpec

prometheus = pytest.importorskip("prometheus_client")
yaml = pytest.importorskip("yaml")

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event_key { __u32 device; __u8 op; __u64 slot; };
struct numbers { __u64 count, bytes; };
#define MAP(name, kind, entries, k, v) \\
    struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, entries); __type(key, k); __type(value, v); } \\
        name SEC(".maps")

MAP(seconds, HASH, 100, struct event_key, __u64);
MAP(io, HASH, 10, __u32, struct numbers);
MAP(by_cpu, PERCPU_HASH, 10, __u32, __u64);
MAP(total, PERCPU_ARRAY, 1, __u32, __u64);
MAP(depth, ARRAY, 1, __u32, __u64);
MAP(small, HASH, 10, __u16, __u32);
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } kills SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
const volatile __u64 kaddr_jiffies = 0;

SEC("tc") int kill(struct __sk_buff *skb)
{
    struct { __u64 cgroup; __u8 global; } __attribute__((packed)) event = { skb->mark, 1 };

    bpf_perf_event_output(skb, &kills, BPF_F_CURRENT_CPU, &event, sizeof(event));
    return kaddr_jiffies & 1;
}
char LICENSE[] SEC("license") = "GPL";
"""
UINT = "decoders: [{name: uint}]"
CONFIG = f"""
metrics:
  counters:
    - {{name: by_cpu, labels: [{{name: vec, size: 4, {UINT}}}, {{name: cpu, size: 2, {UINT}}}]}}
    - {{name: total, help: All}}
    - name: io
      labels: [{{name: device, size: 4, {UINT}}}]
      values: [{{name: io_total, help: Count}}, {{name: io_bytes_total, help: Bytes}}]
    - name: kills
      perf_event_array: true
      labels: [{{name: cgroup, size: 8, {UINT}}}, {{name: global, size: 1, {UINT}}}]
  gauges: [{{name: depth, help: Depth}}]
  histograms:
    - name: seconds
      help: Latency
      bucket_type: exp2
      bucket_min: 0
      bucket_max: 3
      bucket_multiplier: 0.5
      labels:
        - {{name: device, size: 4, {UINT}}}
        - {{name: op, size: 4, decoders: [{{name: uint}}, {{name: static_map, static_map: {{0: read, 1: write}}}}]}}
        - {{name: slot, size: 8, {UINT}}}
"""
Compile = Callable[[str], bytes]


def config_of(text: str) -> Config:
    return config_from(yaml.load(text, yaml.BaseLoader), "some", "some.yaml")


def scraped(*exported: Exported, series: int = 10_000) -> dict[str, float]:
    """Samples by their text in Prometheus' format."""
    registry = prometheus.CollectorRegistry(auto_describe=False)
    registry.register(ConfigCollector(lambda: exported, series, stats=False))
    return samples(prometheus.generate_latest(registry).decode())


def samples(text: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


@pytest.fixture
def engine() -> Engine:
    return Engine(possible_cpus=2)


@pytest.fixture
def exported(compile_bpf: Compile, engine: Engine) -> Iterator[Exported]:
    with Exported(config_of(CONFIG), ObjectSpec.from_bytes(compile_bpf(SOURCE)), engine) as made:
        yield made


def test_counters_gauges_and_histograms(exported: Exported) -> None:
    maps: Any = exported.obj.maps
    maps["depth"][0] = 5
    maps["total"][0] = [3, 4]
    maps["by_cpu"][7] = [1, 2]
    maps["io"][8] = {"count": 2, "bytes": 4096}
    for op, slot, count in ((0, 0, 1), (0, 3, 2), (0, 4, 60), (1, 9, 5)):
        maps["seconds"][{"device": 8, "op": op, "slot": slot}] = count
    found = scraped(exported)
    assert found["ebpf_exporter_depth"] == 5
    assert found["ebpf_exporter_total"] == 7
    assert found['ebpf_exporter_by_cpu{cpu="0",vec="7"}'] == 1
    assert found['ebpf_exporter_by_cpu{cpu="1",vec="7"}'] == 2
    assert found['ebpf_exporter_io_total{device="8"}'] == 2
    assert found['ebpf_exporter_io_bytes_total{device="8"}'] == 4096
    read, write = 'device="8",op="read"', 'device="8",op="write"'
    bucket = "ebpf_exporter_seconds_bucket"
    bounds = ("0.5", "1", "2", "4", "+Inf")
    assert [found[f'{bucket}{{device="8",le="{le}",op="read"}}'] for le in bounds] == [1, 1, 1, 3, 3]
    assert found[f"ebpf_exporter_seconds_sum{{{read}}}"] == 30
    assert found[f"ebpf_exporter_seconds_count{{{read}}}"] == 3
    # A bucket beyond the last is not lost.
    assert [found[f'{bucket}{{device="8",le="{le}",op="write"}}'] for le in bounds] == [0, 0, 0, 0, 5]
    assert found[f"ebpf_exporter_seconds_count{{{write}}}"] == 5
    assert found['ebpf_exporter_enabled_configs{name="some"}'] == 1
    assert found['ebpf_exporter_decoder_errors_total{config="some"}'] == 0


def test_a_per_cpu_map_without_a_label_cpu_is_added_up(compile_bpf: Compile, engine: Engine) -> None:
    text = f"metrics: {{counters: [{{name: by_cpu, labels: [{{name: vec, size: 4, {UINT}}}]}}]}}"
    with Exported(config_of(text), ObjectSpec.from_bytes(compile_bpf(SOURCE)), engine) as exported:
        maps: Any = exported.obj.maps
        maps["by_cpu"][7] = [1, 2]
        maps["by_cpu"][8] = [2**63, 1]
        assert exported.read(exported.config.sources[0]) == {("7",): [3], ("8",): [2**63 + 1]}


def test_elements_of_the_same_labels_are_added(compile_bpf: Compile, engine: Engine) -> None:
    text = """
metrics:
  counters:
    - name: io
      labels: [{name: device, size: 4, decoders: [{name: uint}, {name: static_map, static_map: {1: sda, 2: sda}}]}]
      values: [{name: io_total, help: x}, {name: io_bytes_total, help: x}]
"""
    with Exported(config_of(text), ObjectSpec.from_bytes(compile_bpf(SOURCE)), engine) as exported:
        maps: Any = exported.obj.maps
        for device in (1, 2, 3):
            maps["io"][device] = {"count": device, "bytes": 10}
        found = scraped(exported)
        assert found['ebpf_exporter_io_total{device="sda"}'] == 3
        assert found['ebpf_exporter_io_bytes_total{device="sda"}'] == 20
        assert found['ebpf_exporter_io_total{device="unknown:3"}'] == 3


def test_a_key_that_cannot_be_decoded_is_counted_and_the_others_are_told(
    compile_bpf: Compile, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seven_alone(_: Decoders, data: bytes, __: Decoder) -> bytes:
        if data[0] != 7:
            raise EncodeError("it is not 7")
        return b"seven"

    monkeypatch.setitem(_FUNCTIONS, "uint", seven_alone)
    text = f"metrics: {{counters: [{{name: by_cpu, labels: [{{name: vec, size: 4, {UINT}}}]}}]}}"
    with Exported(config_of(text), ObjectSpec.from_bytes(compile_bpf(SOURCE)), engine) as exported:
        maps: Any = exported.obj.maps
        maps["by_cpu"].update({7: 1, 9: 1})
        assert exported.read(exported.config.sources[0]) == {("seven",): [2]}
        assert scraped(exported)['ebpf_exporter_decoder_errors_total{config="some"}'] == 2


# Keys of histograms as programs have them: by size of the bucket, packed, with padding that a label's size covers, on each CPU.
KEYS_SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct narrow { __u8 operation, bucket; };
struct tight { __u64 group; __u16 hook, bucket; } __attribute__((packed));
struct wide { __u64 group; __u32 interface; __u16 hook, bucket; };
struct padded { __u32 kind; __u64 bucket; };
#define MAP(name, kind, k) \\
    struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, 100); __type(key, k); __type(value, __u64); } \\
        name SEC(".maps")

MAP(narrow_seconds, HASH, struct narrow);
MAP(tight_seconds, PERCPU_HASH, struct tight);
MAP(wide_seconds, PERCPU_HASH, struct wide);
MAP(padded_seconds, LRU_PERCPU_HASH, struct padded);
char LICENSE[] SEC("license") = "GPL";
"""


def test_keys_of_histograms(compile_bpf: Compile, engine: Engine, tmp_path: Path) -> None:
    kinds = "decoders: [{name: uint}, {name: static_map, static_map: {6: tcp, 7: udp}}]"
    keys = {
        "narrow": ("operation: 7", "udp", [(1, kinds), (1, UINT)]),
        "tight": ("group hook: 5 6", "5 tcp", [(8, UINT), (2, kinds), (2, UINT)]),
        "wide": ("group interface hook: 5 1 7", "5 lo udp", [(8, UINT), (4, "decoders: [{name: ifname}]"), (2, kinds), (2, UINT)]),
        "padded": ("kind: 6", "tcp", [(8, kinds), (8, UINT)]),
    }  # fmt: skip
    rows = []
    for name, (members, _, labels) in keys.items():
        names = [*members.partition(":")[0].split(), "bucket"]
        row = ", ".join(f"{{name: {n}, size: {size}, {how}}}" for n, (size, how) in zip(names, labels, strict=True))
        rows.append(f"{{name: {name}_seconds, bucket_type: exp2zero, bucket_min: 0, bucket_max: 3, "
                    f"bucket_multiplier: 0.001, labels: [{row}]}}")  # fmt: skip
    text = f"metrics: {{histograms: [{', '.join(rows)}]}}"
    (tmp_path / "some.yaml").write_text(text)
    (tmp_path / "some.bpf.c").write_text(KEYS_SOURCE)
    assert check(tmp_path / "some.yaml") == []
    with Exported(config_of(text), ObjectSpec.from_bytes(compile_bpf(KEYS_SOURCE)), engine) as exported:
        for name, (members, _, _) in keys.items():
            fields, _, values = members.partition(": ")
            key = dict(zip(fields.split(), map(int, values.split()), strict=True))
            counts: Any = exported.obj.maps[f"{name}_seconds"]
            for bucket, value in ((0, 1), (2, 2), (3, 3), (4, 40)):  # 4: the sum
                counts[key | {"bucket": bucket}] = value if name == "narrow" else [value, value]
        found = scraped(exported)
    for name, (members, told, _) in keys.items():
        has = dict(zip(members.partition(":")[0].split(), told.split(), strict=True))

        def sample(what: str, name: str = name, has: dict[str, str] = has, **more: str) -> float:
            labels = ",".join(f'{label}="{value}"' for label, value in sorted({**has, **more}.items()))
            return found[f"ebpf_exporter_{name}_seconds_{what}{{{labels}}}"]

        cpus = 1 if name == "narrow" else 2
        assert [sample("bucket", le=le) / cpus for le in ("0", "0.001", "0.002", "0.004", "+Inf")] == [1, 1, 3, 6, 6]
        assert sample("count") == 6 * cpus
        assert sample("sum") == pytest.approx(0.04 * cpus)


def test_records_of_a_perf_buffer_are_counted(exported: Exported, engine: Engine) -> None:
    program = exported.obj.programs["kill"]
    exported.run()
    for mark in (5, 6, 5):
        program.test_run(bytes(64), context=mark_of(mark))
    source = next(source for source in exported.config.sources if source.map == "kills")
    assert exported.read(source) == {("5", "1"): [2], ("6", "1"): [1]}
    found = scraped(exported)
    assert found['ebpf_exporter_kills{cgroup="5",global="1"}'] == 2
    assert found["dropped_perf_event_map_events_kills"] == 0
    assert exported.failures == []


def test_sets_of_records_are_forgotten_once_they_were_told(exported: Exported) -> None:
    now = [0.0]
    counter = exported._perf["kills"]
    counter._clock, counter.flush_interval, counter._most = (lambda: now[0]), 10, 2

    def count(*cgroups: int) -> None:
        for cgroup in cgroups:
            counter.record(cgroup.to_bytes(8, "little") + b"\1")

    count(5, 5, 6, 7, 7)  # 7 finds no room
    assert counter.read() == {("5", "1"): 2, ("6", "1"): 1}
    assert exported.lost == {"kills": 2}
    now[0] = 9
    count(6)
    now[0] = 11
    # 5 goes: it was told, and is the same since. 6 was counted meanwhile.
    assert counter.read() == {("6", "1"): 2}
    count(7)
    now[0] = 30
    count(7)
    now[0] = 50
    assert counter.read() == {("7", "1"): 2}  # counted after it was told last: told once more
    assert counter.read() == {}
    counter.record(b"short")
    assert exported.undecoded == 1


def mark_of(mark: int) -> bytes:
    """struct __sk_buff with a mark: the third u32."""
    return bytes(8) + mark.to_bytes(4, "little") + bytes(180)


# -- what does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("counters: [{name: nowhere}]", "nowhere: the object has no map of that name; there are: kills, seconds, io"),
        ("counters: [{name: ring}]", "ring: a map of type RINGBUF cannot be exported"),
        ("counters: [{name: total, perf_event_array: true}]", "perf_event_array: the map is of type PERCPU_ARRAY"),
        ("counters: [{name: small}]", "number 1 is the 8 bytes at offset 0 of the value, which has 4 bytes"),
        ("counters: [{name: io, values: [{name: a}, {name: b}, {name: c}]}]", "number 3 is the 8 bytes at offset 16 of the value"),
        (f"counters: [{{name: io, labels: [{{name: a, size: 2, {UINT}}}]}}]",
         "the labels have 2 bytes, and the key has 4: what follows is member key (offset 0, size 4)"),
        (f"counters: [{{name: seconds, labels: [{{name: a, size: 8, {UINT}}}]}}]",
         "the labels have 8 bytes, and the key has 16: what follows is member slot (offset 8, size 8)"),
        ("counters: [{name: io, labels: [{name: a, size: 4, decoders: [{name: cgroup}]}]}]",
         "label a: decoder cgroup takes a number as text: put uint before it"),
        ("counters: [{name: io, labels: [{name: a, size: 4, decoders: [{name: ksym}]}]}]",
         "label a: decoder ksym does not take 4 bytes: 8 at least"),
        (f"counters: [{{name: by_cpu, labels: [{{name: a, size: 4, {UINT}}}, {{name: cpu, size: 4, {UINT}}}]}}]",
         "label cpu of a per-CPU map has 2 bytes, not 4"),
        ("histograms: [{name: io, bucket_type: exp2, bucket_max: 3, labels: [{name: a, size: 4, decoders: [{name: hex}]}]}]",
         "label a: the bucket must be a number: its last decoder is uint"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(compile_bpf: Compile, engine: Engine, metrics: str, message: str) -> None:
    with pytest.raises(EncodeError, match=re.escape(message)):
        Exported(config_of(f"metrics: {{{metrics}}}"), ObjectSpec.from_bytes(compile_bpf(SOURCE)), engine)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([4, 1, 3, 8], "label l2 (offset 5, size 3) starts in padding of the key"),
        ([2, 2, 4, 8], "label l0 (offset 0, size 2) ends within member device (offset 0, size 4)"),
        ([4, 4, 4, 4], "label l3 (offset 12, size 4) starts within member slot (offset 8, size 8)"),
        ([8, 8], "label l0 (offset 0, size 8) takes member device and member op (offset 4, size 1) for one number"),
    ],
)
def test_check_names_member_and_offset(tmp_path: Path, labels: list[int], message: str) -> None:
    rows = ", ".join(
        f"{{name: l{i}, size: {size}, {UINT if size != 3 else 'decoders: [{name: hex}]'}}}"
        for i, size in enumerate(labels)
    )
    (tmp_path / "some.yaml").write_text(f"metrics: {{counters: [{{name: seconds, labels: [{rows}]}}]}}")
    (tmp_path / "some.bpf.c").write_text(SOURCE)
    found = check(tmp_path / "some.yaml")
    assert message in [problem.text for problem in found]
    assert not any(problem.fatal for problem in found)


def test_check_passes_what_fits(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text(CONFIG)
    (tmp_path / "some.bpf.c").write_text(SOURCE)
    assert check(tmp_path / "some.yaml") == []


def test_the_program_is_beside_its_config(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"some\.bpf\.c or some\.bpf\.o"):
        program_beside(tmp_path / "some.yaml")
    (tmp_path / "some.bpf.o").write_bytes(b"")
    assert [path.name for path in program_beside(tmp_path / "some.yaml")] == ["some.bpf.o"]
    (tmp_path / "some.bpf.c").write_bytes(b"")
    assert [path.name for path in program_beside(tmp_path / "some.yml")] == ["some.bpf.c", "some.bpf.o"]


def test_perf_events_of_sections() -> None:
    assert perf_event_options("perf_event/type=1,config=0x2,frequency=99") == {"event": (1, 2), "frequency": 99}
    for wrong in ("perf_event/type=x", "perf_event/kind=1", "perf_event/", "perf_event/type=1,type=2"):
        with pytest.raises(EncodeError, match="perf_event/"):
            perf_event_options(wrong)


# -- series ----------------------------------------------------------------------------------------------------------


def test_series_beyond_the_limit_are_left_out_and_counted(exported: Exported) -> None:
    maps: Any = exported.obj.maps
    for device in range(10):
        maps["io"][device] = {"count": 1, "bytes": 1}
    found = scraped(exported, series=5)
    told = [name for name in found if name.startswith("ebpf_exporter_io_")]
    assert len(told) < 20
    assert found["bpf2py_export_series"] <= 5
    missing = found['bpf2py_export_left_out{config="some",metric="io_total"}']
    assert missing + sum(name.startswith("ebpf_exporter_io_total") for name in told) == 10


def test_what_was_told_stays_when_others_come() -> None:
    series = Series(10)
    assert series.choose("a", dict.fromkeys([("1",), ("2",)]), 3) == [("1",), ("2",)]
    assert series.choose("b", dict.fromkeys([("x",), ("y",), ("z",)]), 2) == [("x",), ("y",)]
    # Others come first in the map now: those that were told go on.
    assert series.choose("a", dict.fromkeys([("0",), ("1",), ("2",)]), 3) == [("1",), ("2",)]
    assert series.used == 10
    # One goes: there is room for another.
    assert series.choose("a", dict.fromkeys([("0",), ("2",)]), 3) == [("2",), ("0",)]
    series.keep_only({"b"})
    assert series.used == 4
    assert series.choose("b", dict.fromkeys([("x",)]), 1) == [("x",)]
    assert series.used == 1
