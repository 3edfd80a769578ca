"""`MachineCollector`: maps, programs and links of the machine as Prometheus metrics, read when they are asked for."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bpf2py.errors import BpfError, NotSupported
from bpf2py.export.client import require_client
from bpf2py.kernel import inspect
from bpf2py.maps.base import Map
from bpf2py.maps.mapping import MappingMap
from bpf2py.printable import printable
from bpf2py.uapi.map_types import type_info, type_name
from bpf2py.uapi.program_types import program_type_name

if TYPE_CHECKING:
    from prometheus_client import Metric

    from bpf2py.kernel.link_info import LinkInfo
    from bpf2py.seam.info import MapInfo, ProgramInfo

__all__ = ["MachineCollector"]

MAP_LABELS = ("id", "name", "type")
PROGRAM_LABELS = ("id", "name", "type", "tag")


class MachineCollector:
    """A collector for a `prometheus_client` registry. Needs CAP_SYS_ADMIN, which listing the machine's objects needs.

    Args:
        names: patterns such as ``"flow_*"``: maps and programs with such names; all where there are none.
        most_series: series at most: those of further maps and programs are left out, and counted.

    Raises NotSupported without `prometheus_client`.

    Example:
        >>> REGISTRY.register(MachineCollector(["flow_*"]))                     # doctest: +SKIP
    """

    def __init__(self, names: Sequence[str] = (), most_series: int = 20_000) -> None:
        require_client()
        self._names = tuple(names)
        self._most = most_series
        self._errors = 0
        self._left_out = 0

    def collect(self) -> Iterator[Metric]:
        """What a scrape gets. Objects that go meanwhile are left out; other errors are counted."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        started, self._left_out = time.perf_counter(), 0
        entries = GaugeMetricFamily("bpf_map_max_entries", "Elements the map has room for.", labels=MAP_LABELS)
        elements = GaugeMetricFamily("bpf_map_elements", "Elements in the map.", labels=MAP_LABELS)
        pressure = GaugeMetricFamily("bpf_map_pressure_ratio", "Elements by max_entries: 1 is full.", labels=MAP_LABELS)
        memory = GaugeMetricFamily("bpf_map_memory_bytes", "Memory the kernel accounts to the map.", labels=MAP_LABELS)
        runs = CounterMetricFamily(
            "bpf_program_runs", "How often the program ran, while run statistics were enabled.", labels=PROGRAM_LABELS
        )
        seconds = CounterMetricFamily(
            "bpf_program_run_seconds", "How long it ran, while run statistics were enabled.", labels=PROGRAM_LABELS
        )
        missed = CounterMetricFamily(
            "bpf_program_recursion_misses",
            "Runs the kernel left out because a program ran already.",
            labels=PROGRAM_LABELS,
        )
        links = InfoMetricFamily("bpf_link", "Where a program is attached.", labels=("id", "program_id", "type"))
        series = 0
        for info in self._maps():
            if series + 4 > self._most:
                self._left_out += 1
                continue
            labels = (str(info.id), printable(info.name), type_name(info.type))
            entries.add_metric(labels, info.max_entries)
            held = inspect.map_memory(info.id)
            if held is not None:
                memory.add_metric(labels, held)
            count = self._count(info)
            if count is not None:
                elements.add_metric(labels, count)
                pressure.add_metric(labels, count / info.max_entries)
            series += 4
        for program in self._programs():
            if series + 3 > self._most:
                self._left_out += 1
                continue
            kind = program_type_name(program.type)
            known = (str(program.id), printable(program.name), kind, program.tag.hex())
            runs.add_metric(known, program.run_count)
            seconds.add_metric(known, program.run_time_ns / 1e9)
            missed.add_metric(known, program.recursion_misses)
            series += 3
        for link in self._links():
            if series + 1 > self._most:
                self._left_out += 1
                continue
            where = {_label(key): printable(str(value)) for key, value in link.details.items()}
            links.add_metric((str(link.id), str(link.program_id), link.type), where)
            series += 1
        yield from (entries, elements, pressure, memory, runs, seconds, missed, links)
        yield CounterMetricFamily("bpf2py_scrape_errors", "Objects that could not be read.", value=self._errors)
        yield GaugeMetricFamily(
            "bpf2py_left_out", "Maps, programs and links that are beyond the limit of series.", value=self._left_out
        )
        yield GaugeMetricFamily("bpf2py_scrape_seconds", "How long this took.", value=time.perf_counter() - started)

    def describe(self) -> list[Metric]:
        """Nothing ahead: what there is changes."""
        return []

    def _wanted(self, name: str) -> bool:
        return not self._names or any(fnmatch.fnmatchcase(name, pattern) for pattern in self._names)

    def _maps(self) -> Iterator[MapInfo]:
        yield from (info for info in inspect.maps() if self._wanted(info.name))

    def _programs(self) -> Iterator[ProgramInfo]:
        yield from (info for info in inspect.programs() if self._wanted(info.name))

    def _links(self) -> Iterator[LinkInfo]:
        chosen = None if not self._names else {info.id for info in self._programs()}
        yield from (link for link in inspect.links() if chosen is None or link.program_id in chosen)

    def _count(self, info: MapInfo) -> int | None:
        """Elements of a map that has some and not others; None for arrays, whose elements are all there, and other kinds."""
        if not info.max_entries or type_info(info.type).key == "index":
            return None
        try:
            with Map.from_id(info.id) as bpf_map:
                return bpf_map.count() if isinstance(bpf_map, MappingMap) else None
        except NotSupported:
            return None
        except BpfError:
            self._errors += 1  # gone meanwhile, or it may not be read
            return None


def _label(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
