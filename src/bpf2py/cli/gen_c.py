"""`bpf2py gen-c`: the C that a program in Python becomes."""

from __future__ import annotations

import sys
from pathlib import Path

from bpf2py.cli import declared as typer
from bpf2py.lang.translate import to_c


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("gen-c")(gen_c)


def gen_c(
    source: Path = typer.Argument(..., metavar="SOURCE", help="A program in Python (bpf2py.lang)."),
    line_directives: bool = typer.Option(
        False, "--line-directives", help="Write #line directives for a compiler in place of comments with the lines."
    ),
) -> None:
    """Print the C of a program in Python, with the program's lines as comments.

    It needs a vmlinux.h (bpf2py vmlinux), <bpf/bpf_helpers.h> and its kin, and -fwrapv: integers wrap in Python programs.

    Examples:

        bpf2py gen-c opens.py > opens.bpf.c
    """
    sys.stdout.write(to_c(source.read_bytes(), source, directives=line_directives))
