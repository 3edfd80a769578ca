"""`bpf2py export`: metrics of the machine's maps, programs and links for Prometheus."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import ExitStack

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING
from bpf2py.cli import declared as typer
from bpf2py.errors import BpfError, EncodeError
from bpf2py.programs import enable_stats

if TYPE_CHECKING:
    from bpf2py.export import machine, server
else:
    machine = module("bpf2py.export.machine")
    server = module("bpf2py.export.server")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def export(
    listen: str = typer.Option("127.0.0.1:9435", "--listen", metavar="HOST:PORT", help="Where to serve."),
    name: list[str] = typer.Option(
        None, "--name", metavar="PATTERN", help="Only maps and programs of such names; several times."
    ),
    stats: bool = typer.Option(True, help="Enable run statistics meanwhile, which costs each run some nanoseconds."),
    series: int = typer.Option(20_000, "--max-series", min=1, help="Series at most; what is left out is counted."),
    once: bool = typer.Option(False, "--once", help="Print the metrics and exit."),
    token_file: str = typer.Option(
        None, "--token-file", metavar="FILE", help="A file with the bearer token to ask for."
    ),
    certificate: str = typer.Option(None, "--tls-cert", metavar="FILE", help="The certificate for TLS."),
    key: str = typer.Option(None, "--tls-key", metavar="FILE", help="Its key."),
) -> None:
    """Serve metrics of all maps, programs and links of the machine for Prometheus, until Ctrl-C. Needs CAP_SYS_ADMIN.

    Pressure and memory of maps, runs and run time of programs, where programs are attached: read when they are asked for.
    /metrics has them, /healthz says that the exporter lives. Needs `pip install 'bpf2py[prometheus]'`.

    Examples:

        bpf2py export

        bpf2py export --listen 0.0.0.0:9435 --name 'flow_*' --token-file /run/secrets/token

        bpf2py export --once | grep pressure
    """
    collector = machine.MachineCollector(name or (), series)
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    if once:
        sys.stdout.write(generate_latest(registry).decode())
        return
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise EncodeError(f"--listen is HOST:PORT, not {listen!r}")
    with ExitStack() as stack:
        if stats:
            stack.enter_context(enable_stats())
        served, _ = server.serve(
            registry, host.strip("[]"), int(port), token=_token(token_file), certificate=certificate, key=key
        )
        stack.callback(served.server_close)
        stack.callback(served.shutdown)
        print(
            f"bpf2py: metrics at http{'s' if certificate else ''}://{host}:{served.server_port}/metrics",
            file=sys.stderr,
        )
        threading.Event().wait()


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
