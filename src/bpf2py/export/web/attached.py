"""Attach points: programs by network device and control group, in the order they run, and all other links."""

from __future__ import annotations

from typing import Any

from bpf2py.errors import BpfError
from bpf2py.kernel import inspect
from bpf2py.kernel.query import Attached, attached_to_cgroup, attached_to_devices, attached_to_netns, cgroups

__all__ = ["attach_points"]

MOST_CGROUPS = 2000  # looked at
MOST_POINTS = 500
SHOWN_BELOW = ("xdp", "tcx", "netkit", "cgroup", "netns")  # links whose programs their device or cgroup lists


def attach_points() -> dict[str, Any]:
    """What is attached, by where: ``{"points": [{"where", "kind", "hook", "programs": [...]}], "left_out": number}``."""
    names = {info.id: info.name for info in inspect.programs()}
    points: dict[tuple[str, str, str], list[dict[str, Any]]] = {}

    def add(kind: str, found: Attached) -> None:
        program = {"id": found.program, "name": found.name or names.get(found.program, "")}
        points.setdefault((kind, found.where, found.kind), []).append(program)

    for found in (*attached_to_devices(), *attached_to_netns()):
        add("interface" if found.where != "netns" else "namespace", found)
    left_out = 0
    for number, group in enumerate(cgroups()):
        if number >= MOST_CGROUPS:
            left_out += 1
            continue
        try:
            for found in attached_to_cgroup(group):
                add("cgroup", found)
        except OSError:
            continue  # it was removed meanwhile
    try:
        for link in inspect.links():
            if link.type in SHOWN_BELOW:
                continue
            where = next(
                (str(link.details[key]) for key in ("function", "path", "name", "target") if key in link.details), ""
            )
            hook = str(link.details.get("event") or link.details.get("attach_type") or link.type)
            add("link", Attached(where or f"link {link.id}", hook, link.program_id))
    except BpfError:
        pass  # before Linux 5.8 links cannot be listed
    rows = [
        {"kind": kind, "where": where, "hook": hook, "programs": programs}
        for (kind, where, hook), programs in points.items()
    ]
    return {"points": rows[:MOST_POINTS], "left_out": max(0, len(rows) - MOST_POINTS), "cgroups_left_out": left_out}
