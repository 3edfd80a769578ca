"""`bpf2py examples`: the programs that come with bpf2py."""

from __future__ import annotations

from pathlib import Path

import typer

from bpf2py.errors import BpfError

SUFFIX = ".bpf.c"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(examples)


def directory() -> Path:
    """Where the examples are: in the package, or beside its sources in a repository."""
    package = Path(__file__).resolve().parent.parent
    places = (package / "examples", package.parent.parent / "examples")
    found = next((place for place in places if any(place.glob(f"*{SUFFIX}"))), None)
    if found is None:
        raise BpfError("the examples are missing: this installation of bpf2py is not complete")
    return found


def names() -> list[str]:
    """Their names."""
    return sorted(path.name.removesuffix(SUFFIX) for path in directory().glob(f"*{SUFFIX}"))


def summary(text: str) -> str:
    """The first sentence of the comment a source begins with, without its full stop."""
    comment = text.partition("/*")[2].partition("*/")[0]
    words = " ".join(line.strip().lstrip("*").strip() for line in comment.splitlines()).strip()
    return words.partition(". ")[0].removesuffix(".")


def examples(
    name: str = typer.Argument(None, metavar="[NAME]", help="The example to print.", autocompletion=lambda: names()),
    copy: Path = typer.Option(None, metavar="DIRECTORY", help="Copy NAME, or all of them, there."),
) -> None:
    """List the programs that come with bpf2py, print the source of one, or copy them.

    Examples:

        bpf2py examples

        bpf2py examples opens | bpf2py run -

        bpf2py examples --copy .
    """
    where = directory()
    if name is not None and name not in names():
        raise BpfError(f"there is no example {name!r}: {', '.join(names())}")
    if copy is not None:
        _copy(where, [name] if name is not None else names(), copy)
    elif name is not None:
        typer.echo((where / f"{name}{SUFFIX}").read_text(), nl=False)
    else:
        width = max(map(len, names()))
        for each in names():
            typer.echo(f"{each:<{width}}  {summary((where / f'{each}{SUFFIX}').read_text())}")


def _copy(where: Path, wanted: list[str], target: Path) -> None:
    taken = [target / f"{each}{SUFFIX}" for each in wanted if (target / f"{each}{SUFFIX}").exists()]
    if taken:
        raise BpfError(f"{taken[0]} exists")
    target.mkdir(parents=True, exist_ok=True)
    for each in wanted:
        (target / f"{each}{SUFFIX}").write_text((where / f"{each}{SUFFIX}").read_text())
        typer.echo(f"bpf2py: wrote {target / f'{each}{SUFFIX}'}", err=True)
