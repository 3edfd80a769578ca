"""`bpf2py link`: links of the machine, programs where they are attached."""

from __future__ import annotations

from bpf2py._typing import Any
from bpf2py.cli import declared as typer
from bpf2py.cli.objects import LONG_HELP, complete_link, held, in_words, open_link, print_facts
from bpf2py.cli.table import echo_rows

LINK = typer.Argument(..., metavar="LINK", help="Id, or path of a pinned link.", autocompletion=complete_link)
JSON = typer.Option(False, "--json", help="Print JSON, for programs.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    links = typer.Typer(help="Links of the machine: programs where they are attached.", no_args_is_help=True)
    links.command("list")(list_links)
    links.command("show")(show)
    links.command("pin")(pin)
    links.command("detach")(detach)
    app.add_typer(links, name="link")


def _facts(link: Any) -> dict[str, Any]:
    return {"id": link.id, "type": link.type, "program": link.program_id, "details": link.details}


def list_links(
    long: bool = typer.Option(False, "--long", "-l", help=LONG_HELP),
    as_json: bool = JSON,
) -> None:
    """List every link: id, type, program, where. Needs CAP_SYS_ADMIN.

    Examples:

        bpf2py link list

        bpf2py link list --long --json
    """
    from bpf2py.kernel import inspect

    rows = [_facts(link) for link in inspect.links()]
    if long:
        held("link", rows)
    if not as_json:
        rows = [{name: in_words(value) for name, value in row.items()} for row in rows]
    echo_rows(rows, ["id", "type", "program", "details", *(["pids", "pinned"] if long else [])], as_json)


def show(reference: str = LINK, as_json: bool = JSON) -> None:
    """Show one link: its type, its program, where it is attached, who holds it and where it is pinned.

    Examples:

        bpf2py link show 12

        bpf2py link show /sys/fs/bpf/count_exec --json
    """
    from bpf2py.kernel.link_info import link_info

    with open_link(reference) as link:
        row = _facts(link_info(link.fileno()))
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
