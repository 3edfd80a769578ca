"""One `bpf2py run`: the command that is watched, what the programs say meanwhile, the live view and the final tables."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

from bpf2py._typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from bpf2py.cli.charts import charts, variable_chart
from bpf2py.cli.child import Started, Traced, adopt_orphans, end_all, living
from bpf2py.cli.render import (
    Block,
    block,
    block_lines,
    cell,
    elements,
    map_json,
    must_be_readable,
    readable,
    to_json,
    view,
)
from bpf2py.cli.screen import QUIT, keyboard, moved, rows_of, screen
from bpf2py.cli.table import aligned
from bpf2py.errors import BpfError
from bpf2py.printable import printable
from bpf2py.uapi.map_types import MapType

if TYPE_CHECKING:
    from bpf2py.cli.follow import Saying, Sources
    from bpf2py.cli.render import Block, MapView
    from bpf2py.engine.machine import Machine
    from bpf2py.object import Object
    from bpf2py.programs import Link

T = TypeVar("T")
INTERRUPTED = 130


class Stop:
    """Tells the main thread to stop; unlike threading.Event it may be set by a signal handler that interrupts its wait.

    Attributes:
        asked: how often the user asked for it, by a signal.
        interrupted: whether by SIGINT.
    """

    def __init__(self) -> None:
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._set = False
        self.asked = 0
        self.interrupted = False

    def fileno(self) -> int:
        """Readable from `set` on."""
        return self._event

    def set(self) -> None:
        """From now on `is_set` is true and nobody waits."""
        self._set = True
        os.eventfd_write(self._event, 1)

    def is_set(self) -> bool:
        """Whether `set` was called."""
        return self._set

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask to stop within the block."""
        previous = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                # Who asked again while the run ended does not wait for what is left, nor is told where the interpreter was.
                signal.signal(number, signal.SIG_DFL if self.asked else handler)

    def _ask(self, number: int, _frame: object) -> None:
        self.asked += 1
        self.interrupted |= number == signal.SIGINT
        self.set()


class Shown(NamedTuple):
    """How things are shown.

    Attributes:
        only: the maps that are; empty for all.
        rows: elements of each.
        as_json: as JSON: an object a line for what is said, one at the end for the maps.
        per_cpu: a row for each CPU rather than sums.
        histograms: maps that are drawn as histograms, and how.
        live: keep the maps in view on a terminal.
        interval: seconds between two views.
    """

    only: list[str]
    rows: int
    as_json: bool
    per_cpu: bool
    histograms: Mapping[str, str]
    live: bool
    interval: float


