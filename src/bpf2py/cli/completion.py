"""Completion of names: of maps, programs, links, sections, tracepoints, functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bpf2py.errors import BpfError
from bpf2py.kernel import inspect, owners
from bpf2py.kernel.attach.kprobe import available_functions
from bpf2py.kernel.tracefs import Tracefs
from bpf2py.uapi.sections import SECTIONS


def _completer(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        try:
            return sorted({name for name in names() if name.startswith(incomplete)})
        except (BpfError, OSError):
            return []  # without the rights there is nothing to offer

    return complete


def _maps() -> Iterable[str]:
    for info in inspect.maps():
        yield str(info.id)
        yield info.name
    yield from (path for found in owners.pins("map").values() for path in found)


def _programs() -> Iterable[str]:
    for info in inspect.programs():
        yield str(info.id)
        yield info.name
    yield from (path for found in owners.pins("prog").values() for path in found)


def _links() -> Iterable[str]:
    yield from (str(info.id) for info in inspect.links())
    yield from (path for found in owners.pins("link").values() for path in found)


def _sections() -> Iterable[str]:
    for row in SECTIONS:
        yield f"{row.name}/" if row.prefix else row.name


def complete_section(incomplete: str) -> list[str]:
    """Section names; after the slash tracepoints and kernel functions."""
    kind, slash, target = incomplete.partition("/")
    try:
        if kind in ("tracepoint", "tp") and slash:
            return [f"{kind}/{name}" for name in _tracepoints(target)]
        if kind in ("kprobe", "kretprobe", "fentry", "fexit") and slash:
            return sorted({f"{kind}/{name}" for name in available_functions() if name.startswith(target)})
    except (BpfError, OSError):
        return []
    return _completer(_sections)(incomplete)


def _tracepoints(target: str) -> list[str]:
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
