"""`bpf2py vmlinux`: vmlinux.h from the running kernel's BTF, or from a file."""

from __future__ import annotations

import sys

from bpf2py.btf.cdump import dump_c
from bpf2py.btf.reader import Btf
from bpf2py.btf.vmlinux import vmlinux as running
from bpf2py.cli import declared as typer
from bpf2py.errors import BtfError
from bpf2py.lang.stubs import stubs as python_stubs


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
    stubs: list[str] = typer.Option(
        None, "--stubs", help="Write Python stubs (.pyi) of this type for an editor, in place of C; repeatable."
    ),
) -> None:
    """Print the kernel's types as a C header, or as stubs for programs in Python.

    Examples:

        bpf2py vmlinux > vmlinux.h

        bpf2py vmlinux --root task_struct | less

        bpf2py vmlinux --btf 4.19.0-21-amd64.btf > vmlinux.h

        bpf2py vmlinux --stubs task_struct --stubs sock > vmlinux.pyi
    """
    if btf is None:
        types = running()
    else:
        with open(btf, "rb") as file:
            types = Btf.from_elf_or_raw(file.read(), name=btf)
    for name in [*(root or ()), *(stubs or ())]:
        if not types.ids_by_name(name):
            raise BtfError(f"there is no type {name!r} in {btf or 'the types of the running kernel'}")
    if stubs:
        sys.stdout.write(python_stubs(types, stubs))
        return
    sys.stdout.write(dump_c(types, root or None))
