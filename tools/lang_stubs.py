"""Write the types of bpf2py.lang's hooks and helpers for type checkers, and the page of its names: ``--check`` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

import bpf2py.lang
from bpf2py.isa.helpers import HELPERS_BY_NAME, Helper
from bpf2py.lang.helpers import __all__ as helper_names
from bpf2py.lang.hooks_table import CONTEXT_CLASSES, HOOKS

ROOT = Path(__file__).parent.parent
ROOM, PAGE = ROOT / "src" / "bpf2py" / "lang", ROOT / "docs" / "reference" / "python-names.md"
HEAD = "# Written by tools/lang_stubs.py from {table}; not to be changed by hand.\n"


def _signature(helper: Helper) -> str:
    parameters = [p for p in helper.parameters if p.type != "..."]
    variadic = len(parameters) != len(helper.parameters)
    names = [f"{p.name}_" if p.name in ("from",) else p.name for p in parameters]
    omitted = [
        p.name == "flags" or (i > 0 and any(s in p.name for s in ("size", "len", "sz")))
        for i, p in enumerate(parameters)
    ]
    last = next((i for i in range(len(omitted)) if all(omitted[i:])), len(omitted))
    if any(omitted[:last]) or variadic:  # lengths in the middle may be left out, too
        return "*arguments: Any, **named: Any"
    return ", ".join(f"{name}: Any{' = ...' if i >= last else ''}" for i, name in enumerate(names))


def _result(helper: Helper) -> str:
    return "Any" if helper.returns.endswith("*") else "None" if helper.returns == "void" else "int"


def helpers() -> str:
    """The stub of the helpers."""
    lines = [HEAD.format(table="bpf2py.isa.helpers"), "from typing import Any\n\n", "__all__: list[str] = [\n"]
    lines += [f'    "{name}",\n' for name in helper_names]
    lines += ["]\n\n"]
    lines += [
        f"def {n}({_signature(HELPERS_BY_NAME[n])}) -> {_result(HELPERS_BY_NAME[n])}: ...\n" for n in helper_names
    ]
    return "".join(lines)


def hooks() -> str:
    """The stub of the hooks."""
    lines = [
        HEAD.format(table="bpf2py.uapi.sections"),
        "from bpf2py.lang.programs import Hook\n\n",
        "__all__: list[str] = [\n",
    ]
    lines += [f'    "{name}",\n' for name in HOOKS]
    lines += ["]\n\n"]
    lines += [f"{name}: Hook\n" for name in HOOKS]
    return "".join(lines)


def page() -> str:
    """Every name of the language that the tables or the kernel's headers give it."""
    lines = [
        "<!-- Written by tools/lang_stubs.py; not to be changed by hand. -->",
        "# Names of programs in Python",
        "",
        "What `from bpf2py.lang import *` brings beside [the language](python.md) itself.",
        "Kernel functions (kfuncs) go by the names the kernel has for them.",
        "",
        "## Hooks",
        "",
        'A decorator for each section name; what follows the slash is its argument: `@kprobe("do_unlinkat")`.',
        "`@section(name)` takes any name.",
        "",
        "| decorator | section | program type |",
        "|---|---|---|",
        *(f"| `@{name}` | `{each.name}` | {each.program_type.name} |" for name, each in sorted(HOOKS.items())),
        "",
        "## Contexts",
        "",
        "| class | struct of the kernel |",
        "|---|---|",
        *(
            f"| `{name}` | {f'`{struct}`' if struct else 'what the hook has'} |"
            for name, struct in CONTEXT_CLASSES.items()
        ),
        "",
        "## Helpers",
        "",
        "In the order of their numbers. Those marked GPL are for programs with a licence that is compatible with it.",
        "",
        "| helper | returns | since | |",
        "|---|---|---|---|",
    ]
    for name in helper_names:
        helper = HELPERS_BY_NAME[name]
        parameters = ", ".join(parameter.name or "..." for parameter in helper.parameters)
        lines.append(f"| `{name}({parameters})` | `{helper.returns}` | {helper.since} | {'GPL' * helper.gpl_only} |")
    constants = [name for name in vars(bpf2py.lang)["__all__"] if type(getattr(bpf2py.lang, name)) is int]
    lines += ["", "## Constants", "", "From the kernel's headers.", "", "| | |", "|---|---|"]
    lines += [f"| `{name}` | {getattr(bpf2py.lang, name)} |" for name in sorted(constants)]
    return "\n".join([*lines, ""])


def main() -> int:
    """Write, or compare."""
    stale = 0
    for path, text in ((ROOM / "helpers.pyi", helpers()), (ROOM / "hooks.pyi", hooks()), (PAGE, page())):
        if "--check" in sys.argv:
            stale |= not path.exists() or path.read_text() != text
        else:
            path.write_text(text)
    return stale


if __name__ == "__main__":
    raise SystemExit(main())
