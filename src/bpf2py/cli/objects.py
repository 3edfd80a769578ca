"""What commands about maps, programs and links share: references, owners, pins, and completion of their names."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.cli.declared import echo
from bpf2py.errors import BpfError

if TYPE_CHECKING:
    from bpf2py.programs import Link, Program

LONG_HELP = "Tell more: processes that hold it, pins, and of programs when and by whom they were loaded."


def held(kind: str, rows: list[dict[str, Any]]) -> None:
    """Add the processes that hold the objects, and the paths they are pinned to, to rows with an ``id``."""
    from bpf2py.kernel.owners import owners, pins

    processes, paths = owners(kind), pins(kind) if kind != "btf" else {}
    for row in rows:
        row["pids"] = [{"pid": owner.pid, "comm": owner.comm} for owner in processes.get(row["id"], [])]
        if kind != "btf":
            row["pinned"] = paths.get(row["id"], [])


def in_words(value: Any) -> str:
    """A fact as text."""
    if isinstance(value, list):
        return " ".join(map(in_words, value))
    if isinstance(value, dict) and set(value) == {"pid", "comm"}:
        return f"{value['comm']}({value['pid']})"
    if isinstance(value, dict):
        return " ".join(f"{name}={in_words(item)}" for name, item in value.items())
    return str(value)


def print_facts(row: dict[str, Any], as_json: bool) -> None:
    """One object: a fact a line, or a JSON object."""
    import json

    from bpf2py.cli.text import printable

    if as_json:
        echo(json.dumps(row))
        return
    width = max(map(len, row))
    for name, value in row.items():
        echo(f"{name:>{width}}  {printable(in_words(value))}")


def moment(seconds: float) -> str:
    """A time as people write it: ``2026-11-27 21:30:05``."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def open_program(reference: str) -> Program:
    """The program meant by an id, a pin path or a name. Raises BpfError."""
    from bpf2py.kernel import inspect
    from bpf2py.programs import Program

    if "/" in reference:
        return Program.from_pin(reference, backend="kernel")
    found = [info.id for info in inspect.programs() if reference in (str(info.id), info.name)]
    if not found:
        raise BpfError(f"there is no program {reference!r}; `bpf2py prog list` shows the ones there are")
    if len(found) > 1:
        raise BpfError(f"several programs are named {reference!r}: ids {', '.join(map(str, found))}")
    return Program.from_id(found[0], backend="kernel")


def open_link(reference: str) -> Link:
    """The link meant by an id or a pin path. Raises BpfError."""
    from bpf2py.programs import Link

    if "/" in reference:
        return Link.from_pin(reference, backend="kernel")
    if not reference.isdecimal():
        raise BpfError(
            f"{reference!r} is not the id or the pin path of a link; `bpf2py link list` shows the ones there are"
        )
    return Link.from_id(int(reference), backend="kernel")


def type_name_of(number: int) -> str:
    """A program type's name."""
    from bpf2py.uapi.program_types import ProgramType

    try:
        return ProgramType(number).name
    except ValueError:
        return str(number)


# -- completion ------------------------------------------------------------------------------------------------------


def _completer(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        try:
            return sorted({name for name in names() if name.startswith(incomplete)})
        except (BpfError, OSError):
            return []  # without the rights there is nothing to offer

    return complete


def _maps() -> Iterable[str]:
    from bpf2py.kernel import inspect, owners

    for info in inspect.maps():
        yield str(info.id)
        yield info.name
    yield from (path for found in owners.pins("map").values() for path in found)


def _programs() -> Iterable[str]:
    from bpf2py.kernel import inspect, owners

    for info in inspect.programs():
        yield str(info.id)
        yield info.name
    yield from (path for found in owners.pins("prog").values() for path in found)


def _links() -> Iterable[str]:
    from bpf2py.kernel import inspect, owners

    yield from (str(info.id) for info in inspect.links())
    yield from (path for found in owners.pins("link").values() for path in found)


def _sections() -> Iterable[str]:
    from bpf2py.uapi.sections import SECTIONS

    for row in SECTIONS:
        yield f"{row.name}/" if row.prefix else row.name


def complete_section(incomplete: str) -> list[str]:
    """Section names; after the slash tracepoints and kernel functions."""
    kind, slash, target = incomplete.partition("/")
    try:
        if kind in ("tracepoint", "tp") and slash:
            return [f"{kind}/{name}" for name in _tracepoints(target)]
        if kind in ("kprobe", "kretprobe", "fentry", "fexit") and slash:
            from bpf2py.kernel.attach.kprobe import available_functions

            return sorted({f"{kind}/{name}" for name in available_functions() if name.startswith(target)})
    except (BpfError, OSError):
        return []
    return _completer(_sections)(incomplete)


def _tracepoints(target: str) -> list[str]:
    from bpf2py.kernel.tracefs import Tracefs

    category, slash, name = target.partition("/")
    with Tracefs() as tracefs:
        if not slash:
            return sorted(
                f"{found}/" for found in tracefs.listdir("events") if found.startswith(category) and "." not in found
            )
        names = tracefs.listdir(f"events/{category}")
        return sorted(
            f"{category}/{found}" for found in names if found.startswith(name) and found not in ("enable", "filter")
        )


complete_map = _completer(_maps)
complete_program = _completer(_programs)
complete_link = _completer(_links)
