"""`bpf2py record` and `replay`: events and snapshots in Parquet files, and back."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.cli import declared as typer
from bpf2py.cli.follow import record_codecs
from bpf2py.cli.render import cell
from bpf2py.cli.run import read
from bpf2py.cli.transfer import record_codec
from bpf2py.cli.values import open_map
from bpf2py.errors import BpfError
from bpf2py.loading import load
from bpf2py.uapi.map_types import MapType, type_name

if TYPE_CHECKING:
    from bpf2py.export import recorder, recording
else:
    recorder = module("bpf2py.export.recorder")
    recording = module("bpf2py.export.recording")

PROGRAMS = (".c", ".o", ".py")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(record)
    app.command()(replay)


def record(
    source: str = typer.Argument(
        ...,
        metavar="MAP|PROGRAM",
        help="A map by id, name or pin path; or a program (.c, .o, .py), which is loaded and attached.",
    ),
    file: str = typer.Option(..., "--output", "-o", metavar="FILE.parquet", help="Where to write."),
    map_name: str = typer.Option(
        None,
        "--map",
        metavar="NAME",
        help="Which map of the program to record, if it does not have exactly one ring or perf buffer.",
    ),
    type_of: str = typer.Option(
        None, "--type", metavar="TYPE", help="The records' type, such as 'event' for struct event."
    ),
    time_of: str = typer.Option(
        None,
        "--time",
        metavar="MEMBER",
        help="The member of records in which the program stores bpf_ktime_get_ns().",
    ),
    every: float = typer.Option(
        None, min=0.001, help="Seconds between two snapshots of a map with elements (1 by default)."
    ),
    size: int = typer.Option(None, "--rotate-size", metavar="MIB", min=1, help="Start a new file after so many MiB."),
    age: float = typer.Option(
        None, "--rotate-after", metavar="SECONDS", min=0.1, help="Start a new file after so many seconds."
    ),
    duration: float = typer.Option(None, min=0.0, help="Stop after so many seconds."),
    count: int = typer.Option(None, min=1, help="Stop after so many rows."),
) -> None:
    """Record events of a ring or perf buffer, or snapshots of a map, into Parquet files, until Ctrl-C.

    Structs become struct columns, enums dictionaries, times timestamps. Nothing that was recorded is lost if this is killed: the
    next record to the same FILE first makes a Parquet file of it. Existing files are never overwritten: further ones are called
    FILE-1.parquet and so on. Needs the extra arrow of bpf2py.

    Examples:

        bpf2py record opens.bpf.c -o opens.parquet --rotate-size 256

        bpf2py record flows -o flows.parquet --every 10 --rotate-after 3600

        bpf2py record events --type event --time at_ns -o events.parquet --duration 60
    """
    with ExitStack() as stack:
        bpf_map, codec, obj = _source(stack, source, map_name, type_of)
        about = {"map": bpf_map.name, "map_type": type_name(bpf_map.info.type), "type": codec.name if codec else None}
        written = stack.enter_context(
            recording.Recording(file, about, most_bytes=size << 20 if size else None, most_seconds=age)
        )
        taking = recorder.recorder(bpf_map, codec, written, every, time_of)
        stack.callback(_summary, written, taking)
        stack.callback(written.close)
        stack.callback(taking.close)
        if obj is not None:
            obj.attach()
        print(f"bpf2py: recording {bpf_map.name} to {file}", file=sys.stderr, flush=True)
        until = time.monotonic() + duration if duration is not None else None
        while count is None or written.rows < count:
            left = until - time.monotonic() if until is not None else 1.0
            if left <= 0:
                break
            taking.step(min(left, 0.2))


def _summary(written: Any, taking: Any) -> None:
    files = ", ".join(str(path) for path in written.written) or "no file"
    lost = f", {taking.lost} records were lost: the buffer was full" if taking.lost else ""
    print(f"bpf2py: {written.rows} rows in {files}{lost}", file=sys.stderr)


def _source(stack: ExitStack, source: str, map_name: str | None, type_of: str | None) -> tuple[Any, Any, Any]:
    """(map, codec of its records or None, object to attach or None)."""
    if not source.endswith(PROGRAMS):
        if map_name is not None:
            raise BpfError("--map chooses a map of a program, but a map is named already")
        bpf_map = stack.enter_context(open_map(source))
        events = bpf_map.info.type in (MapType.RINGBUF, MapType.PERF_EVENT_ARRAY)
        return bpf_map, record_codec(bpf_map, None, type_of) if type_of is not None and events else None, None
    spec, data, _ = read(source, None, ())
    obj = stack.enter_context(load(spec, "kernel"))
    buffers = [m.name for m in obj.maps.values() if m.type in (MapType.RINGBUF, MapType.PERF_EVENT_ARRAY)]
    there = ", ".join(name for name, each in spec.maps.items() if not each.is_section) or "none"
    if map_name is not None and map_name not in obj.maps:
        raise BpfError(f"{source}: no map {map_name!r}; there are: {there}")
    if map_name is None and len(buffers) != 1:
        raise BpfError(f"{source}: which map? It has {len(buffers)} ring and perf buffers; choose with --map: {there}")
    chosen = obj.maps[map_name if map_name is not None else buffers[0]]
    if chosen.type not in (MapType.RINGBUF, MapType.PERF_EVENT_ARRAY):
        return chosen, None, obj
    found = record_codecs(spec, data, {"": type_of} if type_of is not None else {})(chosen)
    sizes = list(found.by_size.values())
    return chosen, found.own if found.own is not None else sizes[0] if len(sizes) == 1 else None, obj


def replay(
    file: str = typer.Argument(
        ..., metavar="FILE.parquet", help="A recording; its further files (FILE-1.parquet and so on) are read as well."
    ),
    speed: float = typer.Option(
        None,
        min=0.0,
        metavar="FACTOR",
        help="Keep the pauses of the recording: 1 as they were, 2 half as long. No pauses by default.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON object for each row."),
) -> None:
    """Print a recording, at once or with its pauses.

    In tests, `bpf2py.export.replay` puts a recording into the map of a program, for whatever reads that map.

    Examples:

        bpf2py replay opens.parquet --json

        bpf2py replay opens.parquet --speed 1
    """
    former = None
    for row, _ in recording.rows(file):
        at = row["time"]
        if speed and former is not None and at > former:
            time.sleep((at - former) / 1e9 / speed)
        former = at
        when, nanoseconds = time.gmtime(at // 10**9), at % 10**9
        if as_json:
            said = row | {"time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', when)}.{nanoseconds:09}Z"}
            print(json.dumps({name: _json(value) for name, value in said.items()}), flush=True)
        else:
            text = " ".join(cell(value) for name, value in row.items() if name != "time")
            print(f"{time.strftime('%H:%M:%S', when)}.{nanoseconds // 1000:06} {text}", flush=True)


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_json(each) for each in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, str | int | float | None) else str(value)
