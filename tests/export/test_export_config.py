"""Config files in ebpf_exporter's format: what is read, and what is said of what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpf2py.errors import EncodeError
from bpf2py.export.config import Config, config_from, read_config

pytest.importorskip("yaml")

ALL = """
metrics:
  counters:
    - name: reads_total
      help: Reads
      labels:
        - name: op
          size: 1
          padding: 3
          decoders:
            - name: uint
            - name: static_map
              static_map: {0x1: on, 2: "write"}
              allow_unknown: true
        - name: cgroup
          size: 8
          decoders: [{name: uint}, {name: cgroup}]
    - name: kills_total
      help: Kills
      perf_event_array: true
      flush_interval: 1h30m
      labels: [{name: pid, size: 4, expires: process, decoders: [{name: uint}]}]
    - name: io
      help: no metric of its own
      labels: [{name: comm, size: 16, decoders: [{name: string}, {name: regexp, skip_cache_size: 100, regexps: ['^a', 'b$']}]}]
      values:
        - {name: io_total, help: Count}
        - {name: io_bytes_total, help: Bytes}
  gauges:
    - {name: depth, help: Depth}
  histograms:
    - name: latency_seconds
      help: Latency
      bucket_type: exp2
      bucket_min: 0
      bucket_max: 27
      bucket_multiplier: 0.000001
      labels: [{name: bucket, size: 4, decoders: [{name: uint}]}]
    - name: sizes
      help: Sizes
      bucket_type: fixed
      bucket_keys: [1, 2.5, 100]
      labels: [{name: bucket, size: 4, decoders: [{name: uint}]}]
kaddrs: [jiffies]
cgroup_id_map: {name: ids, type: cgrp_storage, regexps: ['^.*(system.slice/.*)$']}
tracing:
  spans:
    - {name: exec, ringbuf: spans, service: shell, labels: [{name: trace_id, size: 16, decoders: [{name: hex}]}]}
