"""One run of a tool: its command, its records as they come, and what it says at the end."""

from __future__ import annotations

import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any, NamedTuple
from bpf2py.cli import declared as typer
from bpf2py.cli.child import Started, adopt_orphans, end_all, living
from bpf2py.cli.session import INTERRUPTED, Stop, names_of, say
from bpf2py.cli.tool_lines import heading, line_of
from bpf2py.errors import BpfError
from bpf2py.printable import printable
from bpf2py.symbols.stacks import ENDINGS
from bpf2py.tools.containers import Containers, find_container
from bpf2py.tools.framework import CONTAINER, Chart, Column, Filter, Flames, Table
from bpf2py.tools.ranking import Ranking

if TYPE_CHECKING:
    from bpf2py.cli import live
    from bpf2py.tools.framework import Result, Tool
else:
    live = module("bpf2py.cli.live")

__all__ = ["Asked", "asked", "watch"]

LOOK = 0.25  # seconds between two looks at rings that are not full enough to wake anybody


class Asked(NamedTuple):
    """What every tool is asked for.

    Attributes:
        filter: whom to watch.
        duration: seconds, None until the command ends or Ctrl-C.
        as_json: an object a line.
        command: what to run.
        output: a file for stacks, whose name says in what form.
        containers: whether records are to name the container.
        live: seconds between two tables of what was counted meanwhile; 0 for one at the end.
    """

    filter: Filter
    duration: float | None
    as_json: bool
    command: list[str]
    output: str = ""
    containers: bool = False
    live: float = 0.0


def asked(
    pid: int | None = typer.Option(None, "--pid", "-p", min=1, help="Only this process."),
    comm: str | None = typer.Option(None, metavar="NAME", help="Only threads of this name, of which 15 bytes count."),
    cgroup: str | None = typer.Option(
        None, metavar="DIRECTORY", help="Only this control group (version 2) and those below it."
    ),
    container: str | None = typer.Option(
        None, metavar="NAME", help="Only this container, pod or systemd unit: its name, or the beginning of its id."
    ),
    containers: bool = typer.Option(
        False, "--containers", help="Name the container, or systemd unit, of each process."
    ),
    duration: float | None = typer.Option(None, "--duration", "-d", min=0.0, help="Stop after this many seconds."),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON object a line."),
    output: str | None = None,
    live: bool = False,
    interval: float = 1.0,
    command: list[str] | None = typer.Argument(
        None, metavar="[-- COMMAND...]", help="Run this, and watch only it and what it starts."
    ),
) -> Asked:
    """The options all tools have."""
    if pid is not None and not os.path.exists(f"/proc/{pid}"):
        raise BpfError(f"there is no process {pid}")
    if output:
        _must_be_writable(output)
    if container is not None:
        if cgroup:
            raise BpfError("--container and --cgroup: give one of them")
        cgroup = find_container(container)
    wanted = Filter(pid or 0, comm or "", cgroup or "", command=bool(command))
    return Asked(wanted, duration, as_json, command or [], output or "", containers, interval if live else 0.0)


def _must_be_writable(output: str) -> None:
    """Now, not after an hour. Raises BpfError, OSError."""
    if not output.endswith(ENDINGS):
        raise BpfError(f"--output {output}: its name must end with .html, .folded, .speedscope.json or .pb.gz")
    with open(output, "ab"):
        pass


def watch(make: Callable[[Filter], Tool], what: Asked) -> None:
    """Run a tool; ends the command line with its exit status."""
    with make(what.filter) as tool:
        if what.containers:
            tool.containers = Containers()
        session = _Session(tool, what)
        with session.stop.signals():
            status = session.run()
        session.finish()
    raise typer.Exit(status)


