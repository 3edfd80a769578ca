"""`bpf2py packets`: a capture through an XDP, tc or socket filter program, without privileges."""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import ExitStack

from bpf2py._typing import TYPE_CHECKING
from bpf2py.cli import declared as typer
from bpf2py.cli.render import lines, map_json, readable, view
from bpf2py.engine import Engine
from bpf2py.engine.programs.packet import SKB_TYPES
from bpf2py.engine.trace.pcap import LINKTYPE_ETHERNET, LINKTYPE_RAW, PcapWriter, read_packets
from bpf2py.engine.trace.replay import replay
from bpf2py.errors import BpfError
from bpf2py.loading import load
from bpf2py.printable import printable
from bpf2py.uapi.program_types import ProgramType

if TYPE_CHECKING:
    from bpf2py.engine import Engine
    from bpf2py.object import Object
    from bpf2py.programs import Program


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(packets)


def packets(
    file: str = typer.Argument(..., metavar="FILE", help="A .bpf.c source, or a compiled object."),
    capture: str = typer.Argument(..., metavar="CAPTURE", help="A pcap or pcapng file."),
    output: str = typer.Option(
        None, "--output", "-o", help="Write the packets that pass, as the program left them, to this pcap file."
    ),
    program: str = typer.Option(None, help="The program, where the object has several that see packets."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object, nothing else."),
    limit: int = typer.Option(None, min=1, help="Stop after so many packets."),
    rows: int = typer.Option(20, min=1, help="Elements shown of each map."),
) -> None:
    """Run a program on captured packets in the embedded engine, count its verdicts, and show its maps.

    Examples:

        bpf2py packets filter.bpf.c traffic.pcap

        bpf2py packets rewrite.bpf.c traffic.pcapng -o rewritten.pcap --json
    """
    engine = Engine()
    with load(file, engine) as obj, ExitStack() as stack:
        chosen = choose(obj, program)
        verdicts, sizes = run(engine, chosen, capture, output, limit, stack)
        report(obj, chosen.name, verdicts, sizes, as_json, rows)


def choose(obj: Object, name: str | None) -> Program:
    """The program to run. Raises BpfError when it is not clear which."""
    if name is not None:
        try:
            return obj.programs[name]
        except KeyError as error:
            raise BpfError(str(error.args[0])) from None
    found = [p for p in obj.programs.values() if p.type == ProgramType.XDP or p.type in SKB_TYPES]
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise BpfError(f"{obj.spec.name}: programs that see packets: {names}; say which with --program")
    return found[0]


def run(
    engine: Engine, program: Program, capture: str, output: str | None, limit: int | None, stack: ExitStack
) -> tuple[Counter[str], dict[str, int]]:
    """(packets by verdict, numbers of packets and bytes)."""
    from itertools import islice

    writer: PcapWriter | None = None
    verdicts: Counter[str] = Counter()
    sizes = {"packets": 0, "passed": 0, "changed": 0}
    for replayed in replay(engine, program, islice(read_packets(capture), limit)):
        verdicts[replayed.verdict] += 1
        sizes["packets"] += 1
        if not replayed.passed:
            continue
        sizes["passed"] += 1
        sizes["changed"] += replayed.result.data != replayed.packet.data
        if output is not None:
            if writer is None:
                linktype = LINKTYPE_RAW if replayed.packet.raw else LINKTYPE_ETHERNET
                writer = stack.enter_context(PcapWriter(output, linktype))
            writer.write(replayed.result.data, replayed.packet.time_ns)
    if output is not None and writer is None:
        stack.enter_context(PcapWriter(output))  # nothing passed: a capture without packets
    return verdicts, sizes


def report(obj: Object, name: str, verdicts: Counter[str], sizes: dict[str, int], as_json: bool, rows: int) -> None:
    """Print what happened."""
    maps = [m for m in obj.maps.values() if readable(m) and (m.spec is None or not m.spec.is_section)]
    if as_json:
        print(
            json.dumps(
                {"program": name, **sizes, "verdicts": dict(verdicts), "maps": {m.name: map_json(m) for m in maps}}
            )
        )
        return
    changed = f", {sizes['changed']} of them changed" if sizes["changed"] else ""
    print(f"{printable(name)}: {sizes['packets']} packets, {sizes['passed']} passed{changed}")
    for verdict, count in verdicts.most_common():
        print(f"  {verdict:10} {count}")
    for bpf_map in maps:
        print("\n".join(lines(view(bpf_map, rows))))
    sys.stdout.flush()