"""


def read(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "some.yaml"
    path.write_text(text)
    return read_config(path)


def test_everything_the_format_has(tmp_path: Path) -> None:
    config = read(tmp_path, ALL)
    assert config.name == "some"
    assert config.kaddrs == ("jiffies",)
    (span,) = config.spans
    assert (span.name, span.ringbuf, span.service, span.labels[0].size) == ("exec", "spans", "shell", 16)
    assert config.cgroup_id_map is not None
    assert config.cgroup_id_map.type == "cgrp_storage"
    assert config.cgroup_id_map.regexps[0].search("/sys/fs/cgroup/system.slice/ssh.service")
    by_map = {source.map: source for source in config.sources}
    assert list(by_map) == ["reads_total", "kills_total", "io", "depth", "latency_seconds", "sizes"]
    op, cgroup = by_map["reads_total"].labels
    assert (op.size, op.padding, cgroup.expires) == (1, 3, "cgroup")
    # As the file has them: YAML would make 1 and True of these words.
    assert op.decoders[1].static_map == {"0x1": "on", "2": "write"}
    assert op.decoders[1].allow_unknown
    kills = by_map["kills_total"]
    assert (kills.kind, kills.flush_interval, kills.labels[0].expires) == ("perf", 5400.0, "process")
    io = by_map["io"]
    assert [(f.name, f.first) for f in io.families] == [("io_total", 0), ("io_bytes_total", 1)]
    assert [number.offset for number in io.numbers] == [0, 8]
    assert [each.pattern for each in io.labels[0].decoders[1].regexps] == ["^a", "b$"]
    assert by_map["depth"].families[0].kind == "gauge"
    latency, sizes = by_map["latency_seconds"].families[0].buckets, by_map["sizes"].families[0].buckets
    assert latency is not None
    assert sizes is not None
    assert (latency.type, latency.min, latency.max, latency.multiplier) == ("exp2", 0, 27, 1e-6)
    assert sizes.keys == (1, 2.5, 100)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("programs:\n  - name: x\n", "a config of ebpf_exporter 1"),
        ("metrics: {}\n", "it has no metrics and no spans"),
        ("metrics: [1]\n", "metrics: a mapping is needed here, not a list"),
        ("{", "not YAML"),
        ("metrics:\n  counters: [{name: a b}]", "'a b' cannot be a name in Prometheus"),
        ("metrics:\n  counters: [{help: x}]", "counters[0]: name: it is missing"),
        ("metrics:\n  counters: [{name: a, helpp: x}]", "counter a: unknown key 'helpp'"),
        ("metrics:\n  counters: [{name: a}, {name: a}]", "two metrics are called 'a'"),
        ("metrics:\n  counters: [{name: a, labels: [{name: l, size: 4}]}]", "label l: decoders: a label needs one"),
        ("metrics:\n  counters: [{name: a, labels: [{name: l, size: 0, decoders: [{name: uint}]}]}]", "size and padding"),
        ("metrics:\n  counters: [{name: a, labels: [{name: l, size: 4, decoders: [{name: uin}]}]}]", "'uin': uint?"),
        ("metrics:\n  counters: [{name: a, labels: [{name: l, size: 4, decoders: [{name: regexp, regexps: ['(']}]}]}]",
         "regexps[0]: '(' is not a regular expression"),
        ("metrics:\n  counters: [{name: a, labels: [{name: l, size: 4, decoders: [{name: string, skip_cache_size: many}]}]}]",
         "decoder string: skip_cache_size: a number is needed"),
        ("metrics:\n  counters: [{name: a, labels: [{name: l, size: 4, decoders: [{name: string, skip_cache_size: -1}]}]}]",
         "skip_cache_size: it is a number of labels"),
        ("metrics:\n  counters: [{name: a, perf_event_array: maybe}]", "perf_event_array: true or false is needed"),
        ("metrics:\n  counters: [{name: a, perf_event_array: true, flush_interval: 10 apples}]", "a duration such as"),
        ("metrics:\n  gauges: [{name: a, perf_event_array: true}]", "records of a perf buffer are counted"),
        ("metrics:\n  histograms: [{name: a, bucket_type: exp3}]", "'exp3' is not one of exp2, exp2zero, linear, fixed"),
        ("metrics:\n  histograms: [{name: a, bucket_type: exp2, bucket_min: 3, bucket_max: 3}]", "bucket_max must be above"),
        ("metrics:\n  histograms: [{name: a, bucket_type: exp2, bucket_max: 3}]", "at least one: the last one is the bucket"),
        ("metrics:\n  histograms: [{name: a, bucket_type: fixed, bucket_keys: [2, 1]}]", "bucket_keys: they must grow"),
        ("metrics:\n  histograms: [{name: a, bucket_type: exp2, bucket_max: 1e999}]", "a number is needed"),
        ("metrics:\n  histograms: [{name: a, bucket_type: exp2, bucket_max: 2.5}]", "a whole number is needed"),
        ("metrics:\n  counters: [{name: a}]\ncgroup_id_map: {name: x, type: list}", "it is hash or cgrp_storage, not 'list'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(EncodeError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert "some.yaml: " in str(caught.value)


def test_a_config_that_is_no_config_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b" " * ((4 << 20) + 1))
    with pytest.raises(EncodeError, match="at most"):
        read_config(path)


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_config_is_an_error_that_says_where(data: st.DataObject) -> None:
    """Parts of a config taken out, replaced and repeated: it is read, or EncodeError says what is wrong."""
    import yaml

    content = yaml.load(ALL, yaml.BaseLoader)
    words = st.sampled_from(["", "x", "-1", "1e400", "nan", "99999999999", "{}", "true", "uint", "name"])
    other: st.SearchStrategy[Any] = st.one_of(
        words, st.just([]), st.just({}), st.lists(words, max_size=2), st.dictionaries(words, words, max_size=2)
    )
    for _ in range(data.draw(st.integers(1, 4))):
        place: Any = content
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            below = place[key]
            if not isinstance(below, dict | list) or not below or data.draw(st.booleans()):
                place[key] = data.draw(st.one_of(other, st.just(below)))
                if isinstance(place, list) and data.draw(st.booleans()):
                    place.append(below)
                break
            place = below
    said = "some.yaml: "
    try:
        config_from(content, "some", "some.yaml")
    except EncodeError as error:
        said = str(error)
    assert said.startswith("some.yaml: ")
