"""Write docs/reference/attach-options.md from the table of attach options; ``--check`` only says whether it is up to date."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from bpf2py.uapi.attach_options import HOOKS, AttachOptions, Hook

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "attach-options.md"
HEAD = """\
# Attach options

What [`Program.attach`](programs.md#bpf2py.Program.attach) and `bpf2py run --attach PROGRAM:option=value,option=value` take, by
hook. The section name says which hook a program has, and for many of them where it is; then no option is needed, and
`Object.attach()` attaches the program. A wrong option is an [`AttachError`](errors.md) that lists the right ones, and type
checkers see it before: the options are those of `bpf2py.AttachOptions`, a `TypedDict`. `None` counts as not given.

On the command line numbers may be hexadecimal, flags are `yes` or `no`, lists have `+` between their values, an event is a name or
`TYPE:CONFIG`, `map` is the name of a map of the object, `before` and `after` are the id of a program or the path of a pinned link.

The engine takes `target` and `cookie` for every program, and calls interfaces, control groups and namespaces by any name.
"""
SPELLING = {"HasFileno": "open object", "os.PathLike[str]": "path", "Sequence": "list"}


def type_of(name: str) -> str:
    """An option's type as people write it, for a table."""
    text = AttachOptions.__annotations__[name].__forward_arg__.removesuffix(" | None")
    if text.startswith("Literal["):
        return ", ".join(f"`{word}`" for word in text[8:-1].split(", "))
    for old, new in SPELLING.items():
        text = text.replace(old, new)
    return " or ".join(text.split(" | "))


def section(hook: Hook) -> Iterator[str]:
    """The part of the page about a hook."""
    yield f"## {hook.title}"
    names = ", ".join(f'`SEC("{name}")`' for name in hook.sections)
    since = "" if hook.since == "5.10" else f"; Linux {hook.since}"
    how = "`Object.attach()` attaches them" if hook.by_name else "the section does not say where: `Program.attach` does"
    yield f"{names}{since}. {how[0].upper()}{how[1:]}."
    rows = [
        f"| `{option.name}` | {type_of(option.name)} | {option.meaning}"
        f"{f' (Linux {option.since})' if option.since is not None else ''}. |"
        for option in hook.options
    ]
    yield "\n".join(["| option | type | |", "|---|---|---|", *rows])


def page() -> str:
    """The whole page."""
    return "\n\n".join([HEAD.strip(), *(part for hook in HOOKS.values() for part in section(hook))]) + "\n"


def main() -> None:
    """Write the page, or check it."""
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        sys.exit(f"{PAGE.name} is not up to date: run python tools/attach_options.py")


if __name__ == "__main__":
    main()
