"""`bpf2py export`: metrics of programs, and of the machine's maps, programs and links, for Prometheus."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack, nullcontext

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.cli import declared as typer
from bpf2py.errors import BpfError, EncodeError, PermissionDenied
from bpf2py.programs import enable_stats

if TYPE_CHECKING:
    from bpf2py.export import client, collector, machine, push, server, service, spans
    from bpf2py.kernel import capabilities
else:
    client = module("bpf2py.export.client")
    collector = module("bpf2py.export.collector")
    machine = module("bpf2py.export.machine")
    push = module("bpf2py.export.push")
    server = module("bpf2py.export.server")
    service = module("bpf2py.export.service")
    spans = module("bpf2py.export.spans")
    capabilities = module("bpf2py.kernel.capabilities")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def export(
    objects: list[str] = typer.Argument(
        None,
        metavar="[PROGRAM...]",
        help="Programs whose maps are annotated (<bpf2py/metrics.h>): .bpf.c, .bpf.o, .py.",
    ),
    config: list[str] = typer.Option(
        None,
        "--config",
        metavar="FILE",
        help="A config of ebpf_exporter: FILE.yaml, with FILE.bpf.c or FILE.bpf.o next to it; can be repeated.",
    ),
    check: bool = typer.Option(
        False,
        "--check",
        help="Load nothing: compare labels with the members of keys, and exit (with 1 if something is wrong).",
    ),
    with_machine: bool = typer.Option(
        False, "--machine", help="Also export the maps, programs and links of the machine."
    ),
    listen: str = typer.Option(
        "127.0.0.1:9435",
        "--listen",
        metavar="HOST:PORT",
        help="Where to serve; none to serve nothing and only send metrics with --otlp.",
    ),
    name: list[str] = typer.Option(
        None,
        "--name",
        metavar="PATTERN",
        help="Only those maps and programs of the machine whose names match; can be repeated.",
    ),
    stats: bool = typer.Option(
        True, help="Enable run statistics while it runs, which costs each run of a program a few nanoseconds."
    ),
    series: int = typer.Option(
        20_000, "--max-series", min=1, help="The largest number of series; those left out are counted."
    ),
    pin: str = typer.Option(
        None,
        "--pin",
        metavar="DIR",
        help="Pin the exported maps there, so that the next exporter continues with their counts.",
    ),
    expire: float = typer.Option(
        None,
        "--expire-after",
        metavar="SECONDS",
        min=0,
        help="Remove the elements of processes and cgroups from the maps, so many seconds after they ended.",
    ),
    keep: str = typer.Option(
        None,
        "--keep-capabilities",
        metavar="NAMES",
        help="Once everything is attached, drop all other capabilities (separated by commas, or none).",
    ),
    otlp: str = typer.Option(
        None,
        "--otlp",
        metavar="URL",
        help="Send metrics, and the spans of configs (tracing:), to an OpenTelemetry collector, such as http://localhost:4318.",
    ),
    otlp_interval: float = typer.Option(
        60, "--otlp-interval", metavar="SECONDS", min=0, help="How often --otlp sends metrics; 0 to send only spans."
    ),
    once: bool = typer.Option(False, "--once", help="Print the metrics and exit."),
    token_file: str = typer.Option(
        None, "--token-file", metavar="FILE", help="A file with the bearer token that clients must send."
    ),
    certificate: str = typer.Option(None, "--tls-cert", metavar="FILE", help="The certificate for TLS."),
    key: str = typer.Option(None, "--tls-key", metavar="FILE", help="Its key."),
) -> None:
    """Serve metrics for Prometheus until Ctrl-C: of programs that it loads and attaches, or of everything loaded on the machine.

    A config file in ebpf_exporter's format, or annotations in the program itself, say which maps are metrics. On SIGHUP the files
    are read again, and counts continue. Without configs and programs it exports the pressure and memory of maps, runs and run time
    of programs, and where programs are attached (needs CAP_SYS_ADMIN). Everything is read during a scrape of /metrics; /healthz
    says whether the exporter is healthy. Needs the extra prometheus of bpf2py.

    Examples:

        bpf2py export

        bpf2py export --config biolatency.yaml --config tcp.yaml --keep-capabilities none

        bpf2py export requests.bpf.c --pin /sys/fs/bpf/requests --expire-after 60

        bpf2py export --config biolatency.yaml --check

        bpf2py export --listen 0.0.0.0:9435 --name 'flow_*' --token-file /run/secrets/token

        bpf2py export --once | grep pressure
    """
    paths = [*(config or ()), *(objects or ())]
    kept = None if keep is None else [] if keep == "none" else keep.split(",")
    if check:
        _check(paths)
        return
    if not paths and (pin is not None or expire is not None):
        raise EncodeError("--pin and --expire-after apply to programs: name one, or a --config")
    if listen == "none" and (otlp is None or not otlp_interval):
        raise EncodeError("--listen none: metrics would go nowhere; give --otlp URL")
    of_machine = with_machine or not paths
    if of_machine and kept is not None and not any("sys_admin" in each.lower() for each in kept):
        raise EncodeError("metrics of the machine need CAP_SYS_ADMIN at every scrape: --keep-capabilities sys_admin")
    address = _address(listen) if listen != "none" else None
    token = _token(token_file)
    with ExitStack() as stack:
        registry, exporter, lock = _registry(stack, paths, of_machine, stats, series, name, pin, expire, otlp)
        if kept is not None:
            capabilities.keep_capabilities(kept)
        if not once:
            # Waited for below; threads that are started from here on leave them to that.
            awaited = {signal.SIGTERM} if exporter is None else {signal.SIGTERM, signal.SIGHUP}
            former = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
            stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, former)
        if exporter is not None:
            exporter.run()
        pushed = None
        if otlp is not None and otlp_interval:
            pushed = push.MetricsPush(registry, otlp, otlp_interval)
            stack.callback(pushed.close)
        if once:
            from prometheus_client import generate_latest

            sys.stdout.write(generate_latest(registry).decode())
            return
        if pushed is not None:
            pushed.start()
            _say([f"metrics are sent to {otlp} every {otlp_interval:g} s"])
        if address is not None:
            served, _ = server.serve(
                registry,
                *address,
                token=token,
                certificate=certificate,
                key=key,
                problems=exporter.problems if exporter is not None else tuple,
            )
            stack.callback(served.server_close)
            stack.callback(served.shutdown)
            scheme = "https" if certificate else "http"
            _say([f"metrics at {scheme}://{listen.rpartition(':')[0]}:{served.server_port}/metrics"])
        while signal.sigwaitinfo(awaited).si_signo == signal.SIGHUP:
            with lock:
                lines = exporter.reload()
            _say(lines or [f"{len(paths)} file{'s' if len(paths) > 1 else ''} read again"])
            _say(exporter.unattached())


def _registry(
    stack: ExitStack,
    paths: list[str],
    of_machine: bool,
    stats: bool,
    series: int,
    names: list[str] | None,
    pin: str | None,
    expire: float | None,
    otlp: str | None,
) -> tuple[Any, Any, Any]:
    """(registry, exporter of the programs or None, what is held while it changes)."""
    registry, exporter = client.new_registry(), None
    sink = spans.SpanSink(otlp) if otlp is not None else None  # which says what is wrong with the URL, or missing
    registered: list[Any] = [machine.MachineCollector(names or (), series)] if of_machine else []
    lock: Any = nullcontext()
    if stats:
        try:
            stack.enter_context(enable_stats())
        except PermissionDenied as error:
            if of_machine:
                raise
            stats = _stats_are_on()
            if not stats:
                _say([f"without run statistics: {error}"])
    if paths:
        exporter = stack.enter_context(service.Exporter(paths, pin=pin, expire_after=expire, sink=sink))
        _say(exporter.unattached())
        running = exporter
        made = collector.ConfigCollector(lambda: running.exported, series, stats=stats)
        registered.append(made)
        lock = made.lock
    for each in registered:
        registry.register(each)
    return registry, exporter, lock


def _stats_are_on() -> bool:
    """Whether run statistics are enabled for good (kernel.bpf_stats_enabled)."""
    try:
        with open("/proc/sys/kernel/bpf_stats_enabled", "rb") as file:
            return file.read(1) == b"1"
    except OSError:
        return False


def _check(paths: list[str]) -> None:
    if not paths:
        raise EncodeError("--check is about configs and programs: name one")
    wrong = 0
    for path in paths:
        found = service.check(path)
        wrong += len(found)
        for problem in found:
            typer.echo(f"{path}: {problem}")
        if not found:
            typer.echo(f"{path}: fits")
    if wrong:
        raise typer.Exit(1)


def _say(lines: list[str]) -> None:
    for line in lines:
        print(f"bpf2py: {line}", file=sys.stderr, flush=True)


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise EncodeError(f"--listen is HOST:PORT, not {listen!r}")
    return host.strip("[]"), int(port)


def _token(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(4097).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BpfError(f"{path}: {error}") from None
    if not text or len(text) > 4096 or not text.isprintable():
        raise BpfError(f"{os.path.basename(path)}: a token is one line of text")
    return text