class Session:
    """One run."""

    def __init__(self, obj: Object, sources: Sources, shown: Shown) -> None:
        for name in shown.only:
            must_be_readable(obj.maps[name])
        self.obj = obj
        self.sources = sources
        self.shown = shown
        self.maps = [
            m for m in obj.maps.values() if readable(m) and (m.name in shown.only if shown.only else _is_shown(m))
        ]
        self.variables = [] if shown.only else [v for v in obj.variables.values() if _is_result(v)]
        self.unreadable: dict[str, str] = {}
        self.stop = Stop()
        self.started = time.monotonic()
        self.kept: set[str] = set()  # programs that stay attached to the end

    def _each(self, show: Callable[[Any], T]) -> Iterator[tuple[Any, T]]:
        """What `show` makes of each map. One that cannot be read does not hide the others: `finish` says why."""
        for bpf_map in self.maps:
            try:
                made = show(bpf_map)
            except (BpfError, OSError) as error:
                self.unreadable[bpf_map.name] = str(error).split("\n", 1)[0]
                continue
            self.unreadable.pop(bpf_map.name, None)
            yield bpf_map, made

    def run(self, command: list[str], duration: float | None) -> int:
        """Run until the command ends, the time is over, or SIGINT or SIGTERM; the exit status."""
        terminal = self.shown.live and is_terminal() and not self.shown.as_json
        child: Started | Traced | None = None
        if command and not self.stop.is_set():
            adopt_orphans()
            child = self._start(command, terminal)
            threading.Thread(target=self._wait, args=(child,), daemon=True).start()
        elif not command and not self.shown.as_json:
            say("press Ctrl-C to stop" if duration is None else f"running for {duration:g} s")
        deadline = None if duration is None else self.started + duration
        try:
            if terminal:
                self._live(child, deadline)
            else:
                self._plain(child, deadline)
        except BaseException:
            self._end(child)  # the command does not go on alone
            raise
        status = self._end(child)
        self._print(self.sources.last())
        return INTERRUPTED if self.stop.interrupted else status

    def _start(self, command: list[str], terminal: bool) -> Started | Traced:
        # On a terminal the command's output is printed above the live view; with --json stdout is for the JSON alone.
        out: Any = subprocess.PIPE if terminal else sys.stderr if self.shown.as_json else None
        if out is None and sys.stdout is not None:
            sys.stdout.flush()
        if self.obj.backend.name == "engine":
            return Traced(cast("Machine", self.obj.backend), command, terminal, self.shown.as_json)
        return Started(command, out, subprocess.STDOUT if terminal else None)

    def _wait(self, child: Started | Traced) -> None:
        child.wait()
        self.stop.set()

    def _end(self, child: Started | Traced | None) -> int:
        """The command's exit status, 0 when it was ended here, with everything it started."""
        if child is None or child.returncode is not None:
            self._detach()  # what this process does from now on is nobody's interest
        if child is None:
            return 0
        if child.returncode is None:
            asked = self.stop.asked
            ended = end_all(lambda: self.stop.asked > asked)
            if ended:
                say(f"ended the command: {names_of(ended)}")
            return 0
        for warning in child.report():
            say(f"warning: {warning}")
        left = living()
        if left:
            say(f"still running, started by the command: {names_of(left)}")
        return child.returncode

    def _detach(self) -> None:
        for link in self.obj.links:
            if link.program not in self.kept:
                link.close()

    def _over(self, deadline: float | None) -> bool:
        return self.stop.is_set() or (deadline is not None and time.monotonic() >= deadline)

    def _until(
        self, moment: float, deadline: float | None, fds: list[int], show: Callable[[Iterable[Saying]], None]
    ) -> list[int]:
        """Show what is said until a moment, the end of the run, or one of `fds` is readable; those of them that are."""
        while True:
            left = moment - time.monotonic()
            if deadline is not None:
                left = min(left, deadline - time.monotonic())
            ready = self.sources.wait([self.stop.fileno(), *fds], max(0.0, left))
            show(self.sources.take())
            if left <= 0 or self._over(deadline):
                return []
            pressed = [fd for fd in ready if fd in fds]
            if pressed:
                return pressed

    def _live(self, child: Started | Traced | None, deadline: float | None) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        console = Console(highlight=False)

        def show(sayings: Iterable[Saying]) -> None:
            lines = [Text.assemble((f"{saying.label}: ", "magenta"), saying.text) for saying in sayings]
            if lines:
                console.print(Text("\n").join(lines), soft_wrap=True)

        offset = 0
        # A command may read the keys itself.
        with (
            nullcontext(None) if child is not None else keyboard() as keys,
            Live(self._screen(console, 0)[0], console=console, auto_refresh=False, transient=True) as view,
        ):
            printer = None
            if child is not None and child.stdout is not None:
                printer = threading.Thread(target=_copy, args=(child.stdout, console), daemon=True)
                printer.start()
            while not self._over(deadline):
                fds = [keys.fd] if keys is not None else []
                pressed = self._until(time.monotonic() + self.shown.interval, deadline, fds, show)
                group, furthest = self._screen(console, offset)
                for key in keys.pressed() if pressed and keys is not None else []:
                    if key == QUIT:
                        self.stop.set()
                    offset = moved(offset, key, console.height - 2, furthest)
                if pressed:
                    group, _ = self._screen(console, offset)
                view.update(group, refresh=True)
            if printer is not None:
                printer.join(timeout=2)

    def _view(self, bpf_map: Any) -> MapView:
        return view(bpf_map, self.shown.rows, self.shown.per_cpu)

    def blocks(self, width: int | None) -> list[Block]:
        """The maps, those that are histograms as such, and the variables."""
        found: list[Block] = []
        for _, made in self._each(
            lambda m: charts(m, self.shown.rows, self.shown.histograms) or [block(self._view(m), width)]
        ):
            found += made
        return [*found, *self._variable_blocks(width)]

    def _variable_blocks(self, width: int | None) -> list[Block]:
        drawn, rows = [], []
        for variable in self.variables:
            value = variable.value
            chart = variable_chart(variable, value, self.shown.histograms)
            if chart is not None:
                drawn.append(chart)
            else:
                rows.append([variable.name, cell(value)])
        if not rows:
            return drawn
        lines = aligned(["variable", "value"], rows, width if width is not None else 200)
        key_width = max(len(name) for name, _ in rows)
        return [*drawn, Block("global variables", lines[0], lines[1:], key_width=key_width)]

    def _screen(self, console: Any, offset: int) -> tuple[Any, int]:
        from rich.console import Group
        from rich.text import Text

        seconds = time.monotonic() - self.started
        rows, furthest = screen(self.blocks(console.width), max(3, console.height - 2), offset)
        hint = f", from line {offset + 1} on" if offset else ", arrow keys scroll" if furthest else ""
        return Group(Text(f"running for {seconds:.0f} s{hint}", style="dim"), *rows), furthest

    def _print(self, sayings: Iterable[Saying]) -> None:
        """Print what was said, a line each."""
        for saying in sayings:
            print(json.dumps(saying.fields) if self.shown.as_json else saying.line())
        if sys.stdout is not None:
            sys.stdout.flush()

    def _plain(self, child: Started | Traced | None, deadline: float | None) -> None:
        """Without a terminal: print what is said; without a command also what changed in the maps, a line each."""
        last: dict[str, dict[str, str]] = {m.name: {} for m in self.maps}
        while not self._over(deadline):
            self._until(time.monotonic() + self.shown.interval, deadline, [], self._print)
            if child is not None or self.shown.as_json or self._over(deadline):
                continue
            for bpf_map, found in self._each(elements):
                now = {json.dumps(to_json(k)): json.dumps(to_json(v)) for k, v in found}
                for key, value in now.items():
                    if last[bpf_map.name].get(key) != value:
                        print(f"{printable(bpf_map.name)}[{key}] = {value}")
                last[bpf_map.name] = now
            if sys.stdout is not None:
                sys.stdout.flush()

    def read_iterators(self, links: list[Link]) -> None:
        """Print what iterator programs write."""
        for link in links:
            with link.open() as file:
                text = file.read().decode("utf-8", "replace")
            if self.shown.as_json:
                print(json.dumps({"program": link.program, "iterator": text}))
            else:
                print(printable(text, keep="\n\t"), end="" if text.endswith("\n") or not text else "\n")

    def finish(self, command: list[str], status: int) -> None:
        """Print the final state of the maps, and which cannot be read."""
        seconds = time.monotonic() - self.started
        missed = {p.name: misses for p in self.obj.programs.values() if (misses := p.info.recursion_misses)}
        if self.shown.as_json:
            report: dict[str, Any] = {
                "backend": self.obj.backend.name,
                "command": command,
                "exit_status": status,
                "seconds": round(seconds, 3),
                "maps": {m.name: found for m, found in self._each(map_json)},
                "variables": {v.name: to_json(v.value) for v in self.variables},
            }
            if self.sources.lost:
                report["lost"] = self.sources.lost
            if missed:
                report["recursion_misses"] = missed
            print(json.dumps(report))
        elif is_terminal():
            from rich.console import Console

            console = Console(highlight=False)
            for row in rows_of(self.blocks(console.width), apart=True):
                console.print(row, soft_wrap=True)
        else:
            for shown in self.blocks(None):
                print("\n".join(block_lines(shown)))
        for name, misses in missed.items():
            say(
                f"warning: program {printable(name)} missed {misses} runs: it, or another program, ran on that CPU already"
            )
        for reason in self.unreadable.values():
            say(f"warning: not shown: {reason}")


