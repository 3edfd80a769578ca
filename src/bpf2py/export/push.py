"""Metrics sent to an OpenTelemetry collector by OTLP over HTTP (extra ``otel``): those a scrape gets.

Counters are cumulative sums without a start, which is not known: maps and run statistics count since before the exporter. A
histogram that counts by powers of two in the unit it is told in is an exponential one of scale 0; the others have their own bounds.
This module imports OpenTelemetry, which is optional.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics._internal.point import Buckets  # which has no public name
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

import bpf2py
from bpf2py.errors import BpfError
from bpf2py.export import families
from bpf2py.export.families import HistogramPoint, MetricFamily

if TYPE_CHECKING:
    import prometheus_client

__all__ = ["MetricsPush", "as_otlp"]

UNKNOWN = cast(float, None)  # what is None is left out of the message: sum, min and max are optional there
NO_START = 0  # of start_time_unix_nano: it is not known
MOST, MOST_SIGNED = 2**64 - 1, 2**63 - 1
UNITS = {"_seconds": "s", "_bytes": "By", "_ratio": "1"}


def as_otlp(metrics: Iterable[prometheus_client.Metric], at: int) -> Iterator[Metric]:
    """Families as OpenTelemetry's metrics; `at` is when they were read, in ns since 1970.

    A counter's name loses ``_total``, which Prometheus adds again.
    """
    metrics = list(metrics)
    for family, found in families.series(metrics):
        points = [NumberDataPoint(sample.labels, NO_START, at, _number(sample.value)) for sample in found.samples]
        if found.kind == "counter":
            data: Sum | Gauge = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
            yield Metric(found.name.removesuffix("_total"), family.documentation, _unit(found.name), data)
        else:
            data = Gauge(points)
            yield Metric(found.name, family.documentation, _unit(found.name), data)
    for family in metrics:
        if isinstance(family, MetricFamily) and family.kind == "histogram":
            yield from _histograms(family, at)


def _histograms(family: MetricFamily, at: int) -> Iterator[Metric]:
    """Whether they double is a fact of the family: all points are of one kind."""
    doubled = [point for point in family.points if point.exponential is not None and point.exponential.exact]
    if doubled:
        exponential = ExponentialHistogram([_exponential(p, at) for p in doubled], AggregationTemporality.CUMULATIVE)
        yield Metric(family.name, family.documentation, _unit(family.name), exponential)
    else:
        explicit = Histogram([_explicit(p, at) for p in family.points], AggregationTemporality.CUMULATIVE)
        yield Metric(family.name, family.documentation, _unit(family.name), explicit)


def _exponential(point: HistogramPoint, at: int) -> ExponentialHistogramDataPoint:
    native = point.exponential
    assert native is not None
    return ExponentialHistogramDataPoint(
        point.labels,
        NO_START,
        at,
        count=min(point.count, MOST),
        sum=UNKNOWN if point.sum is None else point.sum,
        scale=0,
        zero_count=min(native.zeros, MOST),
        positive=Buckets(
            native.first - 1, [min(count, MOST) for count in native.counts]
        ),  # named by their lower bounds
        negative=Buckets(0, []),
        flags=0,
        min=UNKNOWN,
        max=UNKNOWN,
    )


def _explicit(point: HistogramPoint, at: int) -> HistogramDataPoint:
    upto = [0, *(count for _, count in point.bounds), point.count]
    return HistogramDataPoint(
        point.labels,
        NO_START,
        at,
        count=min(point.count, MOST),
        sum=UNKNOWN if point.sum is None else point.sum,
        bucket_counts=[min(after - before, MOST) for before, after in pairwise(upto)],
        explicit_bounds=[bound for bound, _ in point.bounds],
        min=UNKNOWN,
        max=UNKNOWN,
    )


def _number(value: float) -> float:
    """Numbers are told as 64 signed bits, or as doubles."""
    return float(value) if isinstance(value, int) and value > MOST_SIGNED else value


def _unit(name: str) -> str:
    return next((unit for ending, unit in UNITS.items() if name.removesuffix("_total").endswith(ending)), "")


class MetricsPush:
    """Sends a registry's metrics from a thread: at once, every `interval` seconds, and when it is closed.

    Args:
        endpoint: a collector such as ``http://localhost:4318``. Headers, certificates, compression and the resource's attributes
            are taken from OpenTelemetry's environment variables (``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_RESOURCE_ATTRIBUTES``).

    Attributes:
        failed: how often the metrics could not be read, or the collector did not take them.
    """

    def __init__(self, registry: prometheus_client.CollectorRegistry, endpoint: str, interval: float) -> None:
        self.failed = 0
        self._registry = registry
        self._interval = interval
        self._exporter = OTLPMetricExporter(endpoint=endpoint.rstrip("/") + "/v1/metrics")
        own = Resource({"service.name": "bpf2py", "host.name": socket.gethostname()})
        self._resource = own.merge(OTELResourceDetector().detect())
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bpf2py-push", daemon=True)
        registry.register(self)

    def start(self) -> None:
        """Start the thread: it has the capabilities of the caller."""
        self._thread.start()

    def collect(self) -> Iterator[prometheus_client.Metric]:
        """What it tells of itself."""
        made = families.counter("bpf2py_export_push_failures_total", "Pushes that failed.")
        made.add_sample("bpf2py_export_push_failures_total", {}, self.failed)
        yield made

    def describe(self) -> list[prometheus_client.Metric]:
        """Nothing ahead."""
        return []

    def push(self) -> bool:
        """Send what is there now: whether the collector took it."""
        try:
            metrics = list(as_otlp(self._registry.collect(), time.time_ns()))
            scope = ScopeMetrics(InstrumentationScope("bpf2py", bpf2py.__version__), metrics, "")
            data = MetricsData([ResourceMetrics(self._resource, [scope], "")])
            taken = self._exporter.export(data) is MetricExportResult.SUCCESS
        except (BpfError, OSError):
            taken = False
        self.failed += not taken
        return taken

    def _run(self) -> None:
        while True:
            self.push()
            if self._end.wait(self._interval):
                return

    def close(self) -> None:
        """End the thread, and send the last state."""
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.push()
        self._exporter.shutdown()