class _Session:
    def __init__(self, tool: Tool, what: Asked) -> None:
        self.tool, self.what = tool, what
        self.stop = Stop()
        self._ended = False  # the command was ended here
        self.live: live.Live | None = None
        named = (CONTAINER,) if what.containers else ()
        self.columns = [Column("time", "TIME", 8), *named, *tool.columns] if tool.columns else []

    def run(self) -> int:
        """Run until the command ends, the time is over, or a signal; the exit status."""
        self.tool.start()
        begin = time.monotonic()
        if self.columns and not self.what.as_json:
            self._print_line(heading(self.columns))
        elif not self.what.command and not self.what.as_json and not self.what.live:
            say("press Ctrl-C to stop" if self.what.duration is None else f"running for {self.what.duration:g} s")
        child = None
        if self.what.command:
            adopt_orphans()
            out: Any = sys.stderr if self.what.as_json else None
            child = Started(self.what.command, out, None)
            threading.Thread(target=self._wait, args=(child,), daemon=True).start()
        deadline = None if self.what.duration is None else begin + self.what.duration
        if self.what.live:
            assert isinstance(self.tool, Ranking)
            self.live = live.Live(self.tool, self.what.live, as_json=self.what.as_json)
        try:
            self._follow(deadline)
        finally:
            self._end(child)
            self.tool.stop()
            if self.live is not None:
                self.live.close()
        self._show()
        if self.stop.interrupted:
            return INTERRUPTED
        return child.returncode or 0 if child is not None and not self._ended else 0

    def _wait(self, child: Started) -> None:
        child.wait()
        self.stop.set()

    def _end(self, child: Started | None) -> None:
        if child is None:
            return
        if child.returncode is None:
            asked = self.stop.asked
            ended = end_all(lambda: self.stop.asked > asked)
            self._ended = True
            if ended:
                say(f"ended the command: {names_of(ended)}")
        elif left := living():
            say(f"still running, started by the command: {names_of(left)}")

    def _follow(self, deadline: float | None) -> None:
        poll = select.poll()
        for fd in (self.stop.fileno(), *(source.fileno() for source in self.tool.sources)):
            poll.register(fd, select.POLLIN)
        if self.live is not None and self.live.keys is not None:
            poll.register(self.live.keys.fd, select.POLLIN)
        while not self.stop.is_set():
            left = LOOK if self.tool.ticks else 3600.0
            if deadline is not None:
                left = min(left, deadline - time.monotonic())
            if self.live is not None:
                left = min(left, self.live.due - time.monotonic())
            if left > 0:
                poll.poll(int(left * 1000 + 0.999))
            self.tool.tick()
            self._show()
            if self.live is not None and self.live.look():
                return
            if deadline is not None and time.monotonic() >= deadline:
                return

    def _show(self) -> None:
        lines = []
        for record in self.tool.records():
            lines.append(json.dumps(record) if self.what.as_json else line_of(self.columns, record))
        if lines and sys.stdout is not None:
            self._print_line("\n".join(lines))

    def _print_line(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")  # at once: the command writes to the same terminal or pipe
        sys.stdout.flush()

    def finish(self) -> None:
        """Print what is said at the end, and what is missing in it."""
        for result in self.tool.results() if self.live is None else ():
            for line in (_json_lines if self.what.as_json else self._lines)(result):
                print(line)
        problems = self.tool.problems
        if problems and self.what.as_json:
            print(json.dumps({"problems": problems}))
        sys.stdout.flush()
        for problem in problems:
            say(f"warning: {problem}")

    def _lines(self, result: Result) -> Iterator[str]:
        if isinstance(result, Table) or (isinstance(result, Flames) and result.columns and not self.what.output):
            yield heading(result.columns)
            yield from (line_of(result.columns, row) for row in result.rows)
        elif isinstance(result, Chart):
            if result.title:
                yield printable(result.title)
            yield from result.histogram.lines()
            yield ""
        elif not self.what.output:
            yield str(result.stacks)
        if isinstance(result, Flames) and self.what.output:
            result.stacks.save(self.what.output, " ".join(self.what.command) or "bpf2py")
            say(f"wrote {self.what.output}: {result.stacks.total} {result.stacks.unit}")


def _json_lines(result: Result) -> Iterator[str]:
    if isinstance(result, Table) or (isinstance(result, Flames) and result.columns):
        yield from (json.dumps(row) for row in result.rows)
    elif isinstance(result, Chart):
        buckets = [bucket._asdict() for bucket in result.histogram.buckets]
        yield json.dumps(result.fields | {"unit": result.histogram.unit, "buckets": buckets})
    else:
        unit = result.stacks.unit
        yield from (json.dumps({"stack": list(names), unit: count}) for names, count in result.stacks.items())
