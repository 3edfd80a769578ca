"""The live view of tools: a table of what was counted since the last look, refreshed in place."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.cli.render import Block
from bpf2py.cli.screen import QUIT, keyboard, moved, screen
from bpf2py.cli.tool_lines import heading, line_of
from bpf2py.tools.framework import Column
from bpf2py.tools.ranking import changes

if TYPE_CHECKING:
    from bpf2py.tools.framework import Table
    from bpf2py.tools.ranking import Ranking

__all__ = ["Live"]


class Live:
    """Shows a tool's rows by what was counted in each interval.

    On a terminal in one place, which keys scroll; elsewhere one table after the other, as JSON a row a line.

    Attributes:
        due: when to look again, by the monotonic clock.
        keys: of the terminal; None where there is none.
    """

    def __init__(self, tool: Ranking, interval: float, *, as_json: bool) -> None:
        self._tool, self._interval, self._as_json = tool, interval, as_json
        self._before: Table | None = None
        self._offset = 0
        self._blocks: list[Block] = []
        self._close = ExitStack()
        self._view: Any = None  # rich's
        self.keys = None
        if not as_json and sys.stdout.isatty():
            from rich.console import Console
            from rich.live import Live as View

            self._console = Console(highlight=False)
            self.keys = self._close.enter_context(keyboard())
            self._view = self._close.enter_context(View(console=self._console, auto_refresh=False))
        self.due = time.monotonic() + interval

    def close(self) -> None:
        """Leave the terminal as it was, with the last table; closing twice is harmless."""
        if self._view is None and time.monotonic() > self.due - self._interval:
            self._take()
        self._close.close()

    def look(self) -> bool:
        """Show what is due; whether the user wants to leave."""
        pressed = self._pressed()
        if QUIT in pressed:
            return True
        if time.monotonic() >= self.due:
            self._take()
            self.due = max(self.due + self._interval, time.monotonic())
        elif not pressed:
            return False
        if self._view is not None:
            height = self._console.height
            for key in pressed:
                self._offset = moved(self._offset, key, height - 2, screen(self._blocks, height - 2)[1])
            self._draw()
        return False

    def _pressed(self) -> list[str]:
        import select

        if self.keys is None or not select.select([self.keys.fd], [], [], 0)[0]:
            return []
        return self.keys.pressed()

    def _take(self) -> None:
        table = self._tool.table()
        first, rows = self._before is None, self._tool.ranked(changes(self._before, table))
        self._before = table
        now = time.time()
        if self._as_json:
            for row in rows[: self._tool.top]:
                print(json.dumps({"time": round(now, 6)} | row))
        elif self._view is None:
            columns = [Column("time", "TIME", 8), *table.columns]
            if first:
                print(heading(columns))
            for row in rows[: self._tool.top]:
                print(line_of(columns, {"time": now} | row))
        else:
            width = self._console.width
            lines = [line_of(table.columns, row, width) for row in rows]
            title = f"{time.strftime('%H:%M:%S')}  {self._tool.program}, in {self._interval:g} s"
            self._blocks = [Block(title, heading(table.columns, width), lines)]
        sys.stdout.flush()

    def _draw(self) -> None:
        from rich.console import Group

        self._view.update(Group(*screen(self._blocks, self._console.height - 1, self._offset)[0]), refresh=True)
