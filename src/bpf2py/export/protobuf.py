"""Prometheus' protobuf format: what it asks for when it takes native histograms, which its text format cannot say.

Source of the messages: ``io/prometheus/client/metrics.proto`` of prometheus/client_model. They are declared here, for no package
of Python has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from bpf2py.export.families import HistogramPoint, MetricFamily, series

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["CONTENT_TYPE", "encode", "is_wanted"]

CONTENT_TYPE = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
PACKAGE = "io.prometheus.client"
TYPES = {"counter": 0, "gauge": 1, "unknown": 3, "histogram": 4}
MOST = 2**64 - 1

# name, number, type; [] is repeated, a capital a message. Summaries, exemplars and negative buckets are not made here.
MESSAGES = {
    "LabelPair": ("name 1 string", "value 2 string"),
    "Number": ("value 1 double",),  # the same for counters, gauges and untyped
    "Bucket": ("cumulative_count 1 uint64", "upper_bound 2 double"),
    "BucketSpan": ("offset 1 sint32", "length 2 uint32"),
    "Histogram": (
        "sample_count 1 uint64",
        "sample_sum 2 double",
        "bucket 3 Bucket[]",
        "schema 5 sint32",
        "zero_threshold 6 double",
        "zero_count 7 uint64",
        "positive_span 12 BucketSpan[]",
        "positive_delta 13 sint64[]",
    ),
    "Metric": (
        "label 1 LabelPair[]",
        "gauge 2 Number",
        "counter 3 Number",
        "untyped 5 Number",
        "histogram 7 Histogram",
    ),
    "MetricFamily": ("name 1 string", "help 2 string", "type 3 int32", "metric 4 Metric[]"),
}


def is_wanted(accept: str) -> bool:
    """Whether an ``Accept`` header prefers protobuf to text.

    >>> is_wanted("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,text/plain;q=0.5")
    True
    >>> is_wanted("text/plain,application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.1")
    False
    """
    protobuf, text = 0.0, 0.0
    for each in accept.lower().split(","):
        kind, *told = (part.strip().replace(" ", "") for part in each.split(";"))
        parameters = dict(part.partition("=")[::2] for part in told)
        try:
            weight = float(parameters.get("q", "1"))
        except ValueError:
            continue
        if kind == "application/vnd.google.protobuf":
            if parameters.get("proto") == f"{PACKAGE}.metricfamily" and parameters.get("encoding") == "delimited":
                protobuf = max(protobuf, weight)
        elif kind in ("text/plain", "application/openmetrics-text"):
            text = max(text, weight)
    return protobuf > 0 and protobuf >= text


@cache
def _message(name: str) -> Any:  # a class made at run time: protobuf has no type for it
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    """A pool of its own: other packages of the process may declare the same messages."""
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package=PACKAGE, syntax="proto2")
    field_type = descriptor_pb2.FieldDescriptorProto
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields:
            field_name, number, kind = field.split()
            made = message.field.add(name=field_name, number=int(number))
            made.label = field_type.LABEL_REPEATED if kind.endswith("[]") else field_type.LABEL_OPTIONAL
            kind = kind.removesuffix("[]")
            if kind[0].isupper():
                made.type, made.type_name = field_type.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
            else:
                made.type = field_type.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def encode(metrics: Iterable[Metric]) -> bytes:
    """The families as messages, each after its length. Histograms have their own buckets and, where they double, native ones."""
    metrics = list(metrics)
    return b"".join(
        _varint(len(message)) + message
        for message in (made.SerializeToString() for made in (*_of_series(metrics), *_of_histograms(metrics)))
    )


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def _of_series(metrics: list[Metric]) -> Iterator[Any]:
    for metric, found in series(metrics):
        made = _message("MetricFamily")(name=found.name, help=metric.documentation, type=TYPES[found.kind])
        member = "untyped" if found.kind == "unknown" else found.kind
        for sample in found.samples:
            one = made.metric.add()
            _label(one, sample.labels)
            getattr(one, member).value = sample.value
        yield made


def _of_histograms(metrics: list[Metric]) -> Iterator[Any]:
    for metric in metrics:
        if isinstance(metric, MetricFamily) and metric.kind == "histogram":
            made = _message("MetricFamily")(name=metric.name, help=metric.documentation, type=TYPES["histogram"])
            for point in metric.points:
                one = made.metric.add()
                _label(one, point.labels)
                _fill(one.histogram, point)
            yield made


def _label(metric: Any, labels: dict[str, str]) -> None:
    for name, value in labels.items():
        metric.label.add(name=name, value=value)


def _fill(histogram: Any, point: HistogramPoint) -> None:
    histogram.sample_count = min(point.count, MOST)
    if point.sum is not None:
        histogram.sample_sum = point.sum
    elif point.exponential is not None:
        # One there must be, and NaN, which would say that it is not known, Prometheus 3.5 takes for values that are NaN.
        histogram.sample_sum = point.exponential.middle
    for bound, upto in point.bounds:
        histogram.bucket.add(cumulative_count=min(upto, MOST), upper_bound=bound)
    native = point.exponential
    if native is None:
        return
    histogram.schema = 0
    histogram.zero_threshold = 0.0
    histogram.zero_count = min(native.zeros, MOST)
    # A span tells a native histogram from another, also where there is nothing in it.
    histogram.positive_span.add(offset=native.first, length=len(native.counts))
    before = 0
    for count in native.counts:
        count = min(count, 2**63 - 1)
        histogram.positive_delta.append(count - before)
        before = count
