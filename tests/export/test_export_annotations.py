"""Metrics declared in the program by <bpf2py/metrics.h>."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.export.test_export_programs import scraped

from bpf2py.engine import Engine
from bpf2py.errors import EncodeError, ObjectError
from bpf2py.export.annotations import annotated
from bpf2py.export.exported import Exported, read_program
from bpf2py.spec.object_spec import ObjectSpec

pytest.importorskip("prometheus_client")

HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf2py/metrics.h>
"""
TAIL = """
SEC("syscall") int nothing(void *ctx) { return 0; }
char LICENSE[] SEC("license") = "GPL";
"""
SOURCE = f"""{HEAD}
enum state {{ IDLE = 0, BUSY = 7 }};
struct peer {{ __u8 address[4] METRIC_DECODE("inet_ip"); __u16 port; }};
struct who {{
    __u32 pid METRIC_LABEL("process") METRIC_EXPIRES("process");
    enum state state;
    char comm[16];
    __u64 cookie METRIC_NO_LABEL;
    struct peer peer;
    _Bool local;
    __s8 offset;
}};
struct io {{
    __u64 bytes METRIC_COUNTER METRIC_UNIT("bytes") METRIC_HELP("What was read");
    __s32 balance METRIC_GAUGE;
    __u32 unrelated;
    __u64 latency[8] METRIC_HISTOGRAM METRIC_UNIT("microseconds");
}};
struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16); __type(key, struct who); __type(value, struct io); }}
    reads SEC(".maps");
struct {{ __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); }}
    sizes SEC(".maps") METRIC_HISTOGRAM METRIC_BUCKETS("linear:10") METRIC_NAME("request_sizes");
struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); }}
    drops SEC(".maps") METRIC_COUNTER METRIC_LABEL("device");
struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); }}
    calls_total SEC(".maps") METRIC_COUNTER;
struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); }}
    not_a_metric SEC(".maps");
__u64 lost METRIC_COUNTER METRIC_HELP("Lost");
__u32 waits[3] METRIC_HISTOGRAM;
{TAIL}"""
Compile = Callable[[str], bytes]


def spec_of(compile_bpf: Compile, text: str, name: str = "net") -> ObjectSpec:
    spec = ObjectSpec.from_bytes(compile_bpf(text))
    spec.name = name
    return spec


def test_members_maps_and_variables(compile_bpf: Compile) -> None:
    spec = spec_of(compile_bpf, SOURCE)
    with Exported(annotated(spec), spec, Engine(possible_cpus=2)) as exported:
        maps: Any = exported.obj.maps
        for cookie in (1, 2):
            maps["reads"][
                {
                    "pid": 5, "state": 7, "comm": "sh", "cookie": cookie,
                    "peer": {"address": socket.inet_aton("1.2.3.4"), "port": 80},
                    "local": True, "offset": -3,
                }
            ] = {"bytes": 100, "balance": -1, "unrelated": 9, "latency": [1, 0, 0, 2, 0, 0, 0, 0]}  # fmt: skip
        maps["sizes"][0], maps["sizes"][3] = [1, 2], [0, 5]
        maps["drops"][2] = 6
        maps["calls_total"][0] = 7
        maps["not_a_metric"][1] = 1
        exported.obj.variables["lost"].value = 8
        exported.obj.variables["waits"].value = [1, 0, 2]
        found = scraped(exported)
    who = 'comm="sh",local="true",offset="-3",peer_address="1.2.3.4",peer_port="80",process="5",state="BUSY"'
    assert found[f"net_reads_bytes_total{{{who}}}"] == 200  # of both cookies
    assert found[f"net_reads_balance{{{who}}}"] == -2
    latency = {name: n for name, n in found.items() if name.startswith("net_reads_latency_seconds_bucket")}
    bounds = {re.search('le="([^"]*)"', name)[1]: n for name, n in latency.items()}  # type: ignore[index]
    assert bounds == {"2e-06": 2, "4e-06": 2, "8e-06": 2, "1.6e-05": 6, "3.2e-05": 6, "6.4e-05": 6, "0.000128": 6,
                      "0.000256": 6, "+Inf": 6}  # fmt: skip
    assert found[f"net_reads_latency_seconds_count{{{who}}}"] == 6
    assert not any("latency_seconds_sum" in name for name in found)  # nobody knows it
    assert [found[f'request_sizes_bucket{{le="{le}"}}'] for le in ("0", "10", "20", "30", "+Inf")] == [3, 3, 3, 8, 8]
    assert found['net_drops_total{device="2"}'] == 6
    assert found["net_calls_total"] == 7
    assert found["net_lost_total"] == 8
    assert [found[f'net_waits_bucket{{le="{le}"}}'] for le in ("1", "3", "7", "+Inf")] == [1, 1, 3, 3]
    assert not any("not_a_metric" in name for name in found)


