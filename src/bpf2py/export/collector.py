"""`ConfigCollector`: metrics of programs' maps for a `prometheus_client` registry, read when they are asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from bpf2py._lazy import module
from bpf2py.errors import BpfError
from bpf2py.export.client import require_client
from bpf2py.export.config import Family, Source
from bpf2py.export.exported import Exported, Sets
from bpf2py.export.histogram import cumulative, exponential, number_of_series
from bpf2py.printable import printable

if TYPE_CHECKING:
    from prometheus_client import Metric

    from bpf2py.export import families
else:
    families = module("bpf2py.export.families")

__all__ = ["ConfigCollector", "Series"]

OWN = "ebpf_exporter_"
Labels = tuple[str, ...]


class Series:
    """Which sets of labels there is room for: those that were told before stay, others come as long as there is room."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self._told: dict[str, dict[Labels, None]] = {}
        self._cost: dict[str, int] = {}

    def choose(self, name: str, sets: Mapping[Labels, object], cost: int) -> list[Labels]:
        """The sets of a metric there is room for, each of which is `cost` series."""
        told = self._told.get(name, {})
        if self._cost.get(name, cost) != cost:  # another config
            self.forget(name)
            told = {}
        kept = {labels: None for labels in told if labels in sets}
        self.used -= (len(told) - len(kept)) * cost
        room = (self.most - self.used) // cost
        for labels in sets:
            if room <= 0:
                break
            if labels not in kept:
                kept[labels] = None
                self.used += cost
                room -= 1
        self._told[name], self._cost[name] = kept, cost
        return list(kept)

    def forget(self, name: str) -> None:
        """A metric is gone."""
        self.used -= len(self._told.pop(name, {})) * self._cost.pop(name, 0)

    def keep_only(self, names: set[str]) -> None:
        """All others are gone."""
        for name in [name for name in self._told if name not in names]:
            self.forget(name)


