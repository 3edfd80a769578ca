"""`bpf2py map export` and `import`: a map's elements in a file; `bpf2py events`: a ring or perf buffer, followed."""

from __future__ import annotations

import sys

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.btf.codec_for import codec_for
from bpf2py.btf.types import Kind
from bpf2py.cli import declared as typer
from bpf2py.cli.progress import progress
from bpf2py.cli.render import cell, elements, readable, to_json
from bpf2py.cli.run import read
from bpf2py.cli.values import from_json, open_map
from bpf2py.errors import BpfError, NotSupported
from bpf2py.kernel import btf, inspect
from bpf2py.loading import read_spec
from bpf2py.readers.perf import PerfReader
from bpf2py.readers.ring import RingReader
from bpf2py.spec.record_types import record_types
from bpf2py.uapi.map_types import MapType, type_name

if TYPE_CHECKING:
    import json
    from pathlib import Path

    from bpf2py.maps.base import Map
else:
    json = module("json")

FORMATS = (".json", ".npy", ".parquet")


def export(
    reference: str = typer.Argument(..., metavar="MAP", help="Id, name, or path of a pinned map."),
    file: Path = typer.Argument(..., help="Where to write; the suffix says how: .json, .npy or .parquet."),
) -> None:
    """Write all elements of a map to a file; `import` reads .json back.

    Examples:

        bpf2py map export exec_counts counts.json

        bpf2py map export exec_counts counts.parquet
    """
    if file.suffix not in FORMATS:
        raise BpfError(f"{file}: the suffix must be one of {', '.join(FORMATS)}")
    with open_map(reference) as bpf_map:
        if not readable(bpf_map):
            raise NotSupported(f"map {bpf_map.name}: a {type_name(bpf_map.info.type)} has no elements to export")
        source: Any = bpf_map
        if file.suffix == ".npy":
            import numpy as np

            np.save(file, source.to_numpy())
        elif file.suffix == ".parquet":
            try:
                from pyarrow import parquet
            except ImportError:
                raise NotSupported("pyarrow is not installed: pip install 'bpf2py[arrow]'", feature="pyarrow") from None
            parquet.write_table(source.to_arrow(), file)
        else:
            rows = elements(bpf_map)
            with open(file, "w") as out, progress(f"writing {file}", len(rows)) as advance:
                for done, (key, value) in enumerate(rows, 1):
                    out.write(json.dumps({"key": to_json(key), "value": to_json(value)}) + "\n")
                    if done % 4096 == 0:
                        advance(done)


def import_elements(
    reference: str = typer.Argument(..., metavar="MAP", help="Id, name, or path of a pinned map."),
    file: Path = typer.Argument(..., help="A .json file with one {key, value} object a line, as `export` writes it."),
) -> None:
    """Set the elements a file holds; others stay.

    Examples:

        bpf2py map import exec_counts counts.json
    """
    with open(file, encoding="utf-8", errors="surrogateescape") as source, open_map(reference) as bpf_map:
        pairs = []
        for number, line in enumerate(source, 1):
            try:
                row = json.loads(line)
                pairs.append((from_json(bpf_map.key_codec, row["key"]), from_json(bpf_map.value_codec, row["value"])))
            except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                raise BpfError(f"{file}:{number}: no {{key, value}} object of this map: {error}") from None
        target: Any = bpf_map
        target.update(dict(pairs) if not pairs or _hashable(pairs[0][0]) else pairs)
        typer.echo(f"{len(pairs)} elements set", err=True)


def _hashable(key: object) -> bool:
    return not isinstance(key, dict | list)


