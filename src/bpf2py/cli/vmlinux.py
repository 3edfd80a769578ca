"""`bpf2py vmlinux`: vmlinux.h from the running kernel's BTF, or from a file."""

from __future__ import annotations

import sys

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(vmlinux)


def vmlinux(
    btf: str = typer.Option(
        None, help="Read this BTF file (raw, or an ELF file with .BTF) instead of the running kernel's."
    ),
    root: list[str] = typer.Option(
        None, "--root", help="Write only types with this name and what they reach; repeatable."
    ),
) -> None:
    """Print the kernel's types as a C header.

    Examples:

        bpf2py vmlinux > vmlinux.h

        bpf2py vmlinux --root task_struct | less
    """
    from bpf2py.btf.cdump import dump_c, vmlinux_header
    from bpf2py.btf.reader import Btf

    if btf is None:
        text = vmlinux_header(root or None)
    else:
        with open(btf, "rb") as file:
            text = dump_c(Btf.from_elf_or_raw(file.read(), name=btf), root or None)
    sys.stdout.write(text)
