"""`bpf2py link show`, `pin` and `detach`."""

from __future__ import annotations

from bpf2py.cli import declared as typer
from bpf2py.cli.completion import complete_link
from bpf2py.cli.link import JSON, facts_of
from bpf2py.cli.objects import held, print_facts
from bpf2py.cli.references import open_link
from bpf2py.kernel.link_info import link_info

LINK = typer.Argument(..., metavar="LINK", help="Id, or path of a pinned link.", autocompletion=complete_link)


def show(reference: str = LINK, as_json: bool = JSON) -> None:
    """Show one link: its type, its program, where it is attached, who holds it and where it is pinned.

    Examples:

        bpf2py link show 12

        bpf2py link show /sys/fs/bpf/count_exec --json
    """
    with open_link(reference) as link:
        row = facts_of(link_info(link.fileno()))
        held("link", [row])
    row["pids"] = [owner for owner in row["pids"] if owner["pid"] != _own_pid()]
    print_facts(row, as_json)


def _own_pid() -> int:
    import os

    return os.getpid()


def pin(reference: str = LINK, path: str = typer.Argument(..., help="A new file on a BPF file system.")) -> None:
    """Pin a link: its program stays attached when the process that attached it ends. Remove the file to unpin it.

    Examples:

        bpf2py link pin 12 /sys/fs/bpf/count_exec
    """
    with open_link(reference) as link:
        link.pin(path)


def detach(reference: str = LINK) -> None:
    """Take a link's program off its hook at once, whoever holds the link (Linux 5.9).

    Links of tracing programs (raw_tp, fentry, kprobe ...) cannot be taken off so: they go with their last holder.

    Examples:

        bpf2py link detach 12
    """
    with open_link(reference) as link:
        link.detach()
