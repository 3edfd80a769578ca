"""`bpf2py run`: compile, load, attach, run a command, show what the programs say and count."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from bpf2py._typing import TYPE_CHECKING
from bpf2py.cli import declared as typer
from bpf2py.cli.attaching import attach_all, wanted
from bpf2py.cli.charts import chosen
from bpf2py.cli.examples import hint as example_hint
from bpf2py.cli.follow import Sources, record_codecs
from bpf2py.cli.oneliner import program
from bpf2py.cli.session import Session, Shown, say
from bpf2py.cli.values import parse
from bpf2py.engine.trace.child import can_fire
from bpf2py.errors import BpfError
from bpf2py.kernel.environment import explain_eperm
from bpf2py.kernel.probes import Probes
from bpf2py.loading import load
from bpf2py.spec.object_spec import ObjectSpec, object_name
from bpf2py.toolchain.compiler import compile
from bpf2py.uapi.program_types import AttachType

if TYPE_CHECKING:
    from bpf2py.programs import Link
    from bpf2py.spec.object_spec import ObjectSpec

ROWS = 20
EXIT_STATUS = (
    "Exit status: the command's, 0 without one; 1 when the program was not run, 2 wrong usage, 130 after Ctrl-C."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(context_settings={"allow_extra_args": False}, epilog=EXIT_STATUS)(run)


def run(
    file: str = typer.Argument(
        None, metavar="FILE", help="A source in C or Python, a compiled object, or - for C on the standard input."
    ),
    command: list[str] = typer.Argument(
        None, metavar="[-- COMMAND...]", help="What to run while the programs are attached."
    ),
    text: str = typer.Option(
        None,
        "--execute",
        "-e",
        metavar="TEXT",
        help='Run this C text in place of a file; the usual headers are included, and SEC("...") { body } stands for a function.',
    ),
    attach: list[str] = typer.Option(
        None,
        metavar="PROGRAM[:OPTION=VALUE,...]",
        help="Attach a program so, such as count:device=eth0,mode=generic; may be given several times.",
    ),
    device: str = typer.Option(None, help="Attach XDP and tc programs to this interface."),
    cgroup: str = typer.Option(None, metavar="PATH", help="Attach cgroup programs to this control group."),
    event: str = typer.Option(
        None, metavar="NAME", help="Attach perf_event programs to this event, such as page-faults."
    ),
    frequency: str = typer.Option(None, metavar="HZ", help="Samples a second of perf_event programs."),
    binary: str = typer.Option(
        None, metavar="PATH", help="Attach uprobe and USDT programs to this program or library."
    ),
    symbol: str = typer.Option(None, metavar="NAME", help="Attach uprobe programs to this function of --binary."),
    pid: str = typer.Option(None, metavar="PID", help="Attach to this process alone, where programs can be."),
    backend: str = typer.Option(
        "auto",
        help="kernel, engine (traces COMMAND, without privileges), or auto: the kernel where bpf() is permitted.",
    ),
    as_json: bool = typer.Option(
        False,
        "--json",
        help="Print an object a line for what programs say, and one with the maps at the end; nothing else.",
    ),
    interval: float = typer.Option(1.0, min=0.05, help="Seconds between two views of the maps."),
    duration: float = typer.Option(None, min=0.0, help="Stop after this many seconds."),
    rows: int = typer.Option(ROWS, min=1, help="Elements shown of each map."),
    only: list[str] = typer.Option(None, "--map", help="Show only this map; may be given several times."),
    type_of: list[str] = typer.Option(
        None,
        "--type",
        metavar="[MAP=]TYPE",
        help="The type of records, such as event for struct event; may be given for each map.",
    ),
    histogram: list[str] = typer.Option(
        None,
        metavar="MAP[=log2|linear|off]",
        help="Draw a map or variable as a histogram, or do not; may be given several times.",
    ),
    per_cpu: bool = typer.Option(False, "--per-cpu", help="Show the values of each CPU, not their sums."),
    variable: list[str] = typer.Option(
        None,
        metavar="NAME=VALUE",
        help="The first value of a global variable, constants included; may be given several times.",
    ),
    cflag: list[str] = typer.Option(None, "--cflag", help="An extra compiler flag; may be given several times."),
    live: bool = typer.Option(True, help="On a terminal: keep the maps in view while the command runs."),
) -> None:
    """Load a program, attach it, run a command (or wait for Ctrl-C), and show what the program says and counts.

    Records of ring and perf buffers, bpf_printk() lines and output streams are shown as they come, maps and global variables in
    view and at the end. The exit status is the command's. What the tool itself says goes to stderr.

    Examples:

        bpf2py run examples/exec_counts.bpf.c -- make -j2

        bpf2py run counter.bpf.c --duration 10 --json

        bpf2py run packets.bpf.c --attach count:device=eth0,mode=generic

        bpf2py run -e 'SEC("tracepoint/sched/sched_process_exec") { bpf_printk("exec"); }' -- make
    """
    given = dict(zip(FLAGS, (device, cgroup, event, frequency, binary, symbol, pid), strict=True))
    if text is None and file is None:
        raise typer.wrong_usage("give a FILE, - for standard input, or --execute TEXT")
    command = command or []
    if text is not None and file is not None:  # then there is no FILE: it is the first word of the command
        command = [file, *command]
    histograms = chosen(histogram or [])
    selected, reason = choose_backend(backend)
    if selected == "engine" and not command:
        raise BpfError(f"engine backend ({reason}): its events are those of a command it runs: give one after --")
    spec, data, name = read(file, text, tuple(cflag or ()))
    types = record_codecs(spec, data, _types(type_of or []))
    _set_variables(spec, variable or [])
    with load(spec, selected) as obj:
        for each in only or ():
            if each not in obj.maps:
                raise BpfError(f"{name}: there is no map {each!r}: {', '.join(obj.maps)}")
        options = wanted(obj, attach or [], {flag: value for flag, value in given.items() if value is not None})
        with Sources(obj, types) as sources:
            session = Session(obj, sources, Shown(only or [], rows, as_json, per_cpu, histograms, live, interval))
            with session.stop.signals():
                links, left = attach_all(obj, options, name)
                hooks = ", ".join(link.hook for link in links)
                attached = len({link.program for link in links if link.program in obj.programs})
                say(
                    f"{obj.backend.name} backend ({reason}): attached {attached} of {len(obj.programs)} programs: {hooks}"
                )
                for warning in [*(f"not attached: {program}" for program in left), *sources.warnings]:
                    say(f"warning: {warning}")
                if selected == "engine":
                    warn_silent(link.hook for link in links)
                iterators = _iterators(spec, links)
                session.kept = {link.program for link in iterators}
                alone = not command and len(iterators) == len(links)  # then there is nothing to wait for
                status = 0 if alone else session.run(command, duration)
                session.read_iterators(iterators)
            session.finish(command, status)
    raise typer.Exit(status)


FLAGS = ("device", "cgroup", "event", "frequency", "binary", "symbol", "pid")


def _set_variables(spec: ObjectSpec, texts: list[str]) -> None:
    """What ``--variable`` says."""
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in spec.variables:
            there = ", ".join(spec.variables) or "none, for it has no variables"
            raise BpfError(f"--variable {text}: write NAME=VALUE with one of {there}")
        spec.variables[name].value = parse(spec.variables[name].codec, value, f"variable {name}:")


def _types(texts: list[str]) -> dict[str, str]:
    """What ``--type`` says: types by map, under an empty name that of all maps."""
    pairs = [text.partition("=") for text in texts]
    return {name if equals else "": value if equals else name for name, equals, value in pairs}


def read(file: str, text: str | None, cflags: tuple[str, ...]) -> tuple[ObjectSpec, bytes, str]:
    """(spec, object file, name for messages) of what is to be run."""
    name = "-e" if text is not None else "standard input" if file == "-" else file
    with _progress(f"compiling {name}" if name.endswith((".c", ".py", "-e", "input")) else f"reading {name}"):
        if text is not None:
            data = _compiled(program(text), cflags)
        elif file == "-":
            data = _compiled(sys.stdin.read() + "\n", cflags)
        elif not os.path.exists(name):
            kind = "source file" if name.endswith((".c", ".py")) else "file"
            raise FileNotFoundError(2, f"no such {kind}{example_hint(name)}", name)
        elif name.endswith((".c", ".py")):
            data = _compiled(name, cflags)
        else:
            with open(name, "rb") as opened:
                data = opened.read()
        short = object_name(file) if name == file else "program"
        spec = ObjectSpec._read(data, short, name)
    return spec, data, name


def _compiled(source: str, cflags: tuple[str, ...]) -> bytes:
    return compile(source, cflags=cflags)


def _iterators(spec: ObjectSpec, links: list[Link]) -> list[Link]:
    names = {name for name, program in spec.programs.items() if program.attach_type == AttachType.TRACE_ITER}
    return [link for link in links if link.program in names]


def choose_backend(wanted: str) -> tuple[str, str]:
    """(backend, why this one): ``auto`` becomes what this process may use."""
    if wanted != "auto":
        return wanted, "as asked for"
    if Probes.run().kernel_usable:
        return "kernel", "bpf() is permitted"
    return "engine", f"bpf() is not permitted: {explain_eperm('BPF_PROG_LOAD')}"


def warn_silent(hooks: Iterable[str]) -> None:
    """Say which programs will never run: nobody shall watch nothing without knowing."""
    silent = [hook for hook in hooks if not can_fire(hook)]
    if silent:
        say(f"warning: these never happen on the engine, use the kernel for them: {', '.join(silent)}")


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
