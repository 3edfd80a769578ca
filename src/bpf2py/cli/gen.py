"""`bpf2py gen`: a typed module and its object from eBPF C."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from bpf2py.errors import BpfError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(gen)


def gen(
    ident: str = typer.Argument(..., metavar="IDENT", help="Names the module: IDENT_bpfel.py."),
    source: Path = typer.Argument(..., metavar="SOURCE", help="A .bpf.c source, or a compiled object."),
    cflags: list[str] = typer.Argument(None, metavar="[-- CFLAGS...]", help="Extra compiler flags."),
    output_dir: Path = typer.Option(Path("."), help="Where to write."),
    output_stem: str = typer.Option(None, help="Begin of the file names, in place of IDENT."),
    type_name: list[str] = typer.Option(
        None, "--type", help="Also write this struct, union or enum; may be given several times."
    ),
    embed: bool = typer.Option(False, "--embed", help="Put the object into the module instead of a file beside it."),
    check: bool = typer.Option(
        False, "--check", help="Write nothing; exit status 1 when the files are not up to date."
    ),
) -> None:
    """Compile eBPF C and write a typed Python module for its maps, programs, variables and types.

    The same source and compiler give the same bytes. `Objects.load()` in the module loads the object.

    Examples:

        bpf2py gen counter counter.bpf.c

        bpf2py gen counter counter.bpf.c --embed --type event -- -DDEBUG
    """
    from bpf2py.codegen.module import generate
    from bpf2py.codegen.runtime import embed as embedded
    from bpf2py.spec.object_spec import ObjectSpec, object_name
    from bpf2py.toolchain.compiler import compile

    if not ident.isidentifier():
        raise BpfError(f"{ident!r} is no Python identifier; the module is named after it")
    stem = f"{output_stem or ident}_bpfel"
    flags = (f"-ffile-prefix-map={source.resolve().parent}=.", *(cflags or ()))
    data = compile(source, cflags=flags) if source.suffix == ".c" else source.read_bytes()
    spec = ObjectSpec.from_bytes(data, object_name(source))
    object_file = spec.name if embed else f"{stem}.o"
    text = generate(ident, spec, object_file, source.name, embedded(data) if embed else None, type_name)
    files = {output_dir / f"{stem}.py": text.encode()}
    if not embed:
        files[output_dir / object_file] = data
    stale = [path for path, content in files.items() if not path.exists() or path.read_bytes() != content]
    if check:
        if stale:
            raise BpfError(f"not up to date: {', '.join(map(str, stale))}; run bpf2py gen again")
        return
    for path, content in files.items():
        os.makedirs(path.parent, exist_ok=True)
        path.write_bytes(content)
        print(f"bpf2py: wrote {path}", file=sys.stderr)
