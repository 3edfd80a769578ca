"""`bpf2py inspect`: what is in an object file, without loading it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from bpf2py.spec.object_spec import ObjectSpec
    from bpf2py.spec.program_spec import Function, ProgramSpec


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(inspect)


def inspect(
    file: str = typer.Argument(..., metavar="FILE", help="An object file, or a .bpf.c source."),
    code: bool = typer.Option(False, "--code", "-d", help="Disassemble the programs, with their source lines."),
    types: bool = typer.Option(False, "--types", "-t", help="Print the object's types as C."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object, for programs."),
) -> None:
    """Show maps, programs, variables, externs and CO-RE relocations of an object. Needs no rights and no kernel.

    Examples:

        bpf2py inspect counter.bpf.o

        bpf2py inspect counter.bpf.c --code

        bpf2py inspect counter.bpf.o --json | jq .maps
    """
    from bpf2py.loading import read_spec

    spec = read_spec(file)
    if as_json:
        typer.echo(json.dumps(_report(spec), indent=2))
        return
    _print(spec)
    if code:
        for program in spec.programs.values():
            typer.echo(f"\n{program.name}: SEC({program.section!r})")
            for line in listing(spec, program.function):
                typer.echo(line)
    if types and spec.types is not None:
        from bpf2py.btf.cdump import dump_c

        typer.echo()
        typer.echo(dump_c(spec.types))


def _report(spec: ObjectSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "license": spec.license,
        "maps": {
            m.name: {
                "type": m.type_name,
                "key_size": m.key_size,
                "value_size": m.value_size,
                "max_entries": m.max_entries,
                "flags": int(m.flags),
                "key": _type(spec, m.key_type_id),
                "value": _type(spec, m.value_type_id),
            }
            for m in spec.maps.values()
        },
        "programs": {
            p.name: {
                "section": p.section,
                "type": p.type.name,
                "attach_type": p.attach_type.name if p.attach_type is not None else None,
                "target": p.target,
                "instructions": len(p.function.code) // 8,
                "core_relocations": _relocations(spec, p),
            }
            for p in spec.programs.values()
        },
        "variables": {
            v.name: {"section": v.map.name, "offset": v.offset, "size": v.size, "type": _type(spec, v.type_id)}
            for v in spec.variables.values()
        },
        "externs": {
            e.name: {"section": e.section, "weak": e.weak, "function": e.function} for e in spec.externs.values()
        },
    }


def _type(spec: ObjectSpec, type_id: int) -> str:
    if spec.types is None or not type_id:
        return ""
    from bpf2py.btf.cdump import declaration

    return declaration(spec.types, type_id)


def _relocations(spec: ObjectSpec, program: ProgramSpec) -> list[str]:
    from bpf2py.linker.core import describe

    if spec.types is None:
        return []
    return [describe(spec.types, reloc) for reloc in program.function.core_relocs]


def _print(spec: ObjectSpec) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"[bold]{spec.name}[/] license {spec.license or '(none)'}", soft_wrap=True)
    table = Table("map", "type", "key", "value", "max_entries", "flags", box=None, pad_edge=False, header_style="bold")
    for m in spec.maps.values():
        key = _type(spec, m.key_type_id) or f"{m.key_size} bytes"
        value = _type(spec, m.value_type_id) or f"{m.value_size} bytes"
        flags = (m.flags.name or "") if m.flags else ""
        table.add_row(m.name, m.type_name, key, value, str(m.max_entries), flags)
    programs = Table(
        "program", "section", "type", "instructions", "CO-RE", box=None, pad_edge=False, header_style="bold"
    )
    for p in spec.programs.values():
        relocations = str(len(p.function.core_relocs)) if p.function.core_relocs else ""
        programs.add_row(p.name, p.section, p.type.name, str(len(p.function.code) // 8), relocations)
    variables = Table("variable", "type", "section", "offset", box=None, pad_edge=False, header_style="bold")
    for v in spec.variables.values():
        variables.add_row(v.name, _type(spec, v.type_id) or f"{v.size} bytes", v.map.name, str(v.offset))
    externs = Table("extern", "section", "", box=None, pad_edge=False, header_style="bold")
    for e in spec.externs.values():
        externs.add_row(e.name, e.section, "weak" if e.weak else "")
    for shown in (table, programs, variables, externs):
        if shown.row_count:
            console.print()
            console.print(shown)


def listing(spec: ObjectSpec, function: Function) -> list[str]:
    """The instructions of a function with source lines, names of maps and functions, and CO-RE relocations."""
    from bpf2py.isa.disasm import disassemble
    from bpf2py.linker.core import describe
    from bpf2py.linker.link import source_text
    from bpf2py.spec.program_spec import RefKind

    symbols = {}
    for ref in function.refs:
        if ref.kind in (RefKind.CALL, RefKind.FUNC_ADDRESS):
            callee = spec.functions.get((ref.section, ref.value))
            symbols[ref.offset // 8] = callee.name if callee is not None else f"+{ref.value}"
        else:
            symbols[ref.offset // 8] = ref.name + (f"+{ref.value}" if ref.kind == RefKind.DATA else "")
    lines = {line.offset // 8: line for line in function.lines}
    relocations = {reloc.offset // 8: reloc for reloc in function.core_relocs}
    out: list[str] = []
    shown = ""
    for line in disassemble(function.code, symbols=symbols):
        source = lines.get(line.slot)
        if source is not None and spec.types is not None:
            text = source_text(source, spec.types)
            if text != shown:
                out.append(f"; {text}")
            shown = text
        relocation = relocations.get(line.slot)
        note = (
            f"  // CO-RE {describe(spec.types, relocation)}"
            if relocation is not None and spec.types is not None
            else ""
        )
        out.append(f"{line}{note}")
    return out
