"""`bpf2py btf` and `bpf2py struct_ops`: types of the machine, and kernel interfaces that programs implement."""

from __future__ import annotations

import sys

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.btf.cdump import dump_c
from bpf2py.btf.reader import Btf
from bpf2py.cli import declared as typer
from bpf2py.cli.completion import complete_map, complete_program
from bpf2py.cli.objects import held, in_words
from bpf2py.cli.references import open_program
from bpf2py.cli.table import echo_rows
from bpf2py.cli.values import open_map
from bpf2py.errors import BpfError, BtfError
from bpf2py.kernel import inspect
from bpf2py.kernel.btf import btf_by_id
from bpf2py.kernel.objects import object_info, open_id
from bpf2py.kernel.syscall import Fd
from bpf2py.printable import printable
from bpf2py.uapi.commands import Command
from bpf2py.uapi.map_types import MapType

if TYPE_CHECKING:
    from bpf2py.btf.reader import Btf

JSON = typer.Option(False, "--json", help="Print a JSON list, for programs.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    btfs = typer.Typer(help="BTF: types of the kernel, its modules, and of programs and maps.", no_args_is_help=True)
    btfs.command("list")(list_btf)
    btfs.command("dump")(dump)
    app.add_typer(btfs, name="btf")
    operations = typer.Typer(help="Kernel interfaces that programs implement.", no_args_is_help=True)
    operations.command("list")(list_struct_ops)
    app.add_typer(operations, name="struct_ops")


def list_btf(as_json: bool = JSON) -> None:
    """List every BTF object: id, size, whose it is, who holds it. Needs CAP_SYS_ADMIN.

    Examples:

        bpf2py btf list

        bpf2py btf list --json
    """
    programs: dict[int, list[int]] = {}
    for program in inspect.programs():
        programs.setdefault(program.btf_id, []).append(program.id)
    maps: dict[int, list[int]] = {}
    for bpf_map in inspect.maps():
        maps.setdefault(bpf_map.btf_id, []).append(bpf_map.id)
    rows: list[dict[str, Any]] = [
        {
            "id": info.id,
            "name": info.name,
            "size": info.size,
            "kernel": info.kernel,
            "programs": programs.get(info.id, []),
            "maps": maps.get(info.id, []),
        }
        for info in inspect.btfs()
    ]
    held("btf", rows)
    if not as_json:
        rows = [{name: in_words(value) for name, value in row.items()} for row in rows]
    echo_rows(rows, ["id", "name", "size", "programs", "maps", "pids"], as_json)


def dump(
    source: str = typer.Argument(None, help="Id of a BTF object, or a file: raw BTF, or an ELF file with .BTF."),
    program: str = typer.Option(None, "--prog", help="The types of this program.", autocompletion=complete_program),
    bpf_map: str = typer.Option(None, "--map", help="The types of this map.", autocompletion=complete_map),
    root: list[str] = typer.Option(None, "--root", help="Only types with this name and what they reach; repeatable."),
    raw: bool = typer.Option(False, "--raw", help="A line for each type, with its number, instead of C."),
) -> None:
    """Print types as C, or one a line.

    Examples:

        bpf2py btf dump 1 --root task_struct

        bpf2py btf dump --prog count_exec

        bpf2py btf dump counter.bpf.o --raw
    """
    types = _types(source, program, bpf_map)
    for name in root or ():
        if not types.ids_by_name(name):
            raise BtfError(f"there is no type {name!r} in {types.name}")
    if raw:
        wanted = {ident for name in root or () for ident in types.ids_by_name(name)}
        for ident, found in types.types():
            if not wanted or ident in wanted:
                print(_line(ident, found))
    else:
        sys.stdout.write(dump_c(types, root or None))


def _types(source: str | None, program: str | None, bpf_map: str | None) -> Btf:
    given = [text for text in (source, program, bpf_map) if text is not None]
    if len(given) != 1:
        raise BpfError("give one of: an id or file, --prog, --map")
    if source is not None and not source.isdecimal():
        with open(source, "rb") as file:
            return Btf.from_elf_or_raw(file.read(), name=source)
    if source is not None:
        ident = int(source)
    elif program is not None:
        with open_program(program) as opened:
            ident = opened.info.btf_id
    else:
        with open_map(given[0]) as found_map:
            ident = found_map.info.btf_id
    found = btf_by_id(ident) if ident else None
    if found is None:
        raise BtfError(f"{given[0]}: it has no BTF, or this process may not read it (CAP_SYS_ADMIN)")
    return found


def _line(ident: int, found: Any) -> str:
    """A type as ``[5] STRUCT event size=24: pid@0 #2, comm@4 #7``."""
    parts = [f"[{ident}] {found.kind.name}"]
    if getattr(found, "name", ""):
        parts.append(printable(found.name))
    for name in ("size", "count"):
        if getattr(found, name, None) is not None:
            parts.append(f"{name}={getattr(found, name)}")
    if getattr(found, "type_id", None) is not None:
        parts.append(f"-> #{found.type_id}")
    rows = []
    for member in getattr(found, "members", ()):
        rows.append(f"{printable(member.name) or '(anonymous)'}@{member.bit_offset // 8} #{member.type_id}")
    for value in getattr(found, "values", ()):
        rows.append(f"{printable(value.name)}={value.value}")
    for parameter in getattr(found, "params", ()):
        rows.append(f"{printable(parameter.name) or '...'} #{parameter.type_id}")
    for place in getattr(found, "variables", ()):
        rows.append(f"#{place.type_id}@{place.offset}")
    return " ".join(parts) + (f": {', '.join(rows)}" if rows else "")


def list_struct_ops(as_json: bool = JSON) -> None:
    """List the kernel interfaces programs implement: the maps that hold them, and whether they are registered.

    Examples:

        bpf2py struct_ops list

        bpf2py struct_ops list --json
    """
    linked = {link.details.get("map_id") for link in inspect.links() if link.type == "struct_ops"}
    rows = []
    vmlinux_types = None
    for info in inspect.maps():
        if info.type != MapType.STRUCT_OPS:
            continue
        # struct bpf_map_info: btf_vmlinux_value_type_id names the kernel's struct bpf_struct_ops_NAME.
        vmlinux_types = vmlinux_types or btf_by_id(1)
        rows.append(
            {
                "id": info.id,
                "name": info.name,
                "interface": _interface(info.id, vmlinux_types),
                "linked": info.id in linked,
            }
        )
    echo_rows(rows, ["id", "name", "interface", "linked"], as_json)


def _interface(ident: int, types: Btf | None) -> str:
    import struct

    opened = open_id(Command.MAP_GET_FD_BY_ID, ident)
    if not isinstance(opened, Fd) or types is None:
        return ""
    try:
        result, buffer = object_info(opened.number, 80)
        (type_id,) = struct.unpack_from("<I", buffer.raw, 44)  # btf_vmlinux_value_type_id
        name = getattr(types.type(type_id), "name", "") if result >= 0 and 0 < type_id < len(types) else ""
    finally:
        opened.close()
    return str(name).removeprefix("bpf_struct_ops_")
