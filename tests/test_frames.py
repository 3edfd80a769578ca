"""Maps and batches as data frames and as tables; what load() changes; names of system calls."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine
from bpf2py.maps.histogram import slot_counts

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct owner { __u32 pid; char comm[8]; };
struct usage { __u64 count; __u16 sizes[3]; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); __type(key, struct owner); __type(value, struct usage); }
    usages SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 64); __type(key, __u32); __type(value, __u64); }
    per_cpu SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 3); __type(key, __u32); __type(value, __u64); } totals SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct owner); } events SEC(".maps");
int runs;
const volatile int step = 1;
SEC("raw_tp/x") int run(void *ctx)
{
    struct owner owner = {.pid = runs, .comm = "<u>&"};

    runs += step;
    return bpf_ringbuf_output(&events, &owner, sizeof(owner), 0);
}
SEC("?raw_tp/x") int other(void *ctx) { return 7; }
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture(scope="module")
def spec() -> bpf2py.ObjectSpec:
    return bpf2py.ObjectSpec.from_bytes(bpf2py.compile(SOURCE))


@pytest.fixture
def obj(spec: bpf2py.ObjectSpec) -> Iterator[Any]:
    with bpf2py.load(spec, Engine(possible_cpus=2)) as loaded:
        loaded.maps["usages"].update(
            {(pid, f"<i>{pid}"): {"count": pid * 10, "sizes": [1, 2, pid]} for pid in range(1, 31)}
        )
        loaded.maps["per_cpu"][5] = [1, 2]
        loaded.maps["totals"][1] = 9
        yield loaded


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_frames_have_a_column_for_each_member(obj: Any, kind: str) -> None:
    frame = getattr(obj.maps["usages"], f"to_{kind}")()
    assert list(frame.columns) == ["key.pid", "key.comm", "value.count", "value.sizes"]
    rows = {int(row[0]): row for row in (frame.to_numpy().tolist() if kind == "pandas" else frame.rows())}
    assert len(rows) == 30
    assert (rows[7][1], rows[7][2], list(rows[7][3])) == ("<i>7", 70, [1, 2, 7])
    assert frame["value.count"].sum() == 10 * sum(range(1, 31))
    per_cpu = getattr(obj.maps["per_cpu"], f"to_{kind}")()
    assert [list(value) for value in per_cpu["value"]] == [[1, 2]]
    totals = getattr(obj.maps["totals"], f"to_{kind}")()
    assert list(totals["index"]) == [0, 1, 2]
    assert list(totals["value"]) == [0, 9, 0]
    with bpf2py.RingReader(obj.maps["events"]) as reader:
        for _ in range(3):
            obj.programs["run"].run()
        (batch,) = reader.flush()
    events = getattr(batch, f"to_{kind}")()
    assert list(events.columns) == ["pid", "comm"]
    assert list(events["pid"]) == [0, 1, 2]
    assert "<u>&" not in batch._repr_html_()
    assert "&lt;u&gt;&amp;" in batch._repr_html_()


def test_a_library_that_is_not_there(obj: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(bpf2py.NotSupported, match="pandas is not installed: pip install pandas"):
        obj.maps["usages"].to_pandas()


def test_tables_for_notebooks(obj: Any) -> None:
    html = obj.maps["usages"]._repr_html_()
    assert "<th>key.pid</th><th>key.comm</th><th>value.count</th><th>value.sizes</th>" in html
    assert html.count("<tr>") == 1 + 20
    assert "<p>10 more</p>" in html
    assert "<i>" not in html
    assert "<td>5</td><td>3</td>" in obj.maps["per_cpu"]._repr_html_()  # the sum
    assert "<th>index</th><th>value</th>" in obj.maps["totals"]._repr_html_()


def test_histograms_are_drawn() -> None:
    histogram = bpf2py.Histogram.log2([0, 0, 3, 1], "us")
    assert [line.strip() for line in histogram.lines(4)] == ["4 us -> 8 us : 3 |****|", "8 us -> 16 us : 1 |*   |"]
    drawn = histogram.plot("<latency>")
    assert re.findall(r'<rect [^>]*width="([\d.]+)"', drawn)[0] > "0"
    assert len(re.findall("<rect", drawn)) == 2
    assert "&lt;latency&gt;" in drawn
    assert drawn._repr_svg_() == str(drawn)
    assert histogram._repr_html_().count("<tr>") == 3
    assert bpf2py.Histogram.linear([1, 0], step=5, start=10).lines(1) == ["10 -> 14 : 1 |*|"]
    assert str(bpf2py.Histogram.log2([])) == "value"
    with pytest.raises(bpf2py.EncodeError, match="slots from 0 to"):
        slot_counts("m", {1 << 31: 1})


def test_load_changes_what_it_is_told_to(spec: bpf2py.ObjectSpec) -> None:
    changes: dict[str, Any] = {"variables": {"step": 5, "runs": 2}, "max_entries": {"usages": 7}}
    with bpf2py.load(spec, Engine(), **changes, autoload={"run": False, "other": True}) as obj:
        assert list(obj.programs) == ["other"]
        assert obj.programs["other"].run().return_value == 7
        assert obj.maps["usages"].max_entries == 7
        assert (obj.variables["step"].value, obj.variables["runs"].value) == (5, 2)
    for option in ("variables", "max_entries", "autoload"):
        with pytest.raises(KeyError, match=r"no \w+ 'nothing'; there are: "):
            bpf2py.load(spec, Engine(), **{option: {"nothing": 1}})  # type: ignore[arg-type]
    with pytest.raises(bpf2py.EncodeError, match="variable step: "):
        bpf2py.load(spec, Engine(), variables={"step": "five"})
    assert spec.maps["usages"].max_entries == 64  # a spec may be loaded many times


def test_a_spec_of_a_source(tmp_path: Path) -> None:
    path = tmp_path / "frames.bpf.c"
    path.write_text(SOURCE)
    assert list(bpf2py.ObjectSpec.from_file(path).programs) == ["run", "other"]
    assert bpf2py.ObjectSpec.from_file(path, cflags=["-Dstep=steps"]).variables["steps"].value == 1
    path.write_text("int x = ;\n")
    with pytest.raises(bpf2py.CompileError, match=r"frames\.bpf\.c:1:9: error"):
        bpf2py.ObjectSpec.from_file(path)


def test_names_of_system_calls() -> None:
    assert bpf2py.syscall_name({"aarch64": 172}.get(platform.machine(), 39)) == "getpid"
    assert bpf2py.syscall_name(100_000) == "syscall_100000"
