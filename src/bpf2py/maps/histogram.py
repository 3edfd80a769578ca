"""Histograms of maps, as BCC's users know them: as data, and drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from bpf2py._typing import TYPE_CHECKING, Any, NamedTuple
from bpf2py.errors import EncodeError

if TYPE_CHECKING:
    from rich.table import Table


class Bucket(NamedTuple):
    """Values from `low` to `high` (both included) were seen `count` times."""

    low: int
    high: int
    count: int  # type: ignore[assignment]


# Units that are written with the prefix that suits the number: steps of them, and names of the steps.
_TIME = ("ns", "us", "ms", "s")
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
_UNITS = {
    "ns": (_TIME, 0), "nsecs": (_TIME, 0), "nanoseconds": (_TIME, 0), "us": (_TIME, 1), "usecs": (_TIME, 1),
    "microseconds": (_TIME, 1), "ms": (_TIME, 2), "msecs": (_TIME, 2), "milliseconds": (_TIME, 2), "bytes": (_SIZES, 0),
    "B": (_SIZES, 0), "KiB": (_SIZES, 1), "kbytes": (_SIZES, 1),
}  # fmt: skip
MOST_SLOTS = 1 << 16  # of a histogram made of a map's keys


class Svg(str):
    """A drawing as SVG text; notebooks show it."""

    __slots__ = ()

    def _repr_svg_(self) -> str:
        return str(self)


class Histogram:
    """Counts of values by range.

    Attributes:
        buckets: in order, without the empty ones behind the last that is not.
        unit: what the values count, for headings, such as ``"usecs"``. Values in ns, us, ms and bytes (also ``"nsecs"``,
            ``"usecs"``, ``"msecs"``, ``"B"``, ``"KiB"``) are shown with the prefix that suits them: ``4.1 ms``.

    >>> print(Histogram.log2([0, 2, 1, 4], "usecs"))
    usecs
     2 us -> 4 us : 2 |********************                    |
     4 us -> 8 us : 1 |**********                              |
    8 us -> 16 us : 4 |****************************************|
    """

    def __init__(self, buckets: Sequence[Bucket], unit: str = "value") -> None:
        self.buckets = list(buckets)
        while self.buckets and not self.buckets[-1].count:
            self.buckets.pop()
        self.unit = unit

    @classmethod
    def log2(cls, slots: Iterable[int], unit: str = "value") -> Histogram:
        """Of counts by power of two: slot i counts the values from ``2**i`` to ``2**(i+1) - 1``, slot 0 also 0."""
        return cls(log2_buckets(slots), unit)

    @classmethod
    def linear(cls, slots: Iterable[int], step: int = 1, start: int = 0, unit: str = "value") -> Histogram:
        """Of counts by equal steps: slot i counts the `step` values from ``start + i * step`` on."""
        return cls(linear_buckets(slots, step, start), unit)

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

    def labelled(self) -> list[tuple[str, int]]:
        """(range with its unit, count) of each bucket from the first that is not empty on.

        >>> Histogram.log2([0, 2, 1], "usecs").labelled()
        [('2 us -> 4 us', 2), ('4 us -> 8 us', 1)]
        """
        return [(label, int(count)) for label, count, _ in self._rows(0)]

    def lines(self, width: int = 40) -> list[str]:
        """The histogram as text: a bar of at most `width` characters for each bucket from the first that is not empty on."""
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

    def _repr_html_(self) -> str:
        from html import escape

        cell = '<td style="text-align:right">'
        rows = "".join(
            f'<tr>{cell}{escape(label)}</td>{cell}{count}</td><td style="text-align:left;width:20em">'
            f'<div style="background:#2a9d8f;height:0.9em;width:{len(bar)}%"></div></td></tr>'
            for label, count, bar in self._rows(100)
        )
        return f"<table><thead><tr><th>{escape(self.unit)}</th><th>count</th><th></th></tr></thead><tbody>{rows}</tbody></table>"

    def plot(self, title: str = "", width: int = 640) -> Svg:
        """The histogram as an SVG drawing `width` pixels wide: text that notebooks show, and that a file takes as it is.

        >>> Histogram.log2([1, 5, 2]).plot("sizes")[:4]
        '<svg'
        """
        from html import escape

        rows = self._rows(1000)
        row, top = 22, 52 if title else 30
        left = 24 + 7 * max((len(label) for label, _, _ in rows), default=0)
        space = max(width - left - 24 - 8 * max((len(count) for _, count, _ in rows), default=0), 40)
        height = top + row * len(rows) + 12
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            'font-family="ui-monospace,monospace" font-size="12" fill="currentColor">'
        ]
        if title:
            parts.append(f'<text x="12" y="22" font-size="15" font-weight="bold">{escape(title)}</text>')
        parts.append(f'<text x="{left - 8}" y="{top - 8}" text-anchor="end" opacity="0.7">{escape(self.unit)}</text>')
        for number, (label, count, bar) in enumerate(rows):
            y, length = top + row * number, space * len(bar) / 1000
            parts.append(
                f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(label)}</text>'
                f'<rect x="{left}" y="{y + 2}" width="{length:.1f}" height="{row - 6}" rx="2" fill="#2a9d8f"/>'
                f'<text x="{left + length + 6:.1f}" y="{y + 13}" opacity="0.8">{count}</text>'
            )
        return Svg("".join([*parts, "</svg>"]))

    def _rows(self, width: int) -> list[tuple[str, str, str]]:
        """Label, count and bar of each bucket from the first that is not empty on."""
        most = max((bucket.count for bucket in self.buckets), default=0)
        first = next((number for number, bucket in enumerate(self.buckets) if bucket.count), 0)
        return [
            (self._label(bucket), str(bucket.count), "*" * (width * bucket.count // most if most else 0))
            for bucket in self.buckets[first:]
        ]

    def _label(self, bucket: Bucket) -> str:
        names, start = _UNITS.get(self.unit, ((), 0))
        if names:
            return f"{scaled(bucket.low, names, start)} -> {scaled(bucket.high + 1, names, start)}"
        return str(bucket.low) if bucket.low == bucket.high else f"{bucket.low} -> {bucket.high}"

    def __repr__(self) -> str:
        return f"<Histogram of {self.total} values in {len(self.buckets)} buckets>"


def scaled(value: float, names: Sequence[str], start: int = 0) -> str:
    """A number with the prefix that suits it, of names a factor of 1000 (1024 for bytes) apart.

    >>> scaled(4096, ("ns", "us", "ms", "s")), scaled(4096, ("B", "KiB", "MiB")), scaled(0, ("ns", "us"))
    ('4.1 us', '4 KiB', '0 ns')
    """
    factor, position = (1024 if names[0] == "B" else 1000), start
    while abs(value) >= factor and position + 1 < len(names):
        value, position = value / factor, position + 1
    digits = f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"
    return f"{digits} {names[position]}"


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
        if min(source) < 0 or max(source) >= MOST_SLOTS:
            raise EncodeError(f"map {name}: a histogram's keys are slots from 0 to {MOST_SLOTS - 1}, not {max(source)}")
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
