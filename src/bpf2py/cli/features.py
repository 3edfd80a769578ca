"""`bpf2py features`: what the running kernel has, found out by trying."""

from __future__ import annotations

import json
import os

from bpf2py._typing import Any
from bpf2py.cli import declared as typer
from bpf2py.cli.table import echo_rows
from bpf2py.errors import BpfError
from bpf2py.isa.helpers import HELPERS
from bpf2py.kernel import features as probe
from bpf2py.uapi.map_types import MAP_TYPE_INFO
from bpf2py.uapi.program_types import ProgramType

ANSWERS = {True: "yes", False: "no", None: "unknown"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(features)


def features(
    helpers: str = typer.Option(
        None, "--helpers", metavar="TYPE", help="Show which helpers programs of this type may call, such as xdp."
    ),
    as_json: bool = typer.Option(
        False, "--json", help="Print one JSON object: true, false, or null where it is unknown."
    ),
) -> None:
    """Say which map and program types the running kernel has, or which helpers, by creating and loading some.

    Examples:

        bpf2py features

        bpf2py features --helpers xdp

        bpf2py features --json | jq .map_types.ARENA
    """
    found = {f"helpers_of_{helpers.lower()}": _helpers(helpers)} if helpers is not None else _types()
    if as_json:
        report = {part: {name: answer for name, _since, answer in rows} for part, rows in found.items()}
        typer.echo(json.dumps({"kernel": os.uname().release, **report}))
        return
    for part, rows in found.items():
        title = part.replace("_", " ").removesuffix("s") if helpers is None else "helper"
        echo_rows([{title: n, "since": s, "here": ANSWERS[a]} for n, s, a in rows], [title, "since", "here"], False)
        if part != list(found)[-1]:
            typer.echo()
    answers = [answer for rows in found.values() for _name, _since, answer in rows]
    if answers and all(answer is None for answer in answers):
        raise BpfError("nothing can be told without the right to use bpf(); `bpf2py doctor` says what is missing")


def _types() -> dict[str, list[tuple[str, str, bool | None]]]:
    maps = [(kind.name, info.since, probe.map_type(kind)) for kind, info in MAP_TYPE_INFO.items()]
    kinds = [kind for kind in ProgramType if kind != ProgramType.UNSPEC]
    programs: list[tuple[str, Any, bool | None]] = [(k.name, k.since or "", probe.program_type(k)) for k in kinds]
    return {"map_types": maps, "program_types": programs}


def _helpers(kind: str) -> list[tuple[str, str, bool | None]]:
    try:
        of = ProgramType[kind.upper()]
    except KeyError:
        names = ", ".join(each.name.lower() for each in ProgramType if each != ProgramType.UNSPEC)
        raise BpfError(f"there is no program type {kind!r}; there are {names}") from None
    return [(f"bpf_{h.name}", h.since, probe.helper(h.name, of)) for h in HELPERS.values()]
