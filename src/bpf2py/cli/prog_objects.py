"""`bpf2py prog show`, `dump`, `load`, `attach`, `detach`, `pin` and `profile`."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.cli import declared as typer
from bpf2py.cli.attaching import parse
from bpf2py.cli.completion import complete_program, complete_section
from bpf2py.cli.objects import held, print_facts
from bpf2py.cli.prog import JSON, facts_of
from bpf2py.cli.references import open_program
from bpf2py.cli.text import printable
from bpf2py.errors import AttachError, BpfError
from bpf2py.kernel import inspect
from bpf2py.kernel.owners import owners
from bpf2py.loading import load
from bpf2py.programs import Link, enable_stats
from bpf2py.spec.program_spec import Function, ProgramSpec
from bpf2py.uapi.attach_options import parse_option
from bpf2py.uapi.program_types import program_type_name

if TYPE_CHECKING:
    import json

    from bpf2py.tools import prog_counters
else:
    json = module("json")
    prog_counters = module("bpf2py.tools.prog_counters")

PROGRAM = typer.Argument(..., help="Id, name, or path of a pinned program.", autocompletion=complete_program)


def show(program: str = PROGRAM, as_json: bool = JSON) -> None:
    """Show one program, one fact a line: what `list` tells, who holds it, and where it is pinned. Needs CAP_SYS_ADMIN.

    Examples:

        bpf2py prog show count_exec

        bpf2py prog show 42 --json
    """
    with open_program(program) as found:
        row = facts_of(found.info)
        held("prog", [row])
    row["pids"] = [owner for owner in row["pids"] if owner["pid"] != os.getpid()]
    print_facts(row, as_json)


def dump(
    program: str = PROGRAM,
    jited: bool = typer.Option(False, "--jited", help="Print the machine code as hex instead of BPF instructions."),
) -> None:
    """Print the instructions of a program as the kernel runs them, with their source lines. Needs CAP_SYS_ADMIN.

    Examples:

        bpf2py prog dump count_exec

        bpf2py prog dump 42 --jited
    """
    with open_program(program) as found:
        code = found.jited() if jited else found.xlated()
        if not code:
            raise BpfError(
                f"program {found.name}: the kernel does not show its code (CAP_SYS_ADMIN, kernel.kptr_restrict)"
            )
        typer.echo(code.hex(" ", 1) if jited else printable(found.disassemble(source=True), keep="\n\t"))


def load_programs(
    file: str = typer.Argument(..., metavar="FILE", help="A .bpf.c source, or a compiled object."),
    directory: str = typer.Argument(..., help="Where to pin the programs, by their names; made if it is not there."),
    maps: str = typer.Option(None, "--pin-maps", metavar="DIRECTORY", help="Pin the maps there, by their names."),
    links: str = typer.Option(
        None,
        "--attach",
        metavar="DIRECTORY",
        help="Attach what says where, and pin the links there, by the programs' names.",
    ),
    cflag: list[str] = typer.Option(None, "--cflag", help="An extra compiler flag; may be given several times."),
) -> None:
    """Load the programs of an object into the kernel and pin them, so that they stay when this command ends.

    Either all of them are pinned, or nothing is left.

    Examples:

        bpf2py prog load counter.bpf.c /sys/fs/bpf/counter --pin-maps /sys/fs/bpf/counter/maps

        bpf2py prog load exec_counts.bpf.o /sys/fs/bpf/exec --attach /sys/fs/bpf/exec/links
    """
    made: list[str] = []
    with load(file, "kernel", cflags=cflag or ()) as obj:
        try:
            for name, program in obj.programs.items():
                _pin(program, directory, name, made)
            for name, bpf_map in obj.maps.items():
                if maps is not None:
                    _pin(bpf_map, maps, name.lstrip(".").replace(".", "_"), made)  # bpffs takes no dots
            if links is not None:
                for link in obj.attach():
                    _pin(link, links, link.program, made)
        except BaseException:
            for path in reversed(made):
                (os.rmdir if os.path.isdir(path) else os.unlink)(path)
            raise
        typer.echo(f"{len(obj.programs)} programs pinned to {directory}", err=True)


def _pin(thing: Any, directory: str, name: str, made: list[str]) -> None:
    missing = []
    parent = os.path.abspath(directory)
    while not os.path.isdir(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    for path in reversed(missing):
        os.mkdir(path, 0o700)
        made.append(path)
    path = os.path.join(directory, name)
    thing.pin(path)
    made.append(path)


def attach(
    program: str = PROGRAM,
    section: str = typer.Argument(
        ...,
        help="Where, as a SEC() name says it: xdp, tracepoint/sched/sched_switch, cgroup_skb/egress ...",
        autocompletion=complete_section,
    ),
    path: str = typer.Argument(..., help="Where to pin the link; the program is attached as long as the pin is there."),
    option: list[str] = typer.Option(
        None, "--option", "-o", metavar="NAME=VALUE", help="An attach option, such as device=eth0."
    ),
) -> None:
    """Attach a program of the machine, and pin the link. `bpf2py link detach` or removing the pin takes it off.

    Examples:

        bpf2py prog attach count_packets xdp /sys/fs/bpf/count_eth0 --option device=eth0 --option mode=generic

        bpf2py prog attach count_exec tracepoint/sched/sched_process_exec /sys/fs/bpf/count_exec
    """
    given: dict[str, Any] = {}
    for text in option or []:
        for name, value in parse(f":{text}")[1].items():
            try:
                given[name] = parse_option(name, value)
            except (KeyError, ValueError):
                given[name] = value
    with open_program(program) as found:
        spec = ProgramSpec(Function(found.name, section, 0, 0, b"", False))
        if spec.definition is None:
            raise AttachError(f"program {found.name}: attach: SEC({section!r}) is not the section name of a program")
        if spec.type != found.info.type:
            raise AttachError(
                f"program {found.name}: attach: it is of type {program_type_name(found.info.type)}, "
                f"SEC({section!r}) of {spec.type.name}"
            )
        with Link(found._handle.attach(spec, given), found.name) as link:
            link.pin(path)


def detach(program: str = PROGRAM) -> None:
    """Take a program off every hook it is attached to by a link, whoever holds the links (Linux 5.9).

    Links of tracing programs cannot be taken off so: they go with their last holder, who is named.

    Examples:

        bpf2py prog detach count_packets
    """
    with open_program(program) as found:
        ident, name = found.info.id, found.name
    links = [link for link in inspect.links() if link.program_id == ident]
    if not links:
        raise BpfError(f"program {name}: it is not attached by a link")
    for info in links:
        try:
            with Link.from_id(info.id, backend="kernel") as link:
                link.detach()
        except BpfError as error:
            who = ", ".join(f"{owner.comm} ({owner.pid})" for owner in owners("link").get(info.id, [])) or "a pin"
            raise BpfError(f"{error}; held by {who}") from None


def pin(program: str = PROGRAM, path: str = typer.Argument(..., help="A new file on a BPF file system.")) -> None:
    """Pin a program, so that it stays in the kernel when nobody else uses it; remove the file to unpin it.

    Examples:

        bpf2py prog pin count_exec /sys/fs/bpf/count_exec
    """
    with open_program(program) as found:
        found.pin(path)


def stream(
    program: str = PROGRAM,
    errors: bool = typer.Option(
        False, "--stderr", help="The other stream, which also has what the kernel says of faults."
    ),
) -> None:
    """Print what a program wrote with bpf_stream_printk() since somebody last read it (Linux 6.17).

    Reading takes it out of the stream. A stream holds 100,000 bytes; what is written while it is full is lost.

    Examples:

        bpf2py prog stream count_exec --stderr
    """
    with open_program(program) as found:
        typer.echo(printable(found.stderr() if errors else found.stdout(), keep="\n\t"), nl=False)


def profile(
    program: str = PROGRAM,
    counters: list[str] = typer.Argument(
        None,
        metavar="[COUNTER...]",
        help="What to count while it runs: cycles, instructions, l1d_loads, llc_misses, itlb_misses, dtlb_misses, task-clock, "
        "page-faults and others.",
    ),
    duration: float = typer.Option(5.0, min=0.05, help="Seconds to measure."),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON object, for programs."),
) -> None:
    """Measure how often a program runs and how long it takes, from the kernel's run statistics (Linux 5.8, CAP_SYS_ADMIN).

    The statistics are enabled meanwhile, which costs each run of every program some nanoseconds. Counters are read by programs at
    the entry and exit of the measured one (Linux 5.5, with BPF trampolines); virtual machines often have none of the hardware's.

    Examples:

        bpf2py prog profile count_exec --duration 10

        bpf2py prog profile count_exec cycles instructions llc_misses
    """
    counted = None
    with open_program(program) as found, ExitStack() as stack:
        measured = stack.enter_context(prog_counters.ProgCounters(found, counters)) if counters else None
        stack.enter_context(enable_stats())
        before, begin = found.info, time.monotonic()
        time.sleep(duration)
        after, seconds = found.info, time.monotonic() - begin
        if measured is not None:
            counted = measured.read()
    runs, spent = after.run_count - before.run_count, after.run_time_ns - before.run_time_ns
    row: dict[str, Any] = {
        "id": after.id,
        "name": after.name,
        "seconds": round(seconds, 3),
        "runs": runs,
        "runs_per_second": round(runs / seconds, 1),
        "ns_per_run": round(spent / runs, 1) if runs else 0.0,
        "cpu_percent": round(spent / seconds / 1e7, 3),
    }
    if counted is not None:
        row["counted_runs"] = counted.runs
        row["counters"] = {
            name: {"total": total, "per_run": round(total / counted.runs, 1) if counted.runs else 0.0}
            for name, total in counted.counters.items()
        }
    if as_json:
        typer.echo(json.dumps(row))
    elif not runs:
        typer.echo(f"{after.name}: did not run in {seconds:.1f} s")
    else:
        typer.echo(
            f"{after.name}: {runs} runs in {seconds:.1f} s ({row['runs_per_second']} a second), {row['ns_per_run']} ns each, "
            f"{row['cpu_percent']} % of a CPU"
        )
        for name, each in row.get("counters", {}).items():
            typer.echo(f"{each['total']:>16} {name:<19} {each['per_run']:>12} a run")
