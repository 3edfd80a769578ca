"""From the text of a program to C, and from the compiled object to one that speaks of the program's own names."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from bpf2py.errors import CompileError, SourceError
from bpf2py.lang.c_program import print_program
from bpf2py.lang.kernel_types import KernelTypes
from bpf2py.lang.python_names import names_of_python
from bpf2py.lang.rounds import check
from bpf2py.lang.source import Source, decoded

__all__ = ["CFLAGS", "Translated", "explained", "finish", "kernel_types", "to_c", "translated"]

# Integers wrap, memory has no types, and types of the kernel and the program may share bits: as the language says.
CFLAGS = (
    "-fwrapv", "-fno-strict-aliasing", "-w", "-Wno-incompatible-pointer-types", "-Wno-incompatible-function-pointer-types",
)  # fmt: skip

_types: KernelTypes | None = None


def kernel_types() -> KernelTypes:
    """The running kernel's types, read once in a process."""
    global _types
    if _types is None:
        _types = KernelTypes()
    return _types


class Translated(NamedTuple):
    """The C of a program, and what it was made of besides the program's own file.

    Attributes:
        text: the C.
        files: the files that it imports.
        absent: places where a file would have been imported instead.
        searched: whether `sys.path` was asked.
    """

    text: str
    files: list[str]
    absent: list[str]
    searched: bool


def translated(text: str | bytes, path: str | os.PathLike[str], *, directives: bool = True) -> Translated:
    """`to_c`, with the files that the result depends on."""
    try:
        source = Source(decoded(text, os.fspath(path)), os.fspath(path))
        module = check(source, kernel_types())
    except SourceError as error:
        raise error.with_traceback(None) from None  # the way through the checker says nothing about the program
    printed = print_program(source, module.program, module.kernel, module.macros, directives=directives)
    if module.kernel.btf is not None:
        module.kernel.btf.keep_mentions()
    imports = module.imports
    return Translated(printed, imports.files, imports.absent, imports.searched)


def to_c(text: str | bytes, path: str | os.PathLike[str], *, directives: bool = True) -> str:
    """The C of a program.

    Args:
        text: the program.
        path: its file, which messages and ``#line`` directives name, and beside which its imports are looked for.
        directives: with ``#line`` directives; otherwise the program's lines stand as comments.

    Raises:
        SourceError: it is not a program of the language.
    """
    return translated(text, path, directives=directives).text


def finish(data: bytes) -> bytes:
    """The compiled object with the program's own names."""
    return names_of_python(data)


# What the C compiler is the first to see, in words of the language.
_EXPLAINED = (
    (
        r"BPF stack limit|stack arguments are not supported|StackSize|stack size exceeds",
        "the variables of this function, and of those that are compiled into it, do not fit the stack of 512 bytes: keep large "
        "ones in a map, as in scratch = PerCpuArray[u32, Big](max_entries=1)",
    ),
    (
        r"too many a(rgs|rguments)|more than 5 arg",
        "this call has more than five arguments, which the kernel's functions cannot have",
    ),
)


def explained(error: CompileError, path: str) -> CompileError:
    """What the C compiler refused although the front end let it pass, as an error at the program's own line."""
    found = re.search(r"^(.+\.py):(\d+)(?::\d+)?: (?:fatal )?error: (.*)$", error.stderr, re.MULTILINE)
    path = found[1] if found is not None and os.path.isfile(found[1]) else path  # it may be of a file that is imported
    with open(path, encoding="utf-8", errors="replace") as file:
        source = Source(file.read(), path)
    known = next((text for pattern, text in _EXPLAINED if re.search(pattern, error.stderr)), None)
    what = found[3] if found is not None else next(iter(error.stderr.strip().splitlines()), "no message")
    try:
        source.fail_at(
            int(found[2]) if found is not None else 1,
            known
            or f"the compiler refuses what this becomes: {what}. The front end should have said so itself, and in Python's words: "
            "please report it, with the program",
        )
    except SourceError as refused:
        refused.stderr = error.stderr
        return refused
