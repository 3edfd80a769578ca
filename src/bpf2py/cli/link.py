"""`bpf2py link`: links of the machine, programs where they are attached."""

from __future__ import annotations

from bpf2py._typing import Any
from bpf2py.cli import declared as typer
from bpf2py.cli.objects import LONG_HELP, held, in_words
from bpf2py.cli.table import echo_rows
from bpf2py.kernel import inspect

JSON = typer.Option(False, "--json", help="Print JSON, for programs.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    links = typer.Typer(help="Links of the machine: programs where they are attached.", no_args_is_help=True)
    links.command("list")(list_links)
    links.later("show", "link_objects:show")
    links.later("pin", "link_objects:pin")
    links.later("detach", "link_objects:detach")
    app.add_typer(links, name="link")


def facts_of(link: Any) -> dict[str, Any]:
    """What is told of a link."""
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
    rows = [facts_of(link) for link in inspect.links()]
    if long:
        held("link", rows)
    if not as_json:
        rows = [{name: in_words(value) for name, value in row.items()} for row in rows]
    echo_rows(rows, ["id", "type", "program", "details", *(["pids", "pinned"] if long else [])], as_json)
