"""funccount, funclatency and stackcount: functions and tracepoints, counted and timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bpf2py._typing import Any
from bpf2py.errors import BpfError
from bpf2py.maps.histogram import Histogram
from bpf2py.tools.framework import RETURN_ADDRESS, Chart, Column, Filter, Record, Table, Tool
from bpf2py.tools.points import HOW, parse
from bpf2py.tools.stacks import StackTool

__all__ = ["Funccount", "Funclatency", "Stackcount"]


class Funccount(Tool):
    """Counts of calls by function, the most frequent first.

    Args:
        wanted: whom to watch.
        function: one, or a pattern with ``*`` and ``?``: ``BINARY:FUNCTION`` (of many: Linux 6.6), ``tracepoint:CATEGORY:NAME``,
            ``usdt:BINARY:PROVIDER:NAME``, or a function of the kernel where it has kprobes.
        top: rows.
    """

    program = "funccount"

    def __init__(self, wanted: Filter, function: str, *, top: int = 20) -> None:
        self.points, self._top = parse(function), top
        super().__init__(wanted, autoload=self.points.autoload(), max_entries={"counts": len(self.points.names)})

    def attach(self) -> None:
        self.points.attach(self.obj)

    def results(self) -> Iterator[Table]:
        counts: Counter[str] = Counter()
        for name, count in zip(self.points.names, self.obj.maps["counts"].values(), strict=True):
            counts[name] += count
        columns = [Column("function", "FUNCTION", 32), Column("count", "COUNT", 10, True)]
        rows = [{"function": name, "count": count} for name, count in counts.most_common(self._top) if count]
        yield Table(columns, rows)


class Stackcount(StackTool):
    """Counts of the stacks with which a function is called, or a tracepoint reached; of several by a pattern, too."""

    program = "stackcount"
    unit = "calls"

    def __init__(self, wanted: Filter, function: str) -> None:
        self.points = parse(function)
        super().__init__(wanted, {"return_address": RETURN_ADDRESS}, autoload=self.points.autoload())

    def attach(self) -> None:
        self.points.attach(self.obj)

    def _leaf(self, key: Any) -> list[str]:
        """Functions are in their own stacks; tracepoints are not."""
        return [self.points.names[key.number]] if self.points.kind in ("tracepoint", "usdt") else []


class Funclatency(Tool):
    """How long calls of a function take, as a histogram, and on average. Calls count when they return."""

    program = "funclatency"

    def __init__(self, wanted: Filter, function: str) -> None:
        self._function, points = function, parse(function)
        if points.many or points.kind not in ("function", "kernel"):
            raise BpfError(f"{function!r}: the time of a single function can be measured: {HOW}")
        self._target = f"{points.binary}:{points.names[0]}" if points.binary else points.names[0]
        self._programs = (
            ("on_kernel_return", "on_kernel_entry") if points.kind == "kernel" else ("on_return", "on_entry")
        )
        every = ("on_return", "on_entry", "on_kernel_return", "on_kernel_entry")
        super().__init__(
            wanted, {"return_address": RETURN_ADDRESS}, autoload={name: name in self._programs for name in every}
        )

    def attach(self) -> None:
        # First who returns: what began before is not known, and what begins from then on is seen to end.
        for name in self._programs:
            self.obj.programs[name].attach(target=self._target)

    def results(self) -> Iterator[Chart]:
        found: Any = self.obj.maps["latency"][0]
        histogram = Histogram.log2(found.slots, "nsecs")
        average = round(found.total_ns / found.count) if found.count else 0
        fields: Record = {"function": self._function, "count": found.count, "average_ns": average}
        yield Chart(f"{self._function}: {found.count} calls, {average} ns on average", fields, histogram)
