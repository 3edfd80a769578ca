"""`bpf2py run`: compile, load, attach, run a command, show the maps."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

import typer

from bpf2py.cli.child import Started, Traced, adopt_orphans, end_all, living
from bpf2py.errors import BpfError

if TYPE_CHECKING:
    from rich.console import Console, Group

    from bpf2py.cli.render import MapView
    from bpf2py.engine.machine import Machine
    from bpf2py.object import Object

T = TypeVar("T")
ROWS = 20
EXIT_STATUS = "Exit status: the command's, 0 without one; 1 when the program was not run, 2 wrong usage."


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(context_settings={"allow_extra_args": False}, epilog=EXIT_STATUS)(run)


def run(
    file: str = typer.Argument(..., metavar="FILE", help="A .bpf.c source, or a compiled object."),
    command: list[str] = typer.Argument(
        None, metavar="[-- COMMAND...]", help="What to run while the programs are attached."
    ),
    backend: str = typer.Option(
        "auto",
        help="kernel, engine (traces COMMAND, without privileges), or auto: the kernel where bpf() is permitted.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the maps as one JSON object at the end, nothing else."),
    interval: float = typer.Option(1.0, min=0.05, help="Seconds between two views of the maps."),
    duration: float = typer.Option(None, min=0.0, help="Stop after this many seconds."),
    rows: int = typer.Option(ROWS, min=1, help="Elements shown of each map."),
    only: list[str] = typer.Option(None, "--map", help="Show only this map; may be given several times."),
    cflag: list[str] = typer.Option(None, "--cflag", help="An extra compiler flag; may be given several times."),
    live: bool = typer.Option(True, help="On a terminal: keep the maps in view while the command runs."),
) -> None:
    """Load a program, attach it, run a command (or wait for Ctrl-C), and show the program's maps.

    The exit status is the command's. What the tool itself says goes to stderr.

    Examples:

        bpf2py run examples/exec_counts.bpf.c -- make -j2

        bpf2py run counter.bpf.c --duration 10 --json

        bpf2py run --backend engine counter.bpf.c -- ls
    """
    from bpf2py.loading import load

    chosen, reason = choose_backend(backend)
    if chosen == "engine" and not command:
        raise BpfError(f"engine backend ({reason}): its events are those of a command it runs: give one behind --")
    with _progress(f"compiling {file}" if file.endswith(".c") else f"reading {file}"):
        obj = load(file, chosen, cflags=cflag or ())
    with obj:
        for name in only or ():
            if name not in obj.maps:
                raise BpfError(f"{file}: there is no map {name!r}: {', '.join(obj.maps)}")
        session = Session(obj, only, rows, as_json)
        with session.signals():
            links = obj.attach()
            hooks = ", ".join(link.hook for link in links)
            _say(
                f"{obj.backend.name} backend ({reason}): attached {len(links)} of {len(obj.programs)} programs: {hooks}"
            )
            if chosen == "engine":
                warn_silent(link.hook for link in links)
            status = session.run(command or [], interval, duration, live)
        session.finish(command or [], status)
    raise typer.Exit(status)


def choose_backend(wanted: str) -> tuple[str, str]:
    """(backend, why this one): ``auto`` becomes what this process may use."""
    if wanted != "auto":
        return wanted, "as asked for"
    from bpf2py.kernel.environment import explain_eperm
    from bpf2py.kernel.probes import Probes

    if Probes.run().kernel_usable:
        return "kernel", "bpf() is permitted"
    return "engine", f"bpf() is not permitted: {explain_eperm('BPF_PROG_LOAD')}"


def warn_silent(hooks: Iterable[str]) -> None:
    """Say which programs will never run: nobody shall watch nothing without knowing."""
    from bpf2py.engine.trace.child import can_fire

    silent = [hook for hook in hooks if not can_fire(hook)]
    if silent:
        _say(f"warning: these never happen on the engine, use the kernel for them: {', '.join(silent)}")


def _say(text: str) -> None:
    from bpf2py.cli.text import printable

    print(f"bpf2py: {printable(text)}", file=sys.stderr, flush=True)


@contextmanager
def _progress(text: str) -> Iterator[None]:
    """A spinner on stderr while something takes its time, on terminals only."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(text)):
        yield


class Stop:
    """Tells the main thread to stop; unlike threading.Event it may be set by a signal handler that interrupts its wait.

    Attributes:
        asked: how often the user asked for it, by a signal.
    """

    def __init__(self) -> None:
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._set = False
        self.asked = 0

    def set(self) -> None:
        """From now on `is_set` is true and nobody waits."""
        self._set = True
        os.eventfd_write(self._event, 1)

    def is_set(self) -> bool:
        """Whether `set` was called."""
        return self._set

    def wait(self, seconds: float) -> None:
        """Wait for `set`, at most so many seconds."""
        select.select([self._event], [], [], seconds)


