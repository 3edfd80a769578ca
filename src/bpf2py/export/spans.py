"""Spans of traces from ring buffers, sent to an OpenTelemetry collector by OTLP over HTTP (extra ``otel``).

What is read of a record, by the names of its labels, is ebpf_exporter's: ``trace_id``, ``parent_span_id``, ``span_id``,
``span_monotonic_timestamp_ns``, ``span_duration_ns`` and ``span_name``; all others are attributes.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bpf2py.errors import EncodeError, NotSupported
from bpf2py.export.config import SpanSource
from bpf2py.export.decoders import KeyDecoder
from bpf2py.export.records import RecordThread
from bpf2py.maps.base import AnyMap
from bpf2py.readers import RingReader

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

__all__ = ["SpanReader", "SpanSink"]

SAMPLED = 1
QUEUE, SECONDS = 16_384, 1000  # spans that wait to be sent; milliseconds until they are


class SpanSink:
    """Where spans go: `endpoint` is a collector such as ``http://localhost:4318``. Raises NotSupported without the extra.

    Attributes:
        failed: spans the collector did not take.
    """

    def __init__(self, endpoint: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
        except ImportError:
            raise NotSupported(
                "OpenTelemetry is not installed: pip install 'bpf2py[otel]'", feature="opentelemetry"
            ) from None
        if not endpoint.startswith(("http://", "https://")):
            raise EncodeError(f"a collector is a URL such as http://localhost:4318, not {endpoint!r}")
        self.failed = 0
        sink, inner = self, OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces")

        class Counting(SpanExporter):
            """Counts what could not be sent."""

            def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
                result = inner.export(spans)
                if result is not SpanExportResult.SUCCESS:
                    sink.failed += len(spans)
                return result

            def shutdown(self) -> None:
                inner.shutdown()  # type: ignore[no-untyped-call]

        # Its thread is started with the first span: it has the capabilities of who sends that.
        self._start: Callable[[], BatchSpanProcessor] = lambda: BatchSpanProcessor(
            Counting(), max_queue_size=QUEUE, schedule_delay_millis=SECONDS
        )
        self._processor: BatchSpanProcessor | None = None
        self._lock = threading.Lock()

    def send(self, span: ReadableSpan) -> None:
        """Send a span, soon."""
        with self._lock:
            if self._processor is None:
                self._processor = self._start()
        self._processor.on_end(span)

    def close(self) -> None:
        """Send what is left."""
        if self._processor is not None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]


class SpanReader(RecordThread):
    """Makes spans of a ring buffer's records, from a thread.

    Attributes:
        sent: spans given to the sink.
    """

    def __init__(self, bpf_map: AnyMap, source: SpanSource, keys: KeyDecoder, sink: SpanSink) -> None:
        from opentelemetry.sdk.resources import Resource

        super().__init__(bpf_map.name, RingReader(bpf_map))
        self.source = source
        self.sent = 0
        self._keys = keys
        self._sink = sink
        service = source.service or os.environ.get("OTEL_SERVICE_NAME") or source.name
        self._resource = Resource.create({"service.name": service})
        self._names = [label.name for label in source.labels]
        # What bpf_ktime_get_ns() says is since the machine started.
        self._since = time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    def record(self, data: bytes) -> None:
        """Send the span of a record."""
        try:
            labels = self._keys.labels(data[: self._keys.size])
            if labels is None:
                return
            span = self._span(dict(zip(self._names, labels, strict=True)))
        except (EncodeError, ValueError):
            self.undecoded += 1
            return
        self._sink.send(span)
        self.sent += 1

    def _span(self, told: dict[str, str]) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, TraceFlags

        trace = int(told.pop("trace_id", "0"), 16) or secrets.randbits(128)
        parent = int(told.pop("parent_span_id", "0"), 16)
        own = int(told.pop("span_id", "0"), 16) or secrets.randbits(64)
        at = told.pop("span_monotonic_timestamp_ns", None)
        start = self._since + int(at) if at is not None else time.time_ns()
        end = start + int(told.pop("span_duration_ns", "0"))
        name = told.pop("span_name", None) or self.source.name
        flags = TraceFlags(SAMPLED)
        return ReadableSpan(
            name,
            SpanContext(trace, own, False, flags),
            SpanContext(trace, parent, True, flags) if parent else None,
            self._resource,
            dict(told),
            start_time=start,
            end_time=end,
        )
