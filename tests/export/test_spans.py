"""Spans of configs: from a ring buffer to a collector over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from tests.export.test_export_programs import config_of, scraped

from bpf2py.engine import Engine
from bpf2py.errors import EncodeError
from bpf2py.export.exported import Exported
from bpf2py.export.service import Exporter
from bpf2py.export.spans import SpanSink
from bpf2py.spec.object_spec import ObjectSpec

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
pytest.importorskip("yaml")

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct span { __u64 trace[2], parent, own, start_ns, length_ns; char name[16]; __u32 error; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } calls SEC(".maps");
SEC("syscall") int put(struct span *ctx)
{
    struct span span = *ctx;

    return bpf_ringbuf_output(&calls, &span, sizeof(span), 0);
}
char LICENSE[] SEC("license") = "GPL";
"""
CONFIG = """
tracing:
  spans:
    - name: call
      ringbuf: calls
      service: kernel
      labels:
        - {name: trace_id, size: 16, decoders: [{name: hex}]}
        - {name: parent_span_id, size: 8, decoders: [{name: hex}]}
        - {name: span_id, size: 8, decoders: [{name: hex}]}
        - {name: span_monotonic_timestamp_ns, size: 8, decoders: [{name: uint}]}
        - {name: span_duration_ns, size: 8, decoders: [{name: uint}]}
        - {name: span_name, size: 16, decoders: [{name: string}]}
        - {name: sys.error, size: 4, padding: 4, decoders: [{name: uint}, {name: errno}]}
"""
Compile = Callable[[str], bytes]


class Collector:
    """A collector on this machine, and the spans it was sent."""

    def __init__(self, status: int = 200) -> None:
        self.spans: list[tuple[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest.FromString(body)
                if status == 200:
                    assert self.path == "/v1/traces"
                    for of_resource in request.resource_spans:
                        names = {a.key: a.value.string_value for a in of_resource.resource.attributes}
                        for scope in of_resource.scope_spans:
                            collector.spans += [(names["service.name"], span) for span in scope.spans]
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def record(
    trace: int = 0, parent: int = 0, own: int = 0, start: int = 0, length: int = 0, name: bytes = b"", error: int = 0
) -> bytes:
    numbers = [trace.to_bytes(16, "big"), parent.to_bytes(8, "big"), own.to_bytes(8, "big")]
    return b"".join([*numbers, start.to_bytes(8, "little"), length.to_bytes(8, "little"), name.ljust(16, b"\0"),
                     error.to_bytes(4, "little"), bytes(4)])  # fmt: skip


def test_spans_arrive(compile_bpf: Compile, collector: Collector) -> None:
    sink = SpanSink(collector.url)
    start = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    spec = ObjectSpec.from_bytes(compile_bpf(SOURCE))
    with Exported(config_of(CONFIG), spec, Engine(possible_cpus=1), sink=sink) as exported:
        exported.run()
        put = exported.obj.programs["put"]
        before = time.time_ns()
        put.test_run(context=record(0xABCDEF, 0x11, 0x22, start, 1_500_000, b"open", 2))
        put.test_run(context=record(start=start))
        exported.spans[0].stop()
        assert exported.failures == []
        assert scraped(exported)['bpf2py_export_spans_total{config="some",span="call"}'] == 2
    sink.close()
    assert sink.failed == 0
    (service, first), (_, second) = collector.spans
    assert (service, first.name) == ("kernel", "open")
    assert first.trace_id == (0xABCDEF).to_bytes(16, "big")
    assert (first.parent_span_id, first.span_id) == ((0x11).to_bytes(8, "big"), (0x22).to_bytes(8, "big"))
    assert first.end_time_unix_nano - first.start_time_unix_nano == 1_500_000
    assert abs(first.start_time_unix_nano - before) < 60 * 10**9
    assert [(a.key, a.value.string_value) for a in first.attributes] == [("sys.error", "ENOENT")]
    # Without numbers of its own a span begins a trace.
    assert second.name == "call"
    assert any(second.trace_id)
    assert any(second.span_id)
    assert not second.parent_span_id


@pytest.mark.parametrize(("environment", "service"), [("shop", "shop"), ("", "call")])
def test_a_span_without_a_service_is_of_the_environments(
    compile_bpf: Compile, collector: Collector, monkeypatch: pytest.MonkeyPatch, environment: str, service: str
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", environment)
    sink = SpanSink(collector.url)
    spec = ObjectSpec.from_bytes(compile_bpf(SOURCE))
    config = config_of(CONFIG.replace("      service: kernel\n", ""))
    with Exported(config, spec, Engine(possible_cpus=1), sink=sink) as exported:
        exported.run()
        exported.obj.programs["put"].test_run(context=record())
        exported.spans[0].stop()
    sink.close()
    assert [each for each, _ in collector.spans] == [service]


def test_what_a_collector_does_not_take_is_counted(compile_bpf: Compile, caplog: pytest.LogCaptureFixture) -> None:
    refusing = Collector(400)
    try:
        sink = SpanSink(refusing.url)
        spec = ObjectSpec.from_bytes(compile_bpf(SOURCE))
        with Exported(config_of(CONFIG), spec, Engine(possible_cpus=1), sink=sink) as exported:
            exported.obj.programs["put"].test_run(context=record(1))
            exported.spans[0].stop()
            sink.close()
            assert scraped(exported)["bpf2py_export_spans_failed_total"] == 1
    finally:
        refusing.close()


def test_spans_that_do_not_fit(compile_bpf: Compile) -> None:
    spec = ObjectSpec.from_bytes(compile_bpf(SOURCE))
    with pytest.raises(EncodeError, match="span call: the object has no map nowhere"):
        Exported(config_of(CONFIG.replace("ringbuf: calls", "ringbuf: nowhere")), spec, Engine(possible_cpus=1))
    with pytest.raises(EncodeError, match="a collector is a URL"):
        SpanSink("localhost:4318")


def test_without_a_collector_it_is_said(tmp_path: Any) -> None:
    (tmp_path / "some.yaml").write_text(CONFIG)
    (tmp_path / "some.bpf.c").write_text(SOURCE)
    with Exporter([tmp_path / "some.yaml"], Engine(possible_cpus=1)) as exporter:
        assert exporter.unattached() == ["config some: its spans go nowhere: give --otlp URL"]
