"""funccount and funclatency: functions of programs and libraries, counted and timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bpf2py._typing import Any
from bpf2py.errors import BpfError
from bpf2py.kernel.elf_symbols import find_binary, matching_functions
from bpf2py.maps.histogram import Histogram
from bpf2py.tools.framework import RETURN_ADDRESS, Chart, Column, Filter, Record, Table, Tool

__all__ = ["Funccount", "Funclatency"]


def checked(function: str) -> str:
    """``BINARY:FUNCTION``. Raises BpfError for what is not."""
    binary, colon, name = function.rpartition(":")
    if not colon or not binary or not name:
        raise BpfError(f"{function!r} is not a function: write BINARY:FUNCTION, such as libc:malloc or /usr/bin/x:main")
    return function


class Funccount(Tool):
    """Counts of calls by function, the most frequent first.

    Args:
        wanted: whom to watch.
        function: ``BINARY:FUNCTION``, or ``BINARY:PATTERN`` with ``*`` and ``?`` (Linux 6.6).
        top: rows.
    """

    program = "funccount"

    def __init__(self, wanted: Filter, function: str, *, top: int = 20) -> None:
        binary, _, name = checked(function).rpartition(":")
        self._path, self._top = find_binary("funccount", binary), top
        self._function = f"{self._path}:{name}"
        self._names = [name]
        self._offsets: list[int] = []
        many = any(character in name for character in "*?")
        if many:
            found = matching_functions("funccount", self._path, name)
            self._names, self._offsets = list(found.values()), list(found)
        super().__init__(
            wanted,
            autoload={"on_functions": many, "on_function": not many},
            max_entries={"counts": len(self._names)},
        )

    def attach(self) -> None:
        if not self._offsets:
            self.obj.programs["on_function"].attach(target=self._function)
            return
        numbers = list(range(len(self._offsets)))
        self.obj.programs["on_functions"].attach(binary=self._path, offsets=self._offsets, cookies=numbers)

    def results(self) -> Iterator[Table]:
        counts: Counter[str] = Counter()
        for name, count in zip(self._names, self.obj.maps["counts"].values(), strict=True):
            counts[name] += count
        columns = [Column("function", "FUNCTION", 32), Column("count", "COUNT", 10, True)]
        rows = [{"function": name, "count": count} for name, count in counts.most_common(self._top) if count]
        yield Table(columns, rows)


class Funclatency(Tool):
    """How long calls of a function take, as a histogram, and on average. Calls count when they return."""

    program = "funclatency"

    def __init__(self, wanted: Filter, function: str) -> None:
        self._function = checked(function)
        super().__init__(wanted, {"return_address": RETURN_ADDRESS})

    def attach(self) -> None:
        # First who returns: what began before is not known, and what begins from then on is seen to end.
        self.obj.programs["on_return"].attach(target=self._function)
        self.obj.programs["on_entry"].attach(target=self._function)

    def results(self) -> Iterator[Chart]:
        found: Any = self.obj.maps["latency"][0]
        histogram = Histogram.log2(found.slots, "nsecs")
        average = round(found.total_ns / found.count) if found.count else 0
        fields: Record = {"function": self._function, "count": found.count, "average_ns": average}
        yield Chart(f"{self._function}: {found.count} calls, {average} ns on average", fields, histogram)
