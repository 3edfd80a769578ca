"""`bpf2py gen`: a typed module and its object from eBPF C."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from bpf2py.cli import declared as typer
from bpf2py.codegen.build import Request, produce, stale, write
from bpf2py.errors import BpfError
from bpf2py.printable import printable


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(gen)


def gen(
    ident: str = typer.Argument(..., metavar="IDENT", help="Names the module: IDENT_bpfel.py."),
    source: Path = typer.Argument(..., metavar="SOURCE", help="A .bpf.c source, or a compiled object."),
    cflags: list[str] = typer.Argument(None, metavar="[-- CFLAGS...]", help="Extra compiler flags."),
    target: str = typer.Option(
        "bpfel",
        envvar="BPF2PY_TARGET",
        help="bpfel (little-endian), native (this machine), bpf (the same, no suffix 'el'), or amd64 or arm64, whose "
        "registers programs on probes read then. bpfeb is refused: "
        "machines with big-endian kernels are not supported, and nothing could load the object.",
    ),
    output_dir: Path = typer.Option(Path("."), envvar="BPF2PY_OUTPUT_DIR", help="Where to write."),
    output_stem: str = typer.Option(
        None, envvar="BPF2PY_OUTPUT_STEM", help="Begin of the file names, in place of IDENT."
    ),
    cc: str = typer.Option(None, envvar="BPF2PY_CC", help="The compiler: a command, or ziglang."),
    more_cflags: str = typer.Option(
        "", "--cflags", envvar="BPF2PY_CFLAGS", help="Compiler flags as one string; those after -- come after them."
    ),
    strip: bool = typer.Option(True, envvar="BPF2PY_STRIP", help="Leave debug information out of the object."),
    makebase: Path = typer.Option(
        None,
        envvar="BPF2PY_MAKEBASE",
        help="Also write dependencies for make (a .d file), with paths relative to this directory.",
    ),
    global_types: bool = typer.Option(
        True, envvar="BPF2PY_GLOBAL_TYPES", help="Write the types of maps and variables."
    ),
    type_name: list[str] = typer.Option(
        None,
        "--type",
        envvar="BPF2PY_TYPE",
        help="Also write this struct, union, enum or typedef; may be given several times.",
    ),
    embed: bool = typer.Option(
        False, "--embed", envvar="BPF2PY_EMBED", help="Put the object into the module instead of a file beside it."
    ),
    check: bool = typer.Option(
        False, "--check", envvar="BPF2PY_CHECK", help="Write nothing; exit status 1 when the files are not up to date."
    ),
) -> None:
    """Compile eBPF C and write a typed Python module for its maps, programs, variables and types.

    The same source and compiler give the same bytes. `Objects.load()` in the module loads the object.

    Examples:

        bpf2py gen counter counter.bpf.c

        bpf2py gen counter counter.bpf.c --embed --type event -- -DDEBUG
    """
    request = Request(
        ident,
        source,
        output_dir=output_dir,
        output_stem=output_stem,
        target=target,
        cflags=(*shlex.split(more_cflags), *(cflags or ())),
        cc=cc,
        strip=strip,
        embed=embed,
        types=tuple(type_name or ()),
        global_types=global_types,
        makebase=makebase,
    )
    files = produce(request)
    if check:
        found = stale(files)
        if found:
            raise BpfError(f"not up to date: {', '.join(map(str, found))}; run bpf2py gen again")
        return
    write(files)
    for path in files:
        print(f"bpf2py: wrote {printable(str(path))}", file=sys.stderr)
