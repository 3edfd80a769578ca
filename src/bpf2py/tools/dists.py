"""runqlat and cpudist: how long threads wait for a CPU, and how long they run, as histograms."""

from __future__ import annotations

from collections.abc import Iterator

from bpf2py._typing import Any
from bpf2py.maps.histogram import Histogram
from bpf2py.tools.framework import Chart, Filter, Record, Tool

__all__ = ["Cpudist", "Runqlat"]


class _Distribution(Tool):
    def __init__(self, wanted: Filter, *, by_process: bool = False) -> None:
        self._by_process = by_process
        super().__init__(wanted, {"by_process": int(by_process)})

    def results(self) -> Iterator[Chart]:
        found: list[tuple[int, Any]] = list(self.obj.maps["waits"].items())
        for pid, value in sorted(found, key=lambda each: sum(each[1].slots)):
            histogram = Histogram.log2(value.slots, "usecs")
            if not self._by_process:
                yield Chart("", {}, histogram)
                continue
            fields: Record = {"pid": pid, "comm": value.comm} | self.container(value.cgroup)
            where = f" in {fields['container']}" if fields.get("container") else ""
            yield Chart(f"{pid} {fields['comm']}{where}: {histogram.total} times", fields, histogram)


class Runqlat(_Distribution):
    """How long threads wait for a CPU, from when they are woken, or lose it, until they run."""

    program = "runqlat"


class Cpudist(_Distribution):
    """How long threads run on a CPU at a time."""

    program = "cpudist"
