"""`bpf2py gen`: a typed module and its object from eBPF C."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from bpf2py.errors import BpfError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(gen)


# Of the files' names, by target; as bpf2go has it.
SUFFIXES = {"bpfel": "_bpfel", "bpf": "_bpf", "native": "_bpfel" if sys.byteorder == "little" else "_bpfeb"}
if sys.byteorder == "big":
    del SUFFIXES["native"], SUFFIXES["bpf"]


def depfile(made: Path, source: Path, flags: Sequence[str], base: Path) -> bytes:
    """A rule for make: the generated module is out of date when one of the user's files changes."""
    from bpf2py.toolchain.headers import reach, search_path

    def relative(path: str | Path) -> str:
        return os.path.relpath(path, base).replace("$", "$$").replace("#", "\\#").replace(" ", "\\ ")

    names = [relative(source)]
    if source.suffix == ".c":
        home = str(source.resolve().parent)
        names += map(relative, reach(source.read_bytes(), home, search_path(flags)).files)
    return "".join([f"{relative(made)}:", *(f" \\\n {name}" for name in names), "\n"]).encode()


def gen(
    ident: str = typer.Argument(..., metavar="IDENT", help="Names the module: IDENT_bpfel.py."),
    source: Path = typer.Argument(..., metavar="SOURCE", help="A .bpf.c source, or a compiled object."),
    cflags: list[str] = typer.Argument(None, metavar="[-- CFLAGS...]", help="Extra compiler flags."),
    target: str = typer.Option(
        "bpfel",
        envvar="BPF2PY_TARGET",
        help="bpfel (little-endian), native (this machine) or bpf (the same, no suffix 'el').",
    ),
    output_dir: Path = typer.Option(Path("."), envvar="BPF2PY_OUTPUT_DIR", help="Where to write."),
    output_stem: str = typer.Option(
        None, envvar="BPF2PY_OUTPUT_STEM", help="Begin of the file names, in place of IDENT."
    ),
    cc: str = typer.Option(None, envvar="BPF2PY_CC", help="The compiler: a command, or ziglang."),
    more_cflags: str = typer.Option(
        "", "--cflags", envvar="BPF2PY_CFLAGS", help="Compiler flags as one string; those behind -- come after them."
    ),
    strip: bool = typer.Option(True, envvar="BPF2PY_STRIP", help="Leave debug information out of the object."),
    makebase: Path = typer.Option(
        None,
        envvar="BPF2PY_MAKEBASE",
        help="Also write dependencies for make (a .d file), with paths relative to this directory.",
    ),
    global_types: bool = typer.Option(True, help="Write the structs and enums of maps and variables."),
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
    from bpf2py.codegen.strip import strip as stripped
    from bpf2py.spec.object_spec import ObjectSpec, object_name
    from bpf2py.toolchain.compiler import compile_with_log

    if not ident.isidentifier():
        raise BpfError(f"{ident!r} is no Python identifier; the module is named after it")
    if target not in SUFFIXES:
        raise BpfError(f"--target {target}: objects are little-endian; choose {', '.join(SUFFIXES)}")
    if cc:
        os.environ["BPF2PY_CC"] = cc
    stem = f"{output_stem or ident}{SUFFIXES[target]}"
    flags = (f"-ffile-prefix-map={source.resolve().parent}=.", *shlex.split(more_cflags), *(cflags or ()))
    if source.suffix == ".c":
        if not source.exists():
            raise FileNotFoundError(2, "no such source file", str(source))
        data = compile_with_log(source, cflags=flags).data
    else:
        data = source.read_bytes()
    if strip:
        data = stripped(data)
    spec = ObjectSpec.from_bytes(data, object_name(source))
    object_file = spec.name if embed else f"{stem}.o"
    embedded_text = embedded(data) if embed else None
    text = generate(ident, spec, object_file, source.name, embedded_text, type_name, global_types=global_types)
    files = {output_dir / f"{stem}.py": text.encode()}
    if not embed:
        files[output_dir / object_file] = data
    if makebase is not None:
        files[output_dir / f"{stem}.d"] = depfile(output_dir / f"{stem}.py", source, flags, makebase)
    stale = [path for path, content in files.items() if not path.exists() or path.read_bytes() != content]
    if check:
        if stale:
            raise BpfError(f"not up to date: {', '.join(map(str, stale))}; run bpf2py gen again")
        return
    for path, content in files.items():
        os.makedirs(path.parent, exist_ok=True)
        path.write_bytes(content)
        print(f"bpf2py: wrote {path}", file=sys.stderr)
