"""``--attach`` and the flags of single options: where the programs of an object are attached."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.errors import AttachError, BpfError
from bpf2py.programs import Link, Program
from bpf2py.uapi.attach_options import Hook, hook_of, parse_option

if TYPE_CHECKING:
    from bpf2py.object import Object
    from bpf2py.programs import Link
    from bpf2py.spec.program_spec import ProgramSpec

__all__ = ["FLAGS", "attach_all", "parse", "wanted"]

# Options with a flag of their own.
FLAGS = ("device", "cgroup", "event", "frequency", "binary", "symbol", "pid")
_BY_SECTION = ("binary", "symbol")  # not for programs whose section says it
_SEPARATOR = re.compile(r",(?=\w+=)")


def parse(text: str) -> tuple[str, dict[str, str]]:
    """(program, options) of ``PROGRAM:option=value,option=value``.

    >>> parse("count:device=eth0,mode=generic")
    ('count', {'device': 'eth0', 'mode': 'generic'})
    """
    program, _, rest = text.partition(":")
    options = {}
    for part in _SEPARATOR.split(rest) if rest else []:
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise BpfError(
                f"--attach {text}: {part!r} is not option=value; write --attach PROGRAM:option=value,option=value"
            )
        options[name] = value
    return program, options


def wanted(obj: Object, texts: Sequence[str], flags: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The options of programs, by name, from ``--attach`` and from flags. Raises BpfError."""
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        program, options = parse(text)
        if program not in obj.programs:
            raise BpfError(
                f"--attach {text}: there is no program {program!r}: {', '.join(obj.programs) or 'none at all'}"
            )
        found.setdefault(program, {}).update(options)
    for flag, value in flags.items():
        for name in _takers(obj, flag, found):
            found.setdefault(name, {})[flag] = value
    return {
        program: {name: _value(obj, program, name, value) for name, value in options.items()}
        for program, options in found.items()
    }


def _hook(obj: Object, name: str) -> Hook | None:
    spec = obj.spec.programs[name]
    return hook_of(spec.type, spec.attach_type, spec.section)


def _takers(obj: Object, flag: str, given: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The programs a flag is meant for. Raises BpfError when there is none, or they are of a kind that cannot be told apart."""
    takers = []
    for name in obj.programs:
        hook, spec = _hook(obj, name), obj.spec.programs[name]
        if hook is None or flag not in hook.names or flag in given.get(name, {}):
            continue
        if flag in _BY_SECTION and spec.target:
            continue
        takers.append(name)
    if not takers:
        raise BpfError(f"--{flag}: no program takes it; {_what_they_take(obj, obj.programs)}")
    sections = [obj.spec.programs[name].section for name in takers]
    if flag == "symbol" and len(set(sections)) < len(sections):
        raise BpfError(
            f"--{flag}: several programs take it: {', '.join(takers)}; write --attach PROGRAM:{flag}=... for each"
        )
    return takers


def _what_they_take(obj: Object, names: Any) -> str:
    parts = []
    for name in names:
        hook = _hook(obj, name)
        takes = f"takes {', '.join(hook.names)}" if hook is not None else "takes no options"
        parts.append(f"{name} (SEC({obj.spec.programs[name].section!r})) {takes}")
    return "; ".join(parts)


def _value(obj: Object, program: str, name: str, text: str) -> Any:
    if name == "map":
        if text not in obj.maps:
            raise BpfError(f"--attach {program}:map={text}: there is no map {text!r}: {', '.join(obj.maps)}")
        return obj.maps[text]
    if name in ("before", "after"):
        opened = Link.from_pin(text) if "/" in text else None
        return opened or Program.from_id(_number(program, name, text))
    try:
        return parse_option(name, text)
    except (ValueError, KeyError):
        return text  # the check of the options says what is wrong with it


def _number(program: str, name: str, text: str) -> int:
    if not text.isdecimal():
        raise BpfError(f"--attach {program}:{name}={text}: give the id of a program, or the path of a pinned link")
    return int(text)


def attach_all(obj: Object, options: Mapping[str, Mapping[str, Any]], where: str) -> tuple[list[Link], list[str]]:
    """(links, programs left out): those with options where these say, the others where their section names do.

    Raises BpfError when that leaves nothing to attach.
    """
    links = []
    for name, given in options.items():
        links.append(obj.programs[name].attach(**given))
        obj.spec.programs[name].autoattach = False
    rest = [name for name in obj.programs if _attaches_itself(obj, obj.spec.programs[name])]
    struct_ops = any(spec.struct_ops is not None for spec in obj.spec.maps.values())
    if rest or struct_ops:
        links += obj.attach()
    left = [name for name in obj.programs if name not in options and name not in rest and _hook(obj, name) is not None]
    if not links:
        if left:
            raise AttachError(
                f"{where}: the section names do not say where to attach: write --attach PROGRAM:option=value; "
                f"{_what_they_take(obj, left)}"
            )
        links = obj.attach()  # says why there is nothing
    return links, left


def _attaches_itself(obj: Object, spec: ProgramSpec) -> bool:
    return spec.autoattach and bool(obj.backend.can_attach(spec))
