"""`bpf2py lru`: what LRU maps keep, and how large they have to be."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterator

from bpf2py._typing import Any
from bpf2py.cli import declared as typer
from bpf2py.cli.completion import complete_map
from bpf2py.cli.table import aligned, terminal_width
from bpf2py.cli.transfer import record_codec
from bpf2py.cli.values import open_map
from bpf2py.errors import BpfError, EncodeError
from bpf2py.lab.lru import Hits, Setup, predict
from bpf2py.lab.plot import hit_rates
from bpf2py.lab.size import MOST_ENTRIES, Sweep, workers
from bpf2py.lab.traces import Trace, read_trace
from bpf2py.lab.watch import Evictions, Uses
from bpf2py.printable import printable
from bpf2py.readers.ring import RingReader
from bpf2py.uapi.map_types import MapType

KERNEL = typer.Option(
    "6.18", help="The kernel, such as 6.1 or 6.12.20; without a patch level the newest of its series."
)
CPUS = typer.Option(4, min=1, help="Possible CPUs of the machine.")
OWN_LISTS = typer.Option(False, "--no-common-lru", help="With BPF_F_NO_COMMON_LRU: a list for each CPU.")
JSON = typer.Option(False, "--json", help="Print JSON, for programs.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="What LRU maps keep, and how large they have to be.", no_args_is_help=True)
    group.command("predict")(predict_)
    group.command("size")(size)
    group.command("trace")(trace_)
    group.command("watch")(watch)
    app.add_typer(group, name="lru")


def predict_(
    max_entries: int = typer.Option(..., "--max-entries", "-n", min=1, help="The map's size."),
    cpus: int = CPUS,
    kernel: str = KERNEL,
    inserted: int = typer.Option(None, "--keys", min=1, help="Keys inserted: one more than fit, if not said."),
    turns: int = typer.Option(None, "--inserting-cpus", min=1, help="CPUs that insert them, one after another: all."),
    own_lists: bool = OWN_LISTS,
    as_json: bool = JSON,
) -> None:
    """Say how many keys an LRU map keeps, which, and why: by the engine's maps, which do what the kernel's do.

    Examples:

        bpf2py lru predict --max-entries 1003 --cpus 6 --kernel 6.1

        bpf2py lru predict -n 10000 --cpus 64 --json
    """
    found = predict(Setup(max_entries, cpus, kernel, own_lists), inserted, turns)
    if as_json:
        facts = {"kept": [len(kept) for kept in found.kept], "keys": found.kept[-1], "words": found.words}
        typer.echo(json.dumps(_facts(found.setup) | {"inserted": found.inserted} | facts))
        return
    typer.echo(f"{found.setup}: keys 1 to {found.inserted}\n")
    rows = [[f"{cpu + 1}", f"{len(kept)}", _runs(kept)] for cpu, kept in enumerate(found.kept)]
    typer.echo("\n".join(aligned(["CPUs that inserted", "kept", "which"], rows, terminal_width())))
    typer.echo(f"\n{found.words}")


def size(
    trace: str = typer.Argument(
        ...,
        metavar="TRACE",
        help="Keys in the order of their use: a key a line, CSV (of libCacheSim, too), or Parquet.",
    ),
    rate: float = typer.Option(None, "--rate", help="Find the max_entries with this hit rate, from 0 to 1."),
    sizes: str = typer.Option(
        None, "--sizes", help="Sizes to try: 1000,2000,5000. Seven around the working set if not said."
    ),
    kernels: str = typer.Option("6.1,6.18", "--kernels", help="Kernels to try."),
    cpus: int = CPUS,
    column: str = typer.Option(None, "--column", help="The keys' column, by name or by number from 0 on."),
    cpu_column: str = typer.Option(
        None, "--cpu-column", help="The column with the CPU of each use; without it they go round all CPUs."
    ),
    own_lists: bool = OWN_LISTS,
    processes: int = typer.Option(None, "--processes", min=1, help="Processes to work on; as many as there are CPUs."),
    scheduler: str = typer.Option(
        None, "--scheduler", metavar="ADDRESS", help="Work on a Dask cluster: tcp://host:8786."
    ),
    svg: str = typer.Option(None, "--svg", metavar="FILE", help="Draw the hit rates."),
    as_json: bool = JSON,
) -> None:
    """Replay a trace with LRU maps of several sizes and kernels: their hit rates, beside those of an exact LRU.

    Examples:

        bpf2py lru size keys.txt

        bpf2py lru size accesses.csv --column obj_id --rate 0.9 --cpus 16

        bpf2py lru size accesses.parquet --sizes 1000,10000 --kernels 6.1,6.12,6.18 --svg rates.svg
    """
    import numpy as np

    if rate is not None and not 0 < rate <= 1:
        raise EncodeError(f"--rate is from 0 to 1, not {rate}")
    found = read_trace(trace, column, cpu_column)
    where = found.cpus if found.cpus is not None else (np.arange(len(found.keys)) % cpus).astype(np.uint16)
    if found.cpus is not None and int(found.cpus.max()) >= cpus:
        raise EncodeError(
            f"{found.name}: it has a use on CPU {int(found.cpus.max())}: give --cpus {int(found.cpus.max()) + 1}"
        )
    wanted = [kernel.strip() for kernel in kernels.split(",") if kernel.strip()]
    with workers(processes, scheduler) as executor:
        sweep = Sweep(found.keys, where, executor)
        tried = _sizes(sizes, sweep.curve.different)
        setups = [Setup(entries, cpus, kernel, own_lists) for kernel in wanted for entries in tried]
        results = sweep.hits(setups, _progress(len(setups)))
        reached = {kernel: sweep.size_for(rate, Setup(1, cpus, kernel, own_lists)) for kernel in wanted} if rate else {}
    if svg is not None:
        _draw(svg, found, sweep, tried, results, wanted)
    if as_json:
        rows = [
            _facts(each.setup) | {"hit_rate": each.rate, "ideal": each.ideal_rate, "kept": each.kept}
            for each in results
        ]
        typer.echo(
            json.dumps(
                {"uses": len(found.keys), "keys": sweep.curve.different, "results": rows, "max_entries": reached}
            )
        )
        return
    typer.echo(f"{found.name}: {len(found.keys):,} uses of {sweep.curve.different:,} keys, on {cpus} CPUs\n")
    by = {(each.setup.kernel, each.setup.max_entries): each for each in results}
    table = [
        [
            str(entries),
            f"{sweep.curve.hits(entries) / len(found.keys):.2%}",
            *(f"{by[k, entries].rate:.2%}" for k in wanted),
        ]
        for entries in tried
    ]
    typer.echo(
        "\n".join(aligned(["max_entries", "exact LRU", *(f"Linux {k}" for k in wanted)], table, terminal_width()))
    )
    for kernel, entries in reached.items():
        ideal = sweep.curve.size_for(rate)
        if entries is None:
            best = sweep.curve.hits(MOST_ENTRIES) / len(found.keys)
            typer.echo(f"\nLinux {kernel}: no size reaches {rate:.2%}; an LRU that never evicts has {best:.2%}.")
        else:
            more = f", {entries / ideal:.2f} times what an exact LRU needs ({ideal:,})" if ideal else ""
            typer.echo(f"\nLinux {kernel}: max_entries {entries:,} reaches {rate:.2%}{more}.")


MAP = typer.Argument(..., metavar="MAP", help="Id, name, or path of a pinned map.", autocompletion=complete_map)


def watch(
    reference: str = MAP,
    interval: float = typer.Option(1.0, min=0.05, help="Seconds between two readings."),
    count: int = typer.Option(None, min=1, help="Stop after this many readings."),
    as_json: bool = JSON,
) -> None:
    """Say how many elements an LRU map of the kernel evicts, until Ctrl-C.

    It counts where the kernel evicts, if it allows BPF trampolines, or kernel probes (which count attempts: at most so many are
    evicted). Elsewhere it compares the keys of two readings: at least so many were evicted, or deleted.

    Examples:

        bpf2py lru watch flows

        bpf2py lru watch flows --interval 5 --json
    """
    with open_map(reference) as lru, Evictions(lru) as evictions:
        if not as_json:
            typer.echo(f"{printable(lru.name)}: max_entries {lru.max_entries}, evictions counted {evictions.how}")
            typer.echo(f"{'elements':>10}  {'evicted':>10}  {'per second':>12}")
        number = 0
        while count is None or number < count:
            time.sleep(interval)
            reading = evictions.read()
            rate = reading.evicted / reading.seconds if reading.seconds else 0.0
            if as_json:
                typer.echo(json.dumps(reading._asdict() | {"per_second": rate}))
            else:
                typer.echo(f"{reading.elements:>10}  {reading.evicted:>10}  {rate:>12.1f}")
            sys.stdout.flush()
            number += 1


def trace_(
    reference: str = MAP,
    output: str = typer.Option(..., "--output", "-o", metavar="FILE", help="The CSV file to write: key,cpu."),
    duration: float = typer.Option(10.0, min=0.0, help="Seconds to watch."),
    count: int = typer.Option(None, min=1, help="Stop after this many uses."),
    type_of: str = typer.Option(
        None, "--type", metavar="NAME", help="MAP is a ring buffer of your own: the type of its records."
    ),
    field: str = typer.Option(None, "--field", metavar="NAME", help="With --type: the field that is the key."),
) -> None:
    """Record which keys of an LRU map of the kernel are used, in their order and by CPU, for bpf2py lru size.

    Needs a kernel that allows BPF trampolines. Where it does not, let your program write the keys to a ring buffer, and name that
    and the field of its records.

    Examples:

        bpf2py lru trace flows --duration 30 -o keys.csv

        bpf2py lru size keys.csv --cpu-column cpu

        bpf2py lru trace events --type event --field address -o keys.csv
    """
    written = 0
    try:
        file = open(output, "w", encoding="utf-8", newline="")  # noqa: SIM115
    except OSError as error:
        raise BpfError(f"{output}: {error.strerror}") from None
    with file, open_map(reference) as found:
        writer = csv.writer(file)
        writer.writerow(["key", "cpu"])
        if field is not None:
            for key in _ring_keys(found, type_of, field, duration):
                writer.writerow([key, 0])
                written += 1
                if written == count:
                    break
            lost = 0
        else:
            with Uses(found) as uses:
                for use in uses.read(duration):
                    writer.writerow([use.key, use.cpu])
                    written += 1
                    if written == count:
                        break
                lost = uses.lost
    typer.echo(f"{written} uses of keys written to {printable(output)}", err=True)
    if lost:
        typer.echo(f"{lost} more were lost: they came faster than they could be written", err=True)
    if not written:
        raise BpfError(f"{found.name}: no key was used within {duration:g} s")


def _ring_keys(ring: Any, type_of: str | None, field: str, duration: float) -> Iterator[Any]:
    if ring.type != MapType.RINGBUF:
        raise EncodeError(f"map {ring.name}: --field is for ring buffers")
    if type_of is None:
        raise EncodeError(f"map {ring.name}: say with --type which type its records have")
    with RingReader(ring, type=record_codec(ring, None, type_of)) as reader:
        for event in reader.events(duration):
            if not hasattr(event, field):
                names = [name for name in dir(event) if not name.startswith("_")]
                raise EncodeError(
                    f"map {ring.name}: its records have no field {field!r}; they have: {', '.join(names)}"
                )
            yield getattr(event, field)


def _facts(setup: Setup) -> dict[str, Any]:
    return {
        "max_entries": setup.max_entries,
        "cpus": setup.cpus,
        "kernel": setup.kernel,
        "no_common_lru": setup.no_common,
    }


def _runs(kept: list[int]) -> str:
    """Numbers as people write them: ``22-1004``."""
    runs: list[list[int]] = []
    for key in kept:
        if runs and key == runs[-1][1] + 1:
            runs[-1][1] = key
        else:
            runs.append([key, key])
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:5], "..."])


def _sizes(text: str | None, different: int) -> list[int]:
    if text is None:
        return sorted({max(1, different * share // 100) for share in (1, 2, 5, 10, 25, 50, 100)})
    try:
        found = sorted({int(part) for part in text.split(",") if part.strip()})
    except ValueError:
        raise EncodeError(f"--sizes are numbers apart by commas, not {text!r}") from None
    if not found or found[0] < 1 or found[-1] > MOST_ENTRIES:
        raise EncodeError(f"--sizes are from 1 to {MOST_ENTRIES}")
    return found


def _progress(total: int) -> Any:
    """Says on a terminal how far the work is."""
    count = 0

    def done(_: Hits) -> None:
        nonlocal count
        count += 1
        if sys.stderr.isatty():
            print(f"\r{count} of {total} set-ups", end="\n" if count == total else "", file=sys.stderr, flush=True)

    return done


def _draw(path: str, trace: Trace, sweep: Sweep, tried: list[int], results: list[Hits], kernels: list[str]) -> None:
    uses = len(trace.keys)
    lines = {"exact LRU": [(entries, sweep.curve.hits(entries) / uses) for entries in tried]}
    for kernel in kernels:
        lines[f"Linux {kernel}"] = [
            (each.setup.max_entries, each.rate) for each in results if each.setup.kernel == kernel
        ]
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(hit_rates(lines, f"Hit rates of {trace.name}"))
    except OSError as error:
        raise BpfError(f"{path}: {error.strerror}") from None