MAP = (
    "struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); "
    '__type(key, {key}); __type(value, {value}); }} m SEC(".maps") {tags};'
)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (MAP.format(key="__u32", value="__u64", tags='__attribute__((btf_decl_tag("metric:sum")))'),
         "map m: metric:sum is not one of counter, gauge, histogram"),
        (MAP.format(key="struct k", value="__u64", tags="METRIC_COUNTER"), "map m: key member b: a union has no text"),
        (MAP.format(key="struct bits", value="__u64", tags="METRIC_COUNTER"), "key member a: a bit field cannot be a label"),
        (MAP.format(key="__u32", value="struct two", tags="METRIC_COUNTER"), "either the map is a metric, or members"),
        (MAP.format(key="__u32", value="double", tags="METRIC_COUNTER"), "a metric is an integer of 1, 2, 4 or 8 bytes"),
        (MAP.format(key="__u32", value="__u64", tags='METRIC_COUNTER METRIC_DECODE("cgrup")'), "decode:cgrup is not a decoder"),
        (MAP.format(key="__u32", value="__u64", tags='METRIC_COUNTER METRIC_NAME("a-b")'), "'a-b' cannot be a name"),
        (MAP.format(key="__u32", value="__u64", tags='METRIC_COUNTER METRIC_LABEL("a-b")'), "'a-b' cannot be the name of a label"),
        (MAP.format(key="char8", value="__u64", tags="METRIC_HISTOGRAM"), "the last member of the key is the number of the bucket"),
        (MAP.format(key="__u32", value="__u64", tags='METRIC_HISTOGRAM METRIC_BUCKETS("log3")'), "buckets:log3 is not one of log2"),
        ("__u64 a METRIC_COUNTER; __u64 b METRIC_COUNTER METRIC_NAME(\"net_a_total\");", "two metrics are called 'net_a_total'"),
    ],
)  # fmt: skip
def test_annotations_that_make_no_sense(compile_bpf: Compile, declared: str, message: str) -> None:
    types = """
typedef struct { char text[8]; } char8;
union u { __u32 a; __u8 c[4]; };
struct k { __u32 a; union u b; };
struct bits { __u32 a : 3; };
struct two { __u64 one METRIC_COUNTER; };
"""
    with pytest.raises(EncodeError, match=re.escape(message)):
        annotated(spec_of(compile_bpf, HEAD + types + declared + TAIL))


def test_a_program_without_annotations(compile_bpf: Compile) -> None:
    with pytest.raises(
        ObjectError, match=r"no map, member or variable of it is tagged as a metric; see <bpf2py/metrics\.h>"
    ):
        annotated(spec_of(compile_bpf, HEAD + TAIL))


PYTHON = """
from typing import Annotated
from bpf2py.lang import *

class Caller(Struct):
    pid: Annotated[u32, "label:process"]
    kind: Annotated[bits[u32, 3], "label:none"]

class Wide(Struct):
    number: Annotated[u64, "metric:counter", 'help:All "calls"']
    slots: Annotated[array[u64, 4], "metric:histogram"]

wide = Hash[u32, Wide](max_entries=8)
calls: Annotated[Hash[u32, u64], "metric:counter", "label:pid"] = Hash(max_entries=8)
lost: Annotated[u64, "metric:counter"] = 7

@syscall
def f(ctx: Context) -> int:
    return 0
"""


def test_the_same_in_python(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(PYTHON)
    spec = read_program([tmp_path / "told.py"])[0]
    with Exported(annotated(spec), spec, Engine(possible_cpus=2)) as exported:
        maps: Any = exported.obj.maps
        maps["wide"][3] = {"number": 5, "slots": [0, 1, 0, 0]}
        maps["calls"][9] = 4
        found = scraped(exported)
    assert found['told_wide_number_total{key="3"}'] == 5
    assert found['told_wide_slots_bucket{key="3",le="3"}'] == 1
    assert found['told_calls_total{pid="9"}'] == 4
    assert found["told_lost_total"] == 7