class Session:
    """One run: the command, the live view and the final tables."""

    def __init__(self, obj: Object, only: list[str] | None, rows: int, as_json: bool) -> None:
        from bpf2py.cli.render import must_be_readable, readable

        for name in only or ():
            must_be_readable(obj.maps[name])
        self.obj = obj
        self.maps = [
            m
            for m in obj.maps.values()
            if readable(m) and (m.name in only if only else m.spec is None or not m.spec.is_section)
        ]
        self.unreadable: dict[str, str] = {}
        self.rows = rows
        self.as_json = as_json
        self.stop = Stop()
        self.started = time.monotonic()

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

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the run, which then shows the maps for the last time."""
        previous = {number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def run(self, command: list[str], interval: float, duration: float | None, live: bool) -> int:
        """Run until the command ends, the time is over, or SIGINT or SIGTERM; the command's exit status."""
        terminal = live and _is_terminal() and not self.as_json
        child: Started | Traced | None = None
        if command and not self.stop.is_set():
            adopt_orphans()
            child = self._start(command, terminal)
            threading.Thread(target=self._wait, args=(child,), daemon=True).start()
        elif not command and not self.as_json:
            _say("press Ctrl-C to stop" if duration is None else f"running for {duration:g} s")
        deadline = None if duration is None else self.started + duration
        try:
            if terminal:
                self._live(child, interval, deadline)
            else:
                self._plain(child, interval, deadline)
        except BaseException:
            self._end(child)  # the command does not go on alone
            raise
        return self._end(child)

    def _start(self, command: list[str], terminal: bool) -> Started | Traced:
        # On a terminal the command's output is printed above the live view; with --json stdout is for the JSON alone.
        out: Any = subprocess.PIPE if terminal else sys.stderr if self.as_json else None
        if out is None and sys.stdout is not None:
            sys.stdout.flush()
        if self.obj.backend.name == "engine":
            return Traced(cast("Machine", self.obj.backend), command, terminal, self.as_json)
        return Started(command, out, subprocess.STDOUT if terminal else None)

    def _wait(self, child: Started | Traced) -> None:
        child.wait()
        self.stop.set()

    def _interrupt(self, _number: int, _frame: object) -> None:
        self.stop.asked += 1
        self.stop.set()

    def _end(self, child: Started | Traced | None) -> int:
        """The command's exit status, 0 when it was ended here, with everything it started."""
        if child is None:
            return 0
        if child.returncode is None:
            asked = self.stop.asked
            ended = end_all(lambda: self.stop.asked > asked)
            if ended:
                _say(f"ended the command: {_names(ended)}")
            return 0
        for warning in child.report():
            _say(f"warning: {warning}")
        left = living()
        if left:
            _say(f"still running, started by the command: {_names(left)}")
        return child.returncode

    def _left(self, interval: float, deadline: float | None) -> float:
        return interval if deadline is None else max(0.0, min(interval, deadline - time.monotonic()))

    def _over(self, deadline: float | None) -> bool:
        return self.stop.is_set() or (deadline is not None and time.monotonic() >= deadline)

    def _live(self, child: Started | Traced | None, interval: float, deadline: float | None) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(highlight=False)
        with Live(self._group(), console=console, auto_refresh=False, transient=True) as view:
            printer = None
            if child is not None and child.stdout is not None:
                printer = threading.Thread(target=_copy, args=(child.stdout, console), daemon=True)
                printer.start()
            while not self._over(deadline):
                self.stop.wait(self._left(interval, deadline))
                view.update(self._group(), refresh=True)
            if printer is not None:
                printer.join(timeout=2)

    def _view(self, bpf_map: Any) -> MapView:
        from bpf2py.cli.render import view

        return view(bpf_map, self.rows)

    def _group(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        from bpf2py.cli.render import table

        seconds = time.monotonic() - self.started
        parts: list[Any] = [Text(f"running for {seconds:.0f} s", style="dim")]
        parts += [table(shown) for _, shown in self._each(self._view)]
        return Group(*parts)

    def _plain(self, child: Started | Traced | None, interval: float, deadline: float | None) -> None:
        """Without a terminal: with a command just wait for it, else print what changed, a line each."""
        from bpf2py.cli.render import elements, to_json
        from bpf2py.cli.text import printable

        last: dict[str, dict[str, str]] = {m.name: {} for m in self.maps}
        while not self._over(deadline):
            self.stop.wait(self._left(interval, deadline))
            if child is not None or self.as_json or self._over(deadline):
                continue
            for bpf_map, found in self._each(elements):
                now = {json.dumps(to_json(k)): json.dumps(to_json(v)) for k, v in found}
                for key, value in now.items():
                    if last[bpf_map.name].get(key) != value:
                        print(f"{printable(bpf_map.name)}[{key}] = {value}")
                last[bpf_map.name] = now
            if sys.stdout is not None:
                sys.stdout.flush()

    def finish(self, command: list[str], status: int) -> None:
        """Print the final state of the maps, and which cannot be read."""
        from bpf2py.cli.render import lines, map_json, table

        seconds = time.monotonic() - self.started
        if self.as_json:
            report = {
                "backend": self.obj.backend.name,
                "command": command,
                "exit_status": status,
                "seconds": round(seconds, 3),
                "maps": {m.name: found for m, found in self._each(map_json)},
            }
            print(json.dumps(report))
        elif _is_terminal():
            console = _console()
            for _, shown in self._each(self._view):
                console.print(table(shown))
        else:
            for _, shown in self._each(self._view):
                print("\n".join(lines(shown)))
        for reason in self.unreadable.values():
            _say(f"warning: not shown: {reason}")


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _names(processes: Mapping[int, str], most: int = 8) -> str:
    """Processes for a message: ``sleep (412), make (413), 3 more``."""
    shown = [f"{name if name.isprintable() else ascii(name)} ({pid})" for pid, name in sorted(processes.items())[:most]]
    return ", ".join([*shown, f"{len(processes) - most} more"] if len(processes) > most else shown)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _copy(stream: IO[bytes], console: Console) -> None:
    from rich.text import Text

    for line in stream:
        console.print(Text.from_ansi(line.decode("utf-8", "replace").rstrip("\n")), soft_wrap=True)
