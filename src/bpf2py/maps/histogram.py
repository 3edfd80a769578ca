"""Histograms of maps, as BCC's users know them: as data, and drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bpf2py.errors import EncodeError

if TYPE_CHECKING:
    from rich.table import Table


class Bucket(NamedTuple):
    """Values from `low` to `high` (both included) were seen `count` times."""

    low: int
    high: int
    count: int  # type: ignore[assignment]


class Histogram:
    """Counts of values by range.

    Attributes:
        buckets: in order, without the empty ones behind the last that is not.
        unit: what the values count, for headings, such as ``"usecs"``.
    """

    def __init__(self, buckets: Sequence[Bucket], unit: str = "value") -> None:
        self.buckets = list(buckets)
        while self.buckets and not self.buckets[-1].count:
            self.buckets.pop()
        self.unit = unit

    @property
    def total(self) -> int:
        """Number of values counted."""
        return sum(bucket.count for bucket in self.buckets)

    def quantile(self, share: float) -> int:
        """Upper end of the bucket below which `share` of the values lie: ``quantile(0.99)``. 0 without values."""
        wanted, seen = share * self.total, 0
        for bucket in self.buckets:
            seen += bucket.count
            if seen >= wanted and seen:
                return bucket.high
        return 0

    def lines(self, width: int = 40) -> list[str]:
        """The histogram as text: a bar of at most `width` characters for each bucket."""
        rows = self._rows(width)
        low = max((len(row[0]) for row in rows), default=0)
        count = max((len(row[1]) for row in rows), default=0)
        return [f"{row[0]:>{low}} : {row[1]:>{count}} |{row[2]:<{width}}|" for row in rows]

    def __str__(self) -> str:
        return "\n".join([self.unit, *self.lines()])

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        table.add_column(self.unit, justify="right", style="cyan")
        table.add_column("count", justify="right")
        table.add_column("distribution")
        for label, count, bar in self._rows(40):
            table.add_row(label, count, Text(bar, style="green"))
        return table

    def _rows(self, width: int) -> list[tuple[str, str, str]]:
        most = max((bucket.count for bucket in self.buckets), default=0)
        rows = []
        for bucket in self.buckets:
            label = str(bucket.low) if bucket.low == bucket.high else f"{bucket.low} -> {bucket.high}"
            rows.append((label, str(bucket.count), "*" * (width * bucket.count // most if most else 0)))
        return rows

    def __repr__(self) -> str:
        return f"<Histogram of {self.total} values in {len(self.buckets)} buckets>"


def log2_buckets(counts: Iterable[int]) -> list[Bucket]:
    """Slot i counts the values from 2**i to 2**(i+1)-1; slot 0 also counts 0, as bpf programs compute log2."""
    return [Bucket(1 << i if i else 0, (2 << i) - 1, int(count)) for i, count in enumerate(counts)]


def linear_buckets(counts: Iterable[int], step: int = 1, start: int = 0) -> list[Bucket]:
    """Slot i counts the `step` values from ``start + i * step`` on."""
    return [Bucket(start + i * step, start + (i + 1) * step - 1, int(count)) for i, count in enumerate(counts)]


def slot_counts(name: str, source: Mapping[Any, object] | Iterable[object]) -> list[int]:
    """Counts by slot number of an array, or of a map with integer keys; per-CPU values are summed."""
    if isinstance(source, Mapping):
        if not source:
            return []
        if not all(isinstance(key, int) for key in source):
            raise EncodeError(f"map {name}: a histogram needs integer keys; choose them with section=")
        counts = [0] * (max(source) + 1)
        for key, value in source.items():
            counts[key] = number(name, value)
        return counts
    return [number(name, value) for value in source]


def number(name: str, value: object) -> int:
    """A value as a count."""
    total = getattr(value, "sum", None)
    if callable(total):
        value = total()
    if not isinstance(value, int):
        raise EncodeError(f"map {name}: a histogram needs integer values, not {value!r}; choose one with value=")
    return value


def histograms(
    name: str,
    items: Iterable[tuple[Any, Any]],
    make: Callable[[list[int]], list[Bucket]],
    unit: str,
    section: Callable[[Any], tuple[Any, int]] | None,
    value: Callable[[Any], int] | None,
) -> Histogram | dict[Any, Histogram]:
    """One histogram, or with `section` a dict of them: `section(key)` gives (section, slot)."""
    if section is None:
        if value is None:
            source: dict[Any, Any] = dict(items)
        else:
            source = {key: value(item) for key, item in items}
        return Histogram(make(slot_counts(name, source)), unit)
    parts: dict[Any, dict[int, Any]] = {}
    for key, item in items:
        part, slot = section(key)
        parts.setdefault(part, {})[slot] = item if value is None else value(item)
    return {part: Histogram(make(slot_counts(name, counts)), unit) for part, counts in parts.items()}