class ConfigCollector:
    """A collector of what configs say, under the names ebpf_exporter has them.

    Args:
        exported: the programs; asked anew at every scrape.
        most_series: the largest number of series of all configs together: further sets of labels are left out, and counted.
        stats: whether run statistics are counted: then each program's are among the metrics.

    Raises NotSupported without `prometheus_client`.

    Attributes:
        lock: held during a scrape, and by whoever changes what is exported.
    """

    def __init__(
        self, exported: Callable[[], Sequence[Exported]], most_series: int = 20_000, *, stats: bool = True
    ) -> None:
        require_client()
        self._exported = exported
        self._series = Series(most_series)
        self._stats = stats
        self.lock = threading.Lock()
        self._read_errors: dict[str, int] = {}

    def describe(self) -> list[Metric]:
        """Nothing ahead: what there is changes."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What a scrape gets. One that cannot be read is left out, and counted; the others are there."""
        with self.lock:
            yield from list(self._collect())

    def _collect(self) -> Iterator[Metric]:
        started, left_out = time.perf_counter(), {}
        running = list(self._exported())
        for expiry in {id(each.expiry): each.expiry for each in running if each.expiry is not None}.values():
            expiry.begin()
        names = set()
        for exported in running:
            config = exported.config
            self._read_errors.setdefault(config.name, 0)
            for source in config.sources:
                try:
                    sets = exported.read(source)
                except BpfError:
                    self._read_errors[config.name] += 1
                    continue
                for family in source.families:
                    name = config.prefix + family.name
                    names.add(name)
                    metric, missing = self._metric(name, family, source, sets)
                    if missing:
                        left_out[config.name, family.name] = missing
                    yield metric
            for name, lost in exported.lost.items():
                dropped = families.counter(
                    f"dropped_perf_event_map_events_{name}", "Records of the perf buffer that were lost."
                )
                dropped.add_sample(dropped_name(name), {}, lost)
                yield dropped
        self._series.keep_only(names)
        yield from self._own(running, left_out)
        yield families.gauge("bpf2py_export_scrape_seconds", "How long this took.", time.perf_counter() - started)

    def _metric(self, name: str, family: Family, source: Source, sets: Sets) -> tuple[Metric, int]:
        if family.buckets is not None:
            return self._histogram(name, family, source, sets)
        metric = families.MetricFamily(name, family.help, family.kind)
        label_names = source.label_names
        chosen = self._series.choose(name, sets, 1)
        for labels in chosen:
            value = sets[labels][family.first]
            number = value * family.multiplier if family.multiplier != 1 else value
            metric.add_sample(name, dict(zip(label_names, labels, strict=True)), number)
        return metric, len(sets) - len(chosen)

    def _histogram(self, name: str, family: Family, source: Source, sets: Sets) -> tuple[Metric, int]:
        assert family.buckets is not None
        names = source.label_names
        counts: dict[Labels, dict[int, int]] = {}
        if family.slots:
            for labels, numbers in sets.items():
                counts[labels] = dict(enumerate(numbers[family.first : family.first + family.slots]))
        else:
            names.pop()
            for labels, numbers in sets.items():
                buckets = counts.setdefault(labels[:-1], {})
                bucket = int(labels[-1])
                buckets[bucket] = buckets.get(bucket, 0) + numbers[family.first]
        metric = families.MetricFamily(name, family.help, "histogram")
        chosen = self._series.choose(name, counts, number_of_series(family.buckets))
        for labels in chosen:
            bounds, count, total = cumulative(family.buckets, counts[labels])
            known = dict(zip(names, labels, strict=True))
            doubled = exponential(family.buckets, counts[labels])
            metric.add_histogram(families.HistogramPoint(known, bounds, count, total, doubled))
        return metric, len(counts) - len(chosen)

    def _own(self, running: Sequence[Exported], left_out: Mapping[tuple[str, str], int]) -> Iterator[Metric]:
        """Metrics about the exporter and its programs."""
        enabled = families.MetricFamily(f"{OWN}enabled_configs", "The configs that are loaded.", "gauge")
        errors = families.counter(f"{OWN}decoder_errors_total", "Keys and records whose labels could not be decoded.")
        reads = families.counter("bpf2py_export_read_errors_total", "Maps that could not be read, by config.")
        spans = families.counter("bpf2py_export_spans_total", "Spans that were read from ring buffers.")
        expired = families.counter(
            "bpf2py_export_expired_total", "Elements removed from maps because their owner is gone."
        )
        info = families.MetricFamily(f"{OWN}ebpf_program_info", "The programs that are loaded.", "gauge")
        attached = families.MetricFamily(f"{OWN}ebpf_program_attached", "Whether the program is attached.", "gauge")
        seconds = families.counter(f"{OWN}ebpf_program_run_time_seconds", "How long the program ran.")
        runs = families.counter(f"{OWN}ebpf_program_run_count_total", "How often the program ran.")
        for exported in running:
            config = {"config": exported.config.name}
            enabled.add_sample(enabled.name, {"name": exported.config.name}, 1)
            errors.add_sample(f"{OWN}decoder_errors_total", config, exported.undecoded)
            reads.add_sample("bpf2py_export_read_errors_total", config, self._read_errors[exported.config.name])
            if exported.expiry is not None:
                expired.add_sample("bpf2py_export_expired_total", config, exported.expiry.removed)
            for reader in exported.spans:
                spans.add_sample("bpf2py_export_spans_total", config | {"span": reader.source.name}, reader.sent)
            for name, program in exported.obj.programs.items():
                facts = program.info
                ident = {"id": str(facts.id)}
                tag = facts.tag.hex()
                info.add_sample(info.name, config | {"program": printable(name), "tag": tag} | ident, 1)
                if name in exported.attached:
                    attached.add_sample(attached.name, ident, 1 if exported.attached[name] is None else 0)
                if self._stats:
                    seconds.add_sample(seconds.name, ident, facts.run_time_ns / 1e9)
                    runs.add_sample(f"{OWN}ebpf_program_run_count_total", ident, facts.run_count)
        failed = families.counter("bpf2py_export_spans_failed_total", "Spans that the collector did not accept.")
        for sink in {id(each.sink): each.sink for each in running if each.sink is not None}.values():
            failed.add_sample("bpf2py_export_spans_failed_total", {}, sink.failed)
        yield from (enabled, errors, reads, spans, failed, expired, info, attached)
        if self._stats:
            yield from (seconds, runs)
        gone = families.MetricFamily(
            "bpf2py_export_left_out", "Sets of labels that were left out because of --max-series.", "gauge"
        )
        for (name, metric), count in left_out.items():
            gone.add_sample(gone.name, {"config": name, "metric": metric}, count)
        yield gone
        yield families.gauge("bpf2py_export_series", "Series of the configs' metrics.", self._series.used)


def dropped_name(name: str) -> str:
    """The name of the counter of lost records, as ebpf_exporter has it."""
    return f"dropped_perf_event_map_events_{name}"