def _is_shown(bpf_map: Any) -> bool:
    """Whether a map is one that people want to see: not a data section, nor what records go through."""
    section = bpf_map.spec is not None and bpf_map.spec.is_section
    return not section and bpf_map.type != MapType.PERF_EVENT_ARRAY


def _is_result(variable: Any) -> bool:
    """Whether a variable is one that programs may have written."""
    section = variable.spec.map.name
    return not variable.spec.constant and section != ".kconfig" and not section.startswith(".rodata")


def is_terminal() -> bool:
    """Whether the standard output is one."""
    return sys.stdout is not None and sys.stdout.isatty()


def say(text: str) -> None:
    """What the tool itself has to say, on stderr."""
    print(f"bpf2py: {printable(text)}", file=sys.stderr, flush=True)


def names_of(processes: Mapping[int, str], most: int = 8) -> str:
    """Processes for a message: ``sleep (412), make (413), 3 more``."""
    shown = [f"{name if name.isprintable() else ascii(name)} ({pid})" for pid, name in sorted(processes.items())[:most]]
    return ", ".join([*shown, f"{len(processes) - most} more"] if len(processes) > most else shown)


def _copy(stream: IO[bytes], console: Any) -> None:
    from rich.text import Text

    for line in stream:
        console.print(Text.from_ansi(line.decode("utf-8", "replace").rstrip("\n")), soft_wrap=True)
