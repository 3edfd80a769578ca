"""What commands take, declared with typer's words, and read without typer where the command line is plain.

typer's import takes ten times as long as listing the maps of the machine. Commands are declared with the names here, which
mean what typer's mean; `call()` finds the function and reads its options and arguments when there is nothing to explain.
Whatever is wrong or asks for help, completion or an environment variable is left to typer, of which `Typer.made()` makes an
application from the same declarations: there is one text of help and of errors.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FunctionType

from bpf2py._lazy import import_module
from bpf2py._typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import typer

    Function = Callable[..., object]

__all__ = [
    "Argument", "Exit", "Option", "Options", "Typer", "call", "echo", "imported", "is_wrong_usage", "secho", "wrong_usage",
]  # fmt: skip

_PLAIN = {"help", "metavar", "min", "autocompletion", "envvar"}  # what is known of options besides their names


class Exit(Exception):
    """Ends the command with a status."""

    def __init__(self, code: int = 0) -> None:
        self.exit_code = code


class Declared(NamedTuple):
    """An option or argument: what it is by default (``...``: it must be given), its names, and what else was said of it."""

    kind: str
    default: object
    names: tuple[str, ...]
    said: dict[str, Any]


def Option(default: object = ..., *names: str, **said: Any) -> Any:
    """An option of a command, as typer's."""
    return Declared("Option", default, names, said)


def Argument(default: object = ..., **said: Any) -> Any:
    """An argument of a command, as typer's."""
    return Declared("Argument", default, (), said)


def Options(make: Function, **more: Any) -> Any:
    """Options that several commands have, as one parameter: those `make` declares, whose result the command is given.

    Args:
        make: its parameters that are declared are options of the command.
        more: declarations of parameters that only some commands have.
    """
    return Declared("Options", None, (), {"make": make, "more": more})


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print at once."""
    print(text, end="\n" if nl else "", file=sys.stderr if err else sys.stdout, flush=True)


def secho(text: str, *, bold: bool) -> None:
    """Print at once, on a terminal in bold letters."""
    echo(f"\033[1m{text}\033[0m" if bold and sys.stdout.isatty() else text)


def wrong_usage(text: str) -> Exception:
    """What a command raises before it did anything, where what it was given makes no sense; typer shows it."""
    import typer

    return typer.BadParameter(text)


def is_wrong_usage(error: Exception) -> bool:
    """Whether `wrong_usage()` made it."""
    return "typer" in sys.modules and isinstance(error, sys.modules["typer"].BadParameter)


class Typer:
    """Commands and groups of commands."""

    def __init__(self, **said: Any) -> None:
        self.said = said
        self.commands: dict[str, tuple[Function | str, dict[str, Any]]] = {}
        self.groups: dict[str, Typer] = {}

    def command(self, name: str | None = None, **said: Any) -> Callable[[Function], Function]:
        """Declare a command."""

        def declare(function: Function) -> Function:
            self.commands[name or function.__name__.replace("_", "-")] = (function, said | {"name": name})
            return function

        return declare

    def later(self, name: str, home: str, **said: Any) -> None:
        """Declare a command of a module that is imported when it is asked for: ``module:function`` in this package."""
        self.commands[name] = (home, said | {"name": name})

    def add_typer(self, group: Typer, *, name: str) -> None:
        """Declare a group of commands."""
        self.groups[name] = group

    def made(self, into: typer.Typer | None = None, epilog: str | None = None) -> typer.Typer:
        """The application as typer has it: a new one, or these commands added to one."""
        import typer

        app = into if into is not None else typer.Typer(**self.said)
        for function, said in self.commands.values():
            app.command(**said | {"epilog": said.get("epilog") or epilog})(_with_defaults(imported(function)))
        for name, group in self.groups.items():
            app.add_typer(group.made(epilog=epilog), name=name)
        return app


def imported(function: Function | str) -> Function:
    """A command that was declared to be imported later."""
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    command: Function = getattr(import_module(f"bpf2py.cli.{module}"), name)
    return command


def _own(function: Function) -> dict[str, tuple[str, Any]]:
    """The parameters of a function: (type, declaration) by name."""
    assert isinstance(function, FunctionType)
    code, defaults = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    if len(names) != len(defaults) or code.co_kwonlyargcount:
        raise NotPlain
    return {name: (str(function.__annotations__[name]), each) for name, each in zip(names, defaults, strict=True)}


def _parameters(function: Function) -> dict[str, tuple[str, Any]]:
    """The same with those of `Options` in their place."""
    found: dict[str, tuple[str, Any]] = {}
    for name, (kind, declared) in _own(function).items():
        if isinstance(declared, Declared) and declared.kind == "Options":
            found |= _of_options(declared)
        else:
            found[name] = kind, declared
    return found


def _of_options(options: Declared) -> dict[str, tuple[str, Any]]:
    make, more = options.said["make"], options.said["more"]
    found = {}
    for name, (kind, declared) in _own(make).items():
        declared = more.get(name, declared)
        if isinstance(declared, Declared):
            found[name] = kind.removesuffix(" | None"), declared
    return found


def _started(function: Function, /, **given: object) -> object:
    """Call a command with what its parameters are given, those of `Options` too."""
    whole = {}
    for name, (_, declared) in _own(function).items():
        if isinstance(declared, Declared) and declared.kind == "Options":
            whole[name] = declared.said["make"](**{each: given[each] for each in _of_options(declared)})
        else:
            whole[name] = given[name]
    return function(**whole)


def _with_defaults(function: Function) -> Function:
    """A function that does the same, with the declarations as typer has them for defaults."""
    import inspect
    from pathlib import Path

    import typer

    types: dict[str, object] = {
        "str": str, "int": int, "float": float, "bool": bool, "Path": Path, "list[str]": list[str]
    }  # fmt: skip
    declared = _parameters(function)

    def command(**given: object) -> object:
        return _started(function, **given)

    made = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=getattr(typer, each.kind)(each.default, *each.names, **each.said)
            if isinstance(each, Declared)
            else each,
            annotation=types[kind],
        )
        for name, (kind, each) in declared.items()
    ]
    command.__signature__ = inspect.Signature(made)  # type: ignore[attr-defined]
    command.__annotations__ = {name: types[kind] for name, (kind, _) in declared.items()}
    assert isinstance(function, FunctionType)
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    return command


# -- without typer ---------------------------------------------------------------------------------------------------


class NotPlain(Exception):
    """This command line is typer's."""


