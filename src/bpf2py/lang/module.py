"""A module: what a file of the program defines and imports, and what all files of the program share."""

from __future__ import annotations

import ast
import os
import re
from typing import Any

from bpf2py.lang.c_types import PREFIX
from bpf2py.lang.imports import Imports
from bpf2py.lang.kernel_types import KernelTypes
from bpf2py.lang.names import EnumType, Names
from bpf2py.lang.source import Source
from bpf2py.lang.tree import Expr, Function, Local
from bpf2py.lang.types import Struct, pointer_of

__all__ = ["Module"]

_INNER = re.compile(r"\W")


class Module(Names):
    """A file of the program.

    Attributes:
        own: what the file itself defines, of all its `names`.
        given: the kinds of pointers that reach the functions' parameters and results, as (probe, arena).
        imports: which files imports mean.
        imported_files: those that were read, by their real paths; each after those that it imports.
    """

    def __init__(self, source: Source, kernel: KernelTypes, importer: Module | None = None) -> None:
        super().__init__(source, kernel)
        self.own: dict[str, Any] = {}
        self.given: dict[tuple[str, str], set[tuple[bool, bool]]] = {}
        self.imports = Imports(source.path)
        self.imported_files: dict[str, Module] = {}
        self._taken: dict[str, Module] = {}  # names that the object has, and the files that define them
        if importer is not None:
            self.given, self.imports, self._taken = importer.given, importer.imports, importer._taken
            self.imported_files = importer.imported_files
            self.program, self.macros = importer.program, importer.macros

    def flows_into(self, function: Function, parameter: Local, value: Expr) -> None:
        """A call passes a value: pointers that the verifier vouches for stay so within the function."""
        own, wanted = pointer_of(value.type), pointer_of(parameter.type)
        if own is not None and wanted is not None:
            self.given.setdefault((function.name, parameter.name), set()).add((own.probe, own.arena))

    def files(self) -> list[Module]:
        """The files of the program, each after those that it imports."""
        known = self.imported_files.values()
        return [*known, *([] if self in known else [self])]

    def functions(self) -> list[Function]:
        """Those that the file itself defines."""
        return [each for each in self.own.values() if isinstance(each, Function)]

    def definitions(self) -> list[Any]:
        """What all files of the program define."""
        things = [thing for file in self.files() for thing in file.own.values()]
        return list({id(thing): thing for thing in things}.values())  # a type may have two names

    def define(self, name: str, thing: Any, node: ast.AST) -> None:
        """Give a name its meaning. Raises SourceError when it has one."""
        if name in self.names:
            self.source.fail(node, f"the module has a {name!r} already")
        if not name.isascii():
            self.source.fail(node, "names are ASCII here: the kernel takes no others")
        if name.startswith("__"):
            self.source.fail(node, "names that begin with two underscores are the compiler's")
        self.names[name] = self.own[name] = thing
        if getattr(thing, "name", "") == name and not (isinstance(thing, Struct) and thing.kernel):
            self._name(name, thing, node)

    def _name(self, name: str, thing: Any, node: ast.AST) -> None:
        """See that what is part of the object has a name of its own there."""
        other = self._taken.setdefault(name, self)
        if other is self:
            return
        if isinstance(thing, Struct | EnumType) or (
            isinstance(thing, Function) and thing.kind in ("inline", "subprogram")
        ):
            thing.name = f"{_INNER.sub('_', os.path.basename(self.source.path).removesuffix('.py'))}_{PREFIX}{name}"
            self._name(thing.name, thing, node)
            return
        self.source.fail(
            node,
            f"{other.source.path} defines {name!r}, too: maps, variables and programs have names of their own in an object",
        )

    def bind(self, name: str, thing: object, node: ast.AST) -> None:
        """Give an imported thing its name in this file. Raises SourceError when that means something else."""
        known = self.names.setdefault(name, thing)
        if known is not thing and not (isinstance(thing, int | bytes) and known == thing):
            self.source.fail(
                node, f"{name!r} has a meaning already: import it under another, as in import {name} as other_{name}"
            )
