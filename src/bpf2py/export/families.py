"""`MetricFamily`: a metric with what `prometheus_client` does not keep of it, for other formats than Prometheus' text.

The client calls a counter whose name lacks ``_total`` untyped, and has histograms as cumulative series only. This module imports
`prometheus_client`, which is optional: import it where `bpf2py.export.client.require_client` was called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.samples import Sample

from bpf2py.export.histogram import Exponential, go_number

__all__ = ["MetricFamily", "HistogramPoint", "Series", "counter", "gauge", "series"]


@dataclass(frozen=True)
class HistogramPoint:
    """A histogram of one set of labels.

    Attributes:
        bounds: (upper bound, count up to it), cumulative; `count` has those above the last as well.
        sum: of the values, or None where it is not known.
        exponential: the same counts in buckets whose bounds are powers of two, where the program counts so.
    """

    labels: dict[str, str]
    bounds: list[tuple[float, int]]
    count: int
    sum: float | None
    exponential: Exponential | None


class Series(NamedTuple):
    """Samples of one name. `kind` is ``"counter"``, ``"gauge"`` or ``"unknown"``."""

    name: str
    kind: str
    samples: list[Sample]


class MetricFamily(Metric):
    """A metric family.

    Attributes:
        kind: ``"counter"``, ``"gauge"`` or ``"histogram"``, whatever its name ends with.
        points: of a histogram.
    """

    def __init__(self, name: str, help_: str, kind: str) -> None:
        bare = name.removesuffix("_total")
        if kind != "counter":
            super().__init__(name, help_ or name, kind)
        else:  # the client adds _total to all that it calls counters
            super().__init__(bare, help_ or name, "counter" if bare != name else "unknown")
        self.kind = kind
        self.points: list[HistogramPoint] = []

    def add_histogram(self, point: HistogramPoint) -> None:
        """Add a histogram, as series as well."""
        name, labels = self.name, point.labels
        for bound, upto in point.bounds:
            self.add_sample(f"{name}_bucket", labels | {"le": go_number(bound)}, upto)
        self.add_sample(f"{name}_bucket", labels | {"le": "+Inf"}, point.count)
        self.add_sample(f"{name}_count", labels, point.count)
        if point.sum is not None:
            self.add_sample(f"{name}_sum", labels, point.sum)
        self.points.append(point)


def counter(name: str, help_: str) -> MetricFamily:
    """A counter keeps its name."""
    return MetricFamily(name, help_, "counter")


def gauge(name: str, help_: str, value: float) -> MetricFamily:
    """A gauge with one value and no labels."""
    made = MetricFamily(name, help_, "gauge")
    made.add_sample(name, {}, value)
    return made


def series(metrics: Iterable[Metric]) -> Iterator[tuple[Metric, Series]]:
    """All that is not a histogram, by the names of its samples."""
    for metric in metrics:
        kind = metric.kind if isinstance(metric, MetricFamily) else metric.type
        if kind == "histogram":
            continue
        found: dict[str, list[Sample]] = {}
        for sample in metric.samples:
            found.setdefault(sample.name, []).append(sample)
        told = "gauge" if kind in ("gauge", "info", "stateset") else kind if kind == "counter" else "unknown"
        for name, samples in found.items():
            yield metric, Series(name, told, samples)
