"""`bpf2py top`, which is also `bpf2py prog top`: what the programs and maps of the machine are doing, as it goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.cli import declared as typer
from bpf2py.cli.map_watch import usage
from bpf2py.cli.render import Block
from bpf2py.cli.screen import QUIT, keyboard, moved, screen
from bpf2py.cli.table import aligned, terminal_width
from bpf2py.errors import BpfError, NotSupported
from bpf2py.kernel import inspect
from bpf2py.printable import printable
from bpf2py.programs import enable_stats
from bpf2py.uapi.program_types import program_type_name

if TYPE_CHECKING:
    import json

    from bpf2py.cli.render import Block
    from bpf2py.export.web import server
else:
    json = module("json")
    server = module("bpf2py.export.web.server")


def top(
    interval: float = typer.Option(1.0, min=0.05, help="Seconds between two readings."),
    count: int = typer.Option(None, min=1, help="Stop after this many readings."),
    rows: int = typer.Option(200, min=1, help="The largest number of programs and of maps to show."),
    maps: bool = typer.Option(True, help="Show the maps below the programs."),
    as_json: bool = typer.Option(
        False, "--json", help="Print a JSON object for each reading (a single one without --count)."
    ),
    web: bool = typer.Option(False, "--web", help="Serve a page for a browser and print its address (extra: web)."),
    listen: str = typer.Option("127.0.0.1:0", "--listen", metavar="HOST:PORT", help="Where to serve the page."),
) -> None:
    """Follow all programs (CPU use, runs per second, time per run) and all maps (how full they are, and how fast they grow).

    It enables the kernel's run statistics while it runs (Linux 5.8, CAP_SYS_ADMIN), which costs each run of a program
    a few nanoseconds.

    Examples:

        bpf2py top

        bpf2py top --no-maps --interval 5

        bpf2py top --json | jq '.programs[0]'

        bpf2py top --web
    """
    if web:
        if as_json or count is not None:
            raise BpfError("--web excludes --json and --count: the page is served until Ctrl-C")
        serve(listen, interval)
        return
    from rich.console import Console, Group
    from rich.live import Live

    console = Console(highlight=False)
    wanted = 1 if as_json and count is None else count
    live = Live(console=console, auto_refresh=False) if console.is_terminal and not as_json else None
    with enable_stats(), keyboard() as keys:
        before, then, offset, shown = programs(), time.monotonic(), 0, 0
        elements = filled() if maps else {}
        if live is not None:
            live.start()
        try:
            while wanted is None or shown < wanted:
                pressed = _wait(interval, keys) if live is not None else _sleep(interval)
                if QUIT in pressed:
                    return
                now, full = time.monotonic(), filled() if maps else {}
                current = programs()
                report = {"programs": activity(before, current, now - then), "maps": growth(elements, full, now - then)}
                before, elements, then = current, full, now
                shown += 1
                if as_json:
                    print(json.dumps(report), flush=True)
                    continue
                blocks = _blocks(report, rows, console.width if live is not None else terminal_width())
                if live is None:
                    for block in blocks:
                        print("\n".join([block.title, block.head or "", *block.lines]), flush=True)
                    continue
                for key in pressed:
                    offset = moved(offset, key, console.height - 2, screen(blocks, console.height - 2)[1])
                live.update(Group(*screen(blocks, console.height - 1, offset)[0]), refresh=True)
        finally:
            if live is not None:
                live.stop()


def serve(listen: str, interval: float) -> None:
    """Serve the page until Ctrl-C."""
    import ipaddress
    import secrets

    try:
        page_server = server.PageServer
    except ImportError as error:
        name = error.name or ""
        if name.partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise NotSupported(f"{name} is not installed: pip install 'bpf2py[web]'", feature=name) from None
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal():
        raise BpfError(f"--listen {listen}: it is written HOST:PORT, such as 127.0.0.1:8080")
    with enable_stats():
        page = page_server(host, int(port), secrets.token_urlsafe(24), interval)
        try:
            is_local = ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_local = host == "localhost"
        if not is_local:
            typer.echo(
                f"{host} can be reached from elsewhere: whoever reads the connection, which is not encrypted, has the token",
                err=True,
            )
        typer.echo(page.address)
        typer.echo("Open it in a browser of this machine; Ctrl-C ends it.", err=True)
        page.run()


def _sleep(seconds: float) -> list[str]:
    time.sleep(seconds)
    return []


def _wait(seconds: float, keys: Any) -> list[str]:
    """The keys that were pressed within some time; it is over early when there are."""
    import select

    if keys is None or not select.select([keys.fd], [], [], seconds)[0]:
        return _sleep(seconds) if keys is None else []
    pressed: list[str] = keys.pressed()
    return pressed


def programs() -> dict[int, Any]:
    """Facts of every program, by id."""
    return {info.id: info for info in inspect.programs()}


def activity(before: Mapping[int, Any], after: Mapping[int, Any], seconds: float) -> list[dict[str, Any]]:
    """What the programs did between two readings, the busiest first; one that is new counts from its loading on."""
    found = []
    for ident, info in after.items():
        old = before.get(ident)
        runs = info.run_count - (old.run_count if old is not None else 0)
        spent = info.run_time_ns - (old.run_time_ns if old is not None else 0)
        found.append(
            {
                "id": ident,
                "type": program_type_name(info.type),
                "name": info.name,
                "cpu_percent": round(spent / seconds / 1e7, 3),
                "runs_per_second": round(runs / seconds, 1),
                "ns_per_run": round(spent / runs) if runs else 0,
                "ns_per_run_ever": round(info.run_time_ns / info.run_count) if info.run_count else 0,
                "runs": info.run_count,
            }
        )
    return sorted(found, key=lambda row: (-row["cpu_percent"], -row["runs_per_second"], row["id"]))


def filled() -> dict[int, dict[str, Any]]:
    """How full the maps are that can be counted, by id."""
    return {row["id"]: row for row in usage() if row["elements"] is not None}


def growth(before: Mapping[int, Any], after: Mapping[int, Any], seconds: float) -> list[dict[str, Any]]:
    """How full the maps are and how fast they grew, the fullest first."""
    found = []
    for ident, row in after.items():
        old = before.get(ident)
        grown = (row["elements"] - old["elements"]) / seconds if old is not None else 0.0
        kept = ("id", "type", "name", "elements", "max_entries", "pressure", "memory")
        found.append({**{name: row[name] for name in kept}, "growth_per_second": round(grown, 1)})
    return sorted(found, key=lambda row: (-(row["pressure"] or 0), row["id"]))


def _blocks(report: Mapping[str, list[dict[str, Any]]], most: int, width: int | None) -> list[Block]:
    headings = {
        "programs": ["id", "type", "name", "cpu %", "runs/s", "ns/run", "ns/run ever", "runs"],
        "maps": ["id", "type", "name", "elements", "max_entries", "full", "growth/s"],
    }
    found = []
    for name, columns in headings.items():
        every = report[name]
        if not every and name == "maps":
            continue
        if name == "programs":
            cells = [[str(value) for value in row.values()] for row in every[:most]]
        else:
            names = ("id", "type", "name", "elements", "max_entries")
            cells = [
                [*(str(row[key]) for key in names), f"{row['pressure']:.0%}", f"{row['growth_per_second']:+.1f}"]
                for row in every[:most]
            ]
        head, *lines = aligned(columns, [[printable(cell) for cell in row] for row in cells], width)
        found.append(
            Block(f"{len(every)} {name if len(every) != 1 else name[:-1]}", head, lines, max(0, len(every) - most))
        )
    return found