def events(
    reference: str = typer.Argument(
        ..., metavar="MAP", help="Id, name, or path of a pinned RINGBUF or PERF_EVENT_ARRAY."
    ),
    type_of: str = typer.Option(
        None,
        "--type",
        help="The records' type, such as 'event' for struct event, from the BTF of the programs that use the map.",
    ),
    types: Path = typer.Option(
        None,
        help="The program's object file (or .c source): its types, in place of those of the programs that use the map. Without "
        "--type it also says which of them the records have.",
    ),
    count: int = typer.Option(None, min=1, help="Stop after this many events."),
    timeout: float = typer.Option(None, min=0.0, help="Stop after this many seconds."),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON object for each event."),
) -> None:
    """Follow a ring buffer or perf buffer. Reading takes the events: another reader of the same ring does not see them.

    Stops after Ctrl-C (with status 130), --count or --timeout.

    Examples:

        bpf2py events events --type event --json

        bpf2py events events --types exec_events.bpf.c

        bpf2py events /sys/fs/bpf/events --count 1 --timeout 5
    """
    with open_map(reference) as bpf_map:
        kind = bpf_map.info.type
        if kind not in (MapType.RINGBUF, MapType.PERF_EVENT_ARRAY):
            raise BpfError(
                f"map {bpf_map.name}: events come from RINGBUF and PERF_EVENT_ARRAY, this is a {type_name(kind)}"
            )
        codec: Any = None
        if type_of is not None:
            codec = record_codec(bpf_map, types, type_of)
        elif types is not None:
            codec = _codec_of_source(bpf_map, types)
        reader: Any = RingReader(bpf_map, type=codec) if kind == MapType.RINGBUF else PerfReader(bpf_map, type=codec)
        seen = 0
        with reader:
            try:
                for event in reader.events(timeout):
                    print(json.dumps(to_json(event)) if as_json else cell(event), flush=True)
                    seen += 1
                    if count is not None and seen >= count:
                        break
            finally:
                lost = getattr(reader, "lost", 0)
                if lost:
                    print(f"bpf2py: {lost} events were lost: the buffer was full", file=sys.stderr)


def _codec_of_source(bpf_map: Map[Any, Any], file: Path) -> Any:
    """The codec of the records a program writes into the map of this name: as it declares, or from what it writes."""
    spec, data, _ = read(str(file), None, ())
    named = [each for name, each in spec.maps.items() if name[:15] == bpf_map.name[:15]]
    if not named:
        raise BpfError(f"{file}: it has no map {bpf_map.name!r}: {', '.join(spec.maps)}; choose with --type")
    if named[0].btf is not None and named[0].value_type_id:
        return codec_for(named[0].btf, named[0].value_type_id)
    found = record_types(spec, data).get(named[0].name)
    if found is None or len(found.by_size) != 1:
        fitting = [*(codec.name for codec in found.by_size.values()), *found.unclear] if found is not None else []
        raise BpfError(
            f"{file}: records of {bpf_map.name} may be any of {', '.join(fitting) or 'its types'}; choose with --type NAME"
        )
    return next(iter(found.by_size.values()))


def record_codec(bpf_map: Map[Any, Any], file: Path | None, name: str) -> Any:
    """The codec of a type, from a file or from the programs of the machine that use the map."""
    bare = name.removeprefix("struct ").strip()
    kinds = (Kind.STRUCT, Kind.UNION, Kind.TYPEDEF, Kind.INT)
    if file is not None:
        spec = read_spec(str(file))
        if spec.types is None:
            raise BpfError(f"{file}: the object has no types; compile with -g")
        return codec_for(spec.types, spec.types.find(bare, *kinds))
    users = [info for info in inspect.programs() if bpf_map.id in info.map_ids]
    for ident in sorted({info.btf_id for info in users if info.btf_id}):
        found = btf.btf_by_id(ident)
        ids = [i for i in found.ids_by_name(bare) if found.kind(i) in kinds] if found is not None else []
        if found is not None and ids:
            return codec_for(found, ids[0])
    names = ", ".join(sorted({info.name for info in users})) or "none"
    raise BpfError(
        f"map {bpf_map.name}: the programs that use it ({names}) have no type {bare!r}; name an object that has it with --types"
    )
