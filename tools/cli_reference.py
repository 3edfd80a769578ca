"""Write docs/reference/cli.md from what the commands say of themselves; ``--check`` only says whether it is up to date."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cli.md"
VALUES = {"int": "N", "float": "SECONDS", "Path": "PATH"}
HEAD = """\
# Command line

Every command explains itself with `--help`; this page is made from that. See also [Exit status](../howto/exit-status.md) and
[Shell completion](../howto/completion.md). Options that can be set by environment variables name them.
"""


def prose(text: str) -> str:
    """A help text as Markdown: what is indented in it is for the shell."""
    found: list[str] = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if not paragraph.startswith("    "):
            found.append(" ".join(paragraph.split()))
        elif found and found[-1].startswith("```"):
            found[-1] = found[-1].removesuffix("```") + paragraph.strip() + "\n```"
        else:
            found.append(f"```sh\n{paragraph.strip()}\n```")
    return "\n\n".join(found)


def cell(text: str) -> str:
    """Text for a table."""
    return re.sub(r"(?<!\w)(--[a-z][a-z-]*)", r"`\1`", text).replace("|", "\\|")


class Parameter(NamedTuple):
    """An argument or option: its names from the parser, the rest from its declaration, which no version of typer changes."""

    names: list[str]
    info: Any
    annotation: str

    @property
    def argument(self) -> str:
        return str(self.info.metavar or self.names[0].upper())

    @property
    def row(self) -> str:
        """The row of an option's table."""
        flag = self.annotation == "bool"
        value = "" if flag else f" {self.info.metavar or VALUES.get(self.annotation, 'TEXT')}"
        text = cell(self.info.help or "")
        default = self.info.default
        if default not in (None, False, "", ...):
            text += f" Default: `{self.names[0] if flag else default}`."
        if self.info.envvar:
            text += f" Environment: `{self.info.envvar}`."
        return f"| {', '.join(f'`{name}`' for name in self.names)}{value} | {text} |"


def parameters(parsed: Any, callback: Callable[..., Any]) -> Iterator[Parameter]:
    """What a command takes, in the order of its declaration."""
    names = {param.name: [*param.opts, *param.secondary_opts] for param in parsed.params}
    for name, declared in inspect.signature(callback).parameters.items():
        kind = declared.annotation
        yield Parameter(names[name], declared.default, kind.__name__ if isinstance(kind, type) else str(kind))


def command(path: str, parsed: Any, callback: Callable[..., Any], level: str = "##") -> Iterator[str]:
    """The section of a command."""
    found = list(parameters(parsed, callback))
    arguments = [param for param in found if not param.names[0].startswith("-")]
    options = [param for param in found if param.names[0].startswith("-")]
    yield f"{level} {path}"
    yield f"```text\n{' '.join([path, *(['[OPTIONS]'] if options else []), *(p.argument for p in arguments)])}\n```"
    yield prose(parsed.help or "")
    if arguments:
        rows = [f"| `{param.argument}` | {cell(param.info.help or '')} |" for param in arguments]
        yield "\n".join(["| argument | |", "|---|---|", *rows])
    if options:
        yield "\n".join(["| option | |", "|---|---|", *(param.row for param in options)])
    yield cell(parsed.epilog or "")


def callbacks(app: Any) -> dict[str, Callable[..., Any]]:
    """The functions of an application's commands, by name."""
    return {info.name or info.callback.__name__: info.callback for info in app.registered_commands if not info.hidden}


def page() -> str:
    """The whole page."""
    from typer.main import get_command

    from bpf2py.cli import COMMANDS, build

    app = build(list(COMMANDS))
    root: Any = get_command(app)
    functions = callbacks(app)
    groups = {info.name: info.typer_instance for info in app.registered_groups}
    parts = [HEAD.strip()]
    for name in COMMANDS:
        if name in functions:
            parts += command(f"bpf2py {name}", root.commands[name], functions[name])
            continue
        parts += [f"## bpf2py {name}", prose(root.commands[name].help or "")]
        for sub, callback in callbacks(groups[name]).items():
            parts += command(f"bpf2py {name} {sub}", root.commands[name].commands[sub], callback, "###")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page, or check it."""
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        sys.exit(f"{PAGE.name} is not up to date: run python tools/cli_reference.py")


if __name__ == "__main__":
    main()