def call(app: Typer, words: Sequence[str], environment: Mapping[str, str] = os.environ) -> partial[object] | None:
    """The command that is meant, with what it is given; None where typer has to say."""
    group, at = app, 0
    while at < len(words) and words[at] in group.groups:
        group, at = group.groups[words[at]], at + 1
    if at == len(words) or words[at] not in group.commands:
        return None
    function, _ = group.commands[words[at]]
    try:
        given = _read(imported(function), words[at + 1 :], environment)
    except NotPlain:
        return None
    return partial(_started, imported(function), **given)


def _read(function: Function, words: Sequence[str], environment: Mapping[str, str]) -> dict[str, object]:
    """What the parameters of a command are given."""
    declarations = _parameters(function)
    parameters = {name: declared for name, (_, declared) in declarations.items()}
    types = {name: kind for name, (kind, _) in declarations.items()}
    flags: dict[str, tuple[str, bool]] = {}
    options: dict[str, str] = {}
    arguments: list[str] = []
    for name, declared in parameters.items():
        if not isinstance(declared, Declared) or not declared.said.keys() <= _PLAIN:
            raise NotPlain
        variable = declared.said.get("envvar")
        if variable is not None and variable in environment:
            raise NotPlain
        if declared.kind == "Argument":
            arguments.append(name)
        elif types[name] == "bool":
            for spelled in declared.names or (f"--{name.replace('_', '-')}/--no-{name.replace('_', '-')}",):
                yes, _, no = spelled.partition("/")
                flags[yes] = name, True
                if no:
                    flags[no] = name, False
        else:
            options |= dict.fromkeys(declared.names or (f"--{name.replace('_', '-')}",), name)
    found: dict[str, object] = {}
    loose: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            loose += rest
        elif word in flags:
            name, value = flags[word]
            found[name] = value
        elif word.startswith("-") and word != "-":
            option, equals, text = word.partition("=")
            if option not in options or (equals and not option.startswith("--")):
                raise NotPlain
            if not equals:
                text = next(rest, "-")
                if text.startswith("-"):
                    raise NotPlain
            name = options[option]
            _take(found, name, types[name], text, parameters[name].said)
        else:
            loose.append(word)
    for name in arguments:
        if types[name].startswith("list["):
            for word in loose:
                _take(found, name, types[name], word, parameters[name].said)
            loose = []
        elif loose:
            _take(found, name, types[name], loose.pop(0), parameters[name].said)
    if loose:
        raise NotPlain
    for name, declared in parameters.items():
        if name not in found:
            if declared.default is ...:
                raise NotPlain("it must be given: " + name)
            found[name] = declared.default
    return found


def _take(found: dict[str, object], name: str, kind: str, text: str, said: Mapping[str, Any]) -> None:
    value = _value(kind.removeprefix("list[").removesuffix("]"), text)
    if "min" in said and (not isinstance(value, int | float) or not value >= said["min"]):
        raise NotPlain
    if kind.startswith("list["):
        several = found.setdefault(name, [])
        assert isinstance(several, list)
        several.append(value)
    else:
        found[name] = value


def _value(kind: str, text: str) -> object:
    try:
        if kind == "str":
            return text
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
    except ValueError:
        raise NotPlain from None
    if kind == "Path":
        from pathlib import Path

        return Path(text)
    raise NotPlain
