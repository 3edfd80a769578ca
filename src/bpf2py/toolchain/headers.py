"""Which headers a source reaches, found by reading its #include lines: no preprocessor, so a superset is possible."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from bpf2py.user_cache import read_file

__all__ = ["Reached", "include_directory", "reach", "search_path"]

_INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include(?:_next)?[ \t]*(["<])([^">\n]+)[">]', re.MULTILINE)
# A function declared as the kernel's: a name, parameters, and __ksym (or its section) before the declaration's end.
_KFUNC = re.compile(
    rb"""\b([A-Za-z_]\w*)\s*\((?:[^;{}()"]|\([^;{}()"]*\))*\)[^;{}()]*(?:__ksym\b|section\s*\(\s*"\.ksyms"|__attribute__[^;{}]*\.ksyms)"""
)
_IDENTIFIER = re.compile(rb"[A-Za-z_]\w*")


class Reached(NamedTuple):
    """What a source reaches.

    Attributes:
        missing: names of included headers that were not found.
        identifiers: every C identifier in the source and in the headers found.
        files: the headers found, as absolute paths.
        kfuncs: the kernel functions that they declare.
    """

    missing: frozenset[str]
    identifiers: frozenset[str]
    files: tuple[str, ...] = ()
    kfuncs: frozenset[str] = frozenset()


def include_directory() -> Path:
    """The directory of bpf2py's own headers, for the compiler's ``-I``."""
    return Path(__file__).resolve().parent.parent / "include"


def search_path(flags: Sequence[str]) -> list[str]:
    """The directories that compiler flags name for headers, in the order the compiler tries them."""
    found: dict[str, list[str]] = {"-iquote": [], "-I": [], "-isystem": [], "-idirafter": []}
    flag_iterator = iter(flags)
    for flag in flag_iterator:
        for option, directories in found.items():
            if flag == option:
                directories.extend(filter(None, [next(flag_iterator, "")]))
            elif flag.startswith(option):
                directories.append(flag[len(option) :])
            else:
                continue
            break
    return [directory for directories in found.values() for directory in directories]


def reach(source: bytes, directory: str, directories: Iterable[str], *, skip: frozenset[str] = frozenset()) -> Reached:
    """Follow the #include lines of a source.

    Args:
        source: the text.
        directory: where quoted names are looked for first.
        directories: the search path, system directories left out (what they hold is neither read nor missing).
        skip: names of headers that are not to be read, such as ``bpf/bpf_helper_defs.h``.
    """
    path = list(directories)
    missing: set[str] = set()
    words: set[bytes] = set()
    kfuncs: set[bytes] = set()
    seen: set[str] = set()
    waiting = [(source, directory)]
    while waiting:
        text, here = waiting.pop()
        words.update(_IDENTIFIER.findall(text))
        if b"ksym" in text:
            kfuncs.update(_KFUNC.findall(text))
        for quote, raw in _INCLUDE.findall(text):
            name = raw.decode("utf-8", "surrogateescape")
            if name in skip:
                continue
            for folder in [here, *path] if quote == b'"' else path:
                try:
                    candidate = os.path.realpath(os.path.join(folder, name))
                except ValueError:  # a NUL in the name
                    continue
                if candidate in seen:
                    break
                content = read_file(candidate)
                if content is None:
                    continue
                waiting.append((content, os.path.dirname(candidate)))
                seen.add(candidate)
                break
            else:
                missing.add(name)
    names = (frozenset(word.decode() for word in found) for found in (words, kfuncs))
    return Reached(frozenset(missing), next(names), tuple(sorted(seen)), next(names))
