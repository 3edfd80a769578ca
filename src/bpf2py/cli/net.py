"""`bpf2py net` and `bpf2py cgroup`: which programs network devices and control groups have."""

from __future__ import annotations

from collections.abc import Iterable

from bpf2py._typing import Any
from bpf2py.cli import declared as typer
from bpf2py.cli.table import echo_rows
from bpf2py.errors import BpfError
from bpf2py.kernel import inspect
from bpf2py.kernel.cgroups import mount_point
from bpf2py.kernel.query import attached_to_cgroup, attached_to_devices, attached_to_netns, cgroups

JSON = typer.Option(False, "--json", help="Print a JSON list, for programs.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(net)
    groups = typer.Typer(help="Programs of control groups.", no_args_is_help=True)
    groups.command("list")(list_cgroup)
    groups.command("tree")(tree)
    app.add_typer(groups, name="cgroup")


def _print(found: Iterable[Any], where: str, as_json: bool) -> None:
    names = {info.id: info.name for info in inspect.programs()}
    rows = [
        {where: row.where, "hook": row.kind, "program": row.program, "name": row.name or names.get(row.program, "")}
        for row in found
    ]
    echo_rows(rows, [where, "hook", "program", "name"], as_json)


def net(as_json: bool = JSON) -> None:
    """List the programs of this network namespace: XDP, tcx, netkit and clsact by device, flow dissectors and socket lookups.

    Examples:

        bpf2py net

        bpf2py net --json | jq '.[] | select(.device == "eth0")'
    """
    _print([*attached_to_devices(), *attached_to_netns()], "device", as_json)


def list_cgroup(
    path: str = typer.Argument(..., help="A control group: a path, full or below the mount point of cgroup2."),
    effective: bool = typer.Option(False, "--effective", help="Also the programs of the groups above that run for it."),
    as_json: bool = JSON,
) -> None:
    """List the programs of a control group.

    Examples:

        bpf2py cgroup list /sys/fs/cgroup/system.slice

        bpf2py cgroup list system.slice --effective --json
    """
    _print(list(attached_to_cgroup(_full(path), effective)), "cgroup", as_json)


def tree(
    path: str = typer.Argument(None, help="Where to begin; the mount point of cgroup2 without it."),
    as_json: bool = JSON,
) -> None:
    """List the programs of a control group and of all below it.

    Examples:

        bpf2py cgroup tree

        bpf2py cgroup tree system.slice --json
    """
    found = []
    for group in cgroups(_full(path) if path is not None else None):
        try:
            found += list(attached_to_cgroup(group))
        except FileNotFoundError:
            continue  # it was removed meanwhile
    _print(found, "cgroup", as_json)


def _full(path: str) -> str:
    import os

    if os.path.isdir(path):
        return path
    below = os.path.join(mount_point() or "/", path.lstrip("/"))
    if not os.path.isdir(below):
        raise BpfError(f"there is no control group {path!r}")
    return below
