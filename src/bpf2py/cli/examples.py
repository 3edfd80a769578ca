"""`bpf2py examples`: the programs that come with bpf2py."""

from __future__ import annotations

from pathlib import Path

from bpf2py.cli import declared as typer
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


def programs() -> dict[str, Path]:
    """Their files by name: those in C by their stem, those in Python with its suffix."""
    where = directory()
    found = {path.name.removesuffix(SUFFIX): path for path in where.glob(f"*{SUFFIX}")}
    found |= {path.name: path for path in where.glob("python/*.py")}
    return dict(sorted(found.items()))


def names() -> list[str]:
    """Their names."""
    return list(programs())


def hint(file: str) -> str:
    """Where a file that is not there may be found, as a clause to put after the message, or nothing."""
    name = file.removesuffix(SUFFIX)
    return f"; `bpf2py examples {name} --copy .` writes the example of that name" if name in names() else ""


def summary(text: str) -> str:
    """The first sentence of the comment or docstring a source begins with, without its full stop."""
    quote = '"""'
    begin, end = (quote, quote) if quote in text.split("\n", 1)[0] else ("/*", "*/")
    comment = text.partition(begin)[2].partition(end)[0]
    words = " ".join(line.strip().lstrip("*").strip() for line in comment.splitlines()).strip()
    return words.partition(". ")[0].removesuffix(".")


def examples(
    name: str = typer.Argument(None, metavar="[NAME]", help="The example to print.", autocompletion=lambda: names()),
    copy: Path = typer.Option(None, metavar="DIRECTORY", help="Copy NAME, or all of them, there."),
) -> None:
    """List the programs that come with bpf2py, in C and in Python, print the source of one, or copy them.

    Examples:

        bpf2py examples

        bpf2py examples opens | bpf2py run -

        bpf2py examples --copy .
    """
    found = programs()
    if name is not None and name not in found:
        raise BpfError(f"there is no example {name!r}: {', '.join(found)}")
    if copy is not None:
        _copy([found[name]] if name is not None else list(found.values()), copy)
    elif name is not None:
        typer.echo(found[name].read_text(), nl=False)
    else:
        width = max(map(len, found))
        for each, path in found.items():
            typer.echo(f"{each:<{width}}  {summary(path.read_text())}")


def _copy(wanted: list[Path], target: Path) -> None:
    taken = [target / path.name for path in wanted if (target / path.name).exists()]
    if taken:
        raise BpfError(f"{taken[0]} exists")
    target.mkdir(parents=True, exist_ok=True)
    for path in wanted:
        (target / path.name).write_text(path.read_text())
        typer.echo(f"bpf2py: wrote {target / path.name}", err=True)
