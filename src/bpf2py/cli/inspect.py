"""`bpf2py inspect`: what is in an object file, without loading it."""

from __future__ import annotations

import json

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.btf.cdump import declaration, dump_c
from bpf2py.cli import declared as typer
from bpf2py.errors import BpfError, NotSupported
from bpf2py.isa.disasm import disassemble
from bpf2py.kernel import btf as kernel_btf
from bpf2py.linker.core import Chosen, CoreTarget, describe, resolve
from bpf2py.linker.link import line_at, source_text
from bpf2py.loading import read_btf, read_spec
from bpf2py.printable import printable
from bpf2py.spec.program_spec import RefKind

if TYPE_CHECKING:
    from rich.text import Text

    from bpf2py.spec.object_spec import ObjectSpec
    from bpf2py.spec.program_spec import Function, ProgramSpec


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(inspect)


def inspect(
    file: str = typer.Argument(..., metavar="FILE", help="An object file, or a .bpf.c source."),
    code: bool = typer.Option(False, "--code", "-d", help="Disassemble the programs, with their source lines."),
    types: bool = typer.Option(False, "--types", "-t", help="Print the object's types as C."),
    relocations: bool = typer.Option(
        False, "--relocations", "-r", help="Show what each CO-RE relocation becomes in the running kernel."
    ),
    btf: str = typer.Option(
        None, "--btf", metavar="FILE", help="With --relocations: in the kernel this BTF (raw or ELF) belongs to."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object, for programs."),
) -> None:
    """Show maps, programs, variables, externs and CO-RE relocations of an object. Needs no rights and no kernel.

    Examples:

        bpf2py inspect counter.bpf.o

        bpf2py inspect counter.bpf.c --code

        bpf2py inspect counter.bpf.o --relocations --btf 5.10.btf

        bpf2py inspect counter.bpf.o --json | jq .maps
    """
    spec = read_spec(file)
    resolved = _resolved(spec, btf) if relocations or btf else None
    if as_json:
        report = _report(spec)
        if resolved is not None:
            report["relocations"] = resolved
        typer.echo(json.dumps(report, indent=2))
        return
    _print(spec)
    if resolved is not None:
        _print_relocations(resolved)
    if code:
        for program in spec.programs.values():
            typer.echo(f"\n{printable(program.name)}: SEC({program.section!r})")
            for line in listing(spec, program.function):
                typer.echo(printable(line, keep="\t"))
    if types and spec.types is not None:
        typer.echo()
        typer.echo(dump_c(spec.types))


def _report(spec: ObjectSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "license": spec.license,
        "architecture": spec.arch,
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
    return declaration(spec.types, type_id)


def _relocations(spec: ObjectSpec, program: ProgramSpec) -> list[str]:
    if spec.types is None:
        return []
    return [describe(spec.types, reloc) for reloc in program.function.core_relocs]


def _resolved(spec: ObjectSpec, btf: str | None) -> list[dict[str, Any]]:
    """Every CO-RE relocation of the object, with the value it has in a kernel (None: there is no such thing)."""
    if spec.types is None:
        return []
    given = read_btf(btf)
    if given is not None:
        target = CoreTarget(given)
    else:
        target = kernel_btf.core_target()
        if target.vmlinux is None:
            raise NotSupported("this kernel has no BTF to resolve relocations against; name a file with --btf")
    found = []
    chosen: Chosen = {}
    for function in spec.functions.values():
        for reloc in function.core_relocs:
            line = line_at(function.lines, reloc.offset)
            row: dict[str, Any] = {
                "function": function.name,
                "instruction": reloc.offset // 8,
                "relocation": describe(spec.types, reloc),
                "source": source_text(line, spec.types) if line is not None else "",
                "value": None,
            }
            try:
                row["value"] = resolve(spec.types, reloc, target, chosen).value
            except BpfError as error:
                row["error"] = error.message
            found.append(row)
    return found


def _cells(*texts: str) -> list[Text]:
    """Cells of a table: what comes from the file is neither markup nor for the terminal to obey."""
    from rich.text import Text

    return [Text(printable(text)) for text in texts]


def _print_relocations(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    shown = Table("function", "insn", "CO-RE relocation", "is", box=None, pad_edge=False, header_style="bold")
    missing = 0
    for row in found:
        value = row["value"]
        missing += value is None
        style, text = ("", str(value)) if value is not None else ("red", row.get("error", "not there"))
        cells = _cells(row["function"], str(row["instruction"]), row["relocation"])
        shown.add_row(*cells, Text(printable(text), style))
    console.print()
    console.print(shown)
    if missing:
        console.print(f"{missing} of {len(found)} are not there: the verifier refuses what reaches their instructions")


def _built_for(spec: ObjectSpec) -> str:
    return f", reads the registers of {spec.arch}" if spec.arch is not None else ""


def _print(spec: ObjectSpec) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    head = Text.assemble(
        (printable(spec.name), "bold"), f" license {printable(spec.license) or '(none)'}{_built_for(spec)}"
    )
    console.print(head, soft_wrap=True)
    table = Table("map", "type", "key", "value", "max_entries", "flags", box=None, pad_edge=False, header_style="bold")
    for m in spec.maps.values():
        key = _type(spec, m.key_type_id) or f"{m.key_size} bytes"
        value = _type(spec, m.value_type_id) or f"{m.value_size} bytes"
        flags = (m.flags.name or "") if m.flags else ""
        table.add_row(*_cells(m.name, m.type_name, key, value, str(m.max_entries), flags))
    programs = Table(
        "program", "section", "type", "instructions", "CO-RE", box=None, pad_edge=False, header_style="bold"
    )
    for p in spec.programs.values():
        relocations = str(len(p.function.core_relocs)) if p.function.core_relocs else ""
        programs.add_row(*_cells(p.name, p.section, p.type.name, str(len(p.function.code) // 8), relocations))
    variables = Table("variable", "type", "section", "offset", box=None, pad_edge=False, header_style="bold")
    for v in spec.variables.values():
        variables.add_row(*_cells(v.name, _type(spec, v.type_id) or f"{v.size} bytes", v.map.name, str(v.offset)))
    externs = Table("extern", "section", "", box=None, pad_edge=False, header_style="bold")
    for e in spec.externs.values():
        externs.add_row(*_cells(e.name, e.section, "weak" if e.weak else ""))
    for shown in (table, programs, variables, externs):
        if shown.row_count:
            console.print()
            console.print(shown)


def listing(spec: ObjectSpec, function: Function) -> list[str]:
    """The instructions of a function with source lines, names of maps and functions, and CO-RE relocations."""
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
