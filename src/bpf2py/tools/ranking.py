"""What tools have that rank rows by what was counted: the whole at the end, or what changed between two looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bpf2py._typing import TYPE_CHECKING
from bpf2py.tools.framework import Record, Table, Tool

if TYPE_CHECKING:
    from typing import ClassVar

__all__ = ["Ranking", "changes"]


class Ranking(Tool):
    """Rows that are counted, the largest first.

    Attributes:
        top: rows that are shown at the end.
    """

    order: ClassVar[Sequence[str]]  # names of the columns by which rows are sorted; those that are added up
    top: int = 20

    def table(self) -> Table:
        """All that was counted until now."""
        raise NotImplementedError

    def ranked(self, rows: Iterable[Record]) -> list[Record]:
        """In their order: by the sum, and where that is the same by the first of them."""

        def key(row: Record) -> tuple[float, ...]:
            counted = [row[name] for name in self.sorted_by()]
            return (sum(counted), *counted)

        return sorted(rows, key=key, reverse=True)

    def sorted_by(self) -> Sequence[str]:
        """The names of the columns whose sum decides."""
        return self.order

    def results(self) -> Iterator[Table]:
        table = self.table()
        yield table._replace(rows=self.ranked(table.rows)[: self.top])


def changes(before: Table | None, after: Table) -> list[Record]:
    """What was counted between two tables: rows in which a counter grew, with the difference."""
    counters = [column.name for column in after.columns if column.counter]
    labels = [column.name for column in after.columns if not column.counter]

    def key(row: Record) -> tuple[object, ...]:
        return tuple(row[name] for name in labels)

    known = {key(row): row for row in before.rows} if before is not None else {}
    found = []
    for row in after.rows:
        old = known.get(key(row))
        grown = {name: row[name] - (old[name] if old is not None else 0) for name in counters}
        if any(grown.values()):
            found.append(row | grown)
    return found
